"""The sides of a comparison: `host compare A B` takes for each a text such as these, or several joined by commas.

net.onnx, build/net.onnx        an artifact: the name that it was measured under, or a file, whose content counts
sha256:3f2a91, 3f2a91c0         an artifact by the first digits of its hash
#31, measurement:31, #31:2      a measurement; of several models in turns the second one
sweep:nightly, sweep:#7         a sweep by name (the newest of it) or number; the bare name does too
2026-11-20, 2026-11-01..2026-11-20, before:2026-11-20, since:2026-11-20      days, in UTC, the last one included
runtime:onnxruntime@1.31        a runtime, and its version (1.31 means every 1.31.x)
threads:4                       a number of threads
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import select

from device_agent.contract.errors import InvalidRequest
from host.results import models
from host.results.lines import LineFilter
from host.results.store import NotInHistory, ResultStore

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?Z?)?")
_HASH = re.compile(r"[0-9a-f]{6,64}")
_NUMBER = re.compile(r"#(\d+)(?::(\d+))?")
_MODEL_SUFFIXES = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side asks for, as far as its text tells; `word` is a name that only the history knows the kind of.

    `place` counts the artifacts of a measurement from 1. `until` is not included.
    """

    text: str
    word: str | None = None
    sha256: str | None = None
    measurement: int | None = None
    place: int | None = None
    sweep: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    runtime: str | None = None
    runtime_version: str | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSide:
    """A side that the history has. `artifact` says whether it names one model (else it may hold many), `path` is its file."""

    side: Side
    wanted: LineFilter
    artifact: bool
    path: Path | None = None


def parse_side(text: str) -> Side:
    """Return what the text asks for. InvalidRequest where its parts are malformed or contradict one another."""
    side = Side(text=text)
    for part in (part.strip() for part in text.split(",")):
        if not part:
            raise InvalidRequest(f"{text!r} has an empty part; write for example net.onnx,before:2026-11-20")
        for field, value in _parsed(part).items():
            if getattr(side, field) is not None:
                raise InvalidRequest(f"{text!r} says twice what {field.replace('_', ' ')} is meant")
            side = replace(side, **{field: value})
    if side.since is not None and side.until is not None and side.since >= side.until:
        raise InvalidRequest(f"{text!r} ends before it begins")
    return side


def find_side(store: ResultStore, side: Side) -> FoundSide:
    """Look up what the side names. NotInHistory, with what is similar; InvalidRequest for a hash of several artifacts."""
    wanted = LineFilter(
        since=side.since,
        until=side.until,
        runtime=side.runtime,
        runtime_version=side.runtime_version,
        threads=side.threads,
    )
    artifact, path = side.measurement is not None, None
    if side.measurement is not None:
        wanted = replace(wanted, measurements=(side.measurement,))
    sweep = side.sweep
    if side.word is not None:
        path = _file(side.word)
        found = (file_sha256(path),) if path is not None else _by_name(store, side.word)
        if not found and path is None and _HASH.fullmatch(side.word):
            found = _by_hash(store, side.word)
        if found:
            wanted, artifact = replace(wanted, sha256=found), True
        elif _sweep(store, side.word) is not None:
            sweep = side.word
        else:
            raise NotInHistory(_unknown(store, side.word))
    if side.sha256 is not None:
        hashes = _by_hash(store, side.sha256)
        if not hashes:
            raise NotInHistory(f"the history has no artifact whose sha256 begins with {side.sha256}")
        wanted, artifact = replace(wanted, sha256=hashes), True
    if sweep is not None:
        number = _sweep(store, sweep)
        if number is None:
            raise NotInHistory(f"the history has no sweep {sweep}; `host sweep --list` shows those that it has")
        wanted = replace(wanted, sweep_id=number)
    return FoundSide(side=side, wanted=wanted, artifact=artifact, path=path)


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def artifacts_named(store: ResultStore, name: str) -> tuple[str, ...]:
    """Return the hashes of all artifacts that were last measured under this name, with or without its suffix."""
    names = (name, *(f"{name}{suffix}" for suffix in _MODEL_SUFFIXES))
    with store.reading() as session:
        return tuple(session.scalars(select(models.Artifact.sha256).where(models.Artifact.name.in_(names))))


def _parsed(part: str) -> dict[str, Any]:
    """Return the fields that one part sets."""
    if number := _NUMBER.fullmatch(part):
        return {"measurement": int(number[1])} | ({"place": int(number[2])} if number[2] else {})
    if ".." in part and _DAY.fullmatch(part.split("..")[0]):
        first, _, last = part.partition("..")
        return {"since": _moment(first), "until": _moment(last, end=True)}
    if _DAY.fullmatch(part):
        return {"since": _moment(part), "until": _moment(part, end=True)}
    kind, colon, rest = part.partition(":")
    if not colon or kind not in _KINDS:
        return {"word": part}
    if not rest:
        raise InvalidRequest(f"{part!r} lacks a value after the colon")
    return _KINDS[kind](rest)


def _measurement(text: str) -> dict[str, Any]:
    found = _NUMBER.fullmatch(f"#{text.removeprefix('#')}")
    if found is None:
        raise InvalidRequest(f"measurement:{text}: give its number, such as measurement:31")
    return _parsed(found[0])


def _hash(text: str) -> dict[str, Any]:
    if not re.fullmatch(r"[0-9a-f]{4,64}", text):
        raise InvalidRequest(f"sha256:{text}: give the first digits of the hash, at least four, such as sha256:3f2a91")
    return {"sha256": text}


def _runtime(text: str) -> dict[str, Any]:
    name, at, version = text.partition("@")
    if not name or (at and not version):
        raise InvalidRequest(f"runtime:{text}: write runtime:NAME or runtime:NAME@VERSION, such as onnxruntime@1.31")
    return {"runtime": name} | ({"runtime_version": version} if at else {})


def _threads(text: str) -> dict[str, Any]:
    if not text.isdigit() or int(text) < 1:
        raise InvalidRequest(f"threads:{text}: give a number of threads")
    return {"threads": int(text)}


_KINDS = {
    "measurement": _measurement,
    "sha256": _hash,
    "artifact": lambda text: {"word": text},
    "sweep": lambda text: {"sweep": text},
    "before": lambda text: {"until": _moment(text)},
    "since": lambda text: {"since": _moment(text)},
    "runtime": _runtime,
    "threads": _threads,
}


def _moment(text: str, *, end: bool = False) -> datetime:
    """Return the begin of a day, or of the next one, or the moment where the text has a time."""
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        found = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=timezone.utc)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no date; write 2026-11-20, or 2026-11-20T06:30 in UTC") from None
    return found + timedelta(days=1) if end and "T" not in text else found


def _file(word: str) -> Path | None:
    path = Path(word)
    if path.suffix.lower() in _MODEL_SUFFIXES and path.is_file():
        return path
    if "/" in word:
        raise InvalidRequest(f"there is no model file {word} (looked in {Path.cwd()})")
    return None


def _by_name(store: ResultStore, name: str) -> tuple[str, ...]:
    return artifacts_named(store, name)


def _by_hash(store: ResultStore, digits: str) -> tuple[str, ...]:
    """Return the artifact whose hash begins so, none if there is none. InvalidRequest if there are several."""
    with store.reading() as session:
        found = session.execute(
            select(models.Artifact.sha256, models.Artifact.name)
            .where(models.Artifact.sha256 >= digits, models.Artifact.sha256 < digits + "g")
            .limit(5)
        ).all()
    if len(found) > 1:
        names = ", ".join(f"{row.sha256[:12]} ({row.name})" for row in found)
        raise InvalidRequest(f"several artifacts begin with {digits}: {names}; give more digits")
    return tuple(row.sha256 for row in found)


def _sweep(store: ResultStore, name: str) -> int | None:
    number = _NUMBER.fullmatch(name)
    query = select(models.Sweep.id).order_by(models.Sweep.id.desc()).limit(1)
    query = query.where(models.Sweep.id == int(number[1]) if number else models.Sweep.name == name)
    with store.reading() as session:
        return session.scalars(query).one_or_none()


def _unknown(store: ResultStore, word: str) -> str:
    with store.reading() as session:
        names = sorted(set(session.scalars(select(models.Artifact.name).distinct().limit(10_000))))
    similar = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    hint = f"; similar: {', '.join(similar)}" if similar else ""
    return (
        f"the history has no artifact and no sweep called {word!r}{hint}. Measure it with `host bench {word} --device NAME`, or "
        "both in turns with `host compare A B --measure --device NAME`"
    )


def implied_differences(baseline: Side, candidate: Side) -> Sequence[str]:
    """Return the fields that the sides themselves say differ: comparing two runtimes, the runtime is the comparison."""
    fields = []
    if (baseline.runtime, baseline.runtime_version) != (candidate.runtime, candidate.runtime_version) and (
        baseline.runtime and candidate.runtime
    ):
        fields.append("runtime")
    if baseline.threads != candidate.threads and baseline.threads and candidate.threads:
        fields.append("threads")
    return fields
