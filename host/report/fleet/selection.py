"""Which results a report is about, as somebody asked for them, and the words for it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from sqlalchemy import func, select

from device_agent.contract.errors import InvalidRequest
from host.report.fleet.load import Wanted
from host.report.fleet.sweeps import sweep_facts
from host.results import models
from host.results.compare_sides import find_side, parse_side
from host.results.lines import LineFilter
from host.results.queue import StoreQueue
from host.results.store import ResultStore


class Names(Protocol):
    """Devices of the history under the names that they go by on this host."""

    @property
    def name(self) -> Callable[[str, str | None], str]:
        """Return the name of a device by its id and the name that was stored with a result."""
        ...

    def ids(self, store: ResultStore, selector: str) -> tuple[str, ...]:
        """Return the ids of the devices that a selector means."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A sweep by name or `#7`, devices by a selector, an artifact by name, file or hash, results since a date; None for all.

    `out` is where the page goes, for the command that makes it again; `shared` says that it is not the user's own history.
    """

    sweep: str | None = None
    device: str | None = None
    artifact: str | None = None
    since: str | None = None
    out: str | None = None
    shared: bool = False


def wanted_of(store: ResultStore, selection: Selection, names: Names) -> Wanted:
    """Return the filter and its words. Raises InvalidRequest, UnknownDevice, UnknownSweep, NotInHistory."""
    found = None
    if selection.sweep is not None:
        with StoreQueue(store) as queue:
            found = sweep_facts(queue, queue.find(selection.sweep))
    moment = None if selection.since is None else moment_of(selection.since)
    wanted = LineFilter(
        sweep_id=None if found is None else found.id,
        devices=None if selection.device is None else names.ids(store, selection.device),
        sha256=None if selection.artifact is None else _hashes(store, selection.artifact),
        since=moment,
    )
    words = ["All results"]
    words += [f"of {selection.artifact}"] if selection.artifact is not None else []
    words += [f"on {selection.device}"] if selection.device is not None else []
    words += ["in the history" if found is None else f"in the sweep {found.name} (#{found.id})"]
    words += [f"since {moment:%Y-%m-%d %H:%M} UTC"] if moment is not None else []
    options = [(f"--{name}", getattr(selection, name)) for name in ("sweep", "device", "artifact", "since", "out")]
    parts = ["host", "report", *(part for name, value in options if value is not None for part in (name, value))]
    return Wanted(
        filter=wanted,
        title=found.name if found is not None else selection.artifact or "Measurements",
        chosen=f"{' '.join(words)}.",
        # The URL of a shared history may hold a password, so the page does not repeat it.
        command=shlex.join(parts) + (" --store URL" if selection.shared else ""),
        name_of=names.name,
        sweep=found,
    )


def recent_artifacts(store: ResultStore, most: int = 100) -> tuple[str, ...]:
    """Return the names of the artifacts that were measured last. Raises HistoryUnavailable."""
    line = models.MeasuredArtifact
    newest = select(line.name, line.created_at).order_by(line.created_at.desc()).limit(2000).subquery()
    query = select(newest.c.name).group_by(newest.c.name).order_by(func.max(newest.c.created_at).desc()).limit(most)
    with store.reading() as session:
        return tuple(session.scalars(query))


def _hashes(store: ResultStore, artifact: str) -> tuple[str, ...]:
    found = find_side(store, parse_side(artifact)).wanted
    if found.sha256 is None:
        raise InvalidRequest(f"{artifact!r} names no artifact; give its name, its file, or the beginning of its sha256")
    return tuple(found.sha256)


def moment_of(text: str) -> datetime:
    """Return a date or a moment in UTC, such as 2026-11-20 or 2026-11-20T06:30. InvalidRequest for anything else."""
    try:
        found = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise InvalidRequest(f"{text!r} is no date; write 2026-11-20, or 2026-11-20T06:30 in UTC") from None
    return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found
