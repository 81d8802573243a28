"""What a compression has already done, so that a run that was stopped goes on where it was and repeats no measurement."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from device_agent.contract.errors import InvalidRequest
from host.files import cannot_write

#: Characters of an option's value in a message.
SHOWN = 40


class JournalMismatch(InvalidRequest):
    """The folder holds a run with other options."""

    def __init__(self, folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        names = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        said = ", ".join(f"{name} ({_short(found.get(name))} there, {_short(wanted.get(name))} now)" for name in names)
        super().__init__(
            f"{folder} holds a compression with other options: {said}. Give the same as there to go on with it, name another "
            "--out, or remove the folder"
        )


class Journal:
    """Finished steps by key in `journal.jsonl`, each a JSON value; a line counts once it is complete and synced.

    The first line holds the options. A folder with other options is refused, since its steps answer other questions.
    Raises JournalMismatch, CannotWrite.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self._path = folder / "journal.jsonl"
        self._steps: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = self._read()
        except OSError as error:
            raise cannot_write(folder, error) from error
        wanted = json.loads(json.dumps(dict(options)))
        if found is None:
            self._append({"options": wanted})
        elif found != wanted:
            raise JournalMismatch(folder, found, wanted)

    def once(self, key: str, step: Callable[[], Any]) -> Any:
        """Return the recorded value of `key`, or run `step`, record its JSON value and return that."""
        if key not in self._steps:
            value = json.loads(json.dumps(step()))
            self._append({"key": key, "value": value})
            self._steps[key] = value
        return self._steps[key]

    def __contains__(self, key: str) -> bool:
        return key in self._steps

    def _read(self) -> dict[str, Any] | None:
        """Load complete lines and cut off a torn last one; return the options, None for a new journal."""
        if not self._path.exists():
            return None
        options: dict[str, Any] | None = None
        complete = 0
        data = self._path.read_bytes()
        for line in data.splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None:
                break
            complete += len(line)
            if "options" in entry:
                options = entry["options"]
            else:
                self._steps[entry["key"]] = entry["value"]
        if complete < len(data):
            os.truncate(self._path, complete)
        return options

    def _append(self, entry: Mapping[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error


def _short(value: Any) -> str:
    """Return an option's value in a few words; of several, those that are set."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_short(each)}" for key, each in value.items() if each is not None) or "nothing"
    text = "nothing" if value in (None, [], "") else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
