"""From what a sweep asks for to its jobs: which combinations there are, under which keys, and in which order. Pure."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from device_agent.bench_options import option_words
from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import InvalidRequest
from device_agent.runtime_choice import RUNTIMES
from host.sweep.environment import differing_facts
from host.sweep.job import NewJob, SweepArtifact
from host.sweep.options import options_from_json
from host.sweep.spec import Rule, SweepSpec

LOCAL = "local"


class EmptySweep(InvalidRequest):
    """The file leaves no job to be done; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDevice:
    """A device of a sweep. `info` is what it says of itself, None where it was not reached."""

    name: str
    profile: str | None = None
    tags: tuple[str, ...] = ()
    info: DeviceInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Jobs in order of their positions, and remarks for whoever reads the plan."""

    jobs: tuple[NewJob, ...]
    notes: tuple[str, ...]


def expand(
    spec: SweepSpec, artifacts: Sequence[SweepArtifact], devices: Sequence[SweepDevice], *, seed: int
) -> Expansion:
    """Return the jobs. The same arguments give the same jobs. Raises EmptySweep, and InvalidRequest for options that clash.

    Each device has an order of its own, which other devices do not change: round after round over its combinations, every round
    shuffled, so that the repeats of a combination lie apart and drift hits all alike. Positions take the devices in turns.
    """
    notes: list[str] = []
    _check_includes(spec, artifacts, devices)
    impossible: Counter[str] = Counter()
    used: set[int] = set()
    orders: list[list[NewJob]] = []
    for device in devices:
        wanted = [
            (artifact, options)
            for artifact in artifacts
            for options in _combinations(spec, artifact, device, used)
            if not _cannot_be(artifact, options, device, impossible)
        ]
        movable = tuple(other.name for other in devices if are_equal(device, other))
        orders.append(_in_order(wanted, device.name, spec.repeats, seed, movable))
    notes += [
        f"{count} {'combination is' if count == 1 else 'combinations are'} left out: {why}"
        for why, count in sorted(impossible.items())
    ]
    for number, rule in enumerate(spec.excludes):
        if number not in used:
            notes.append(f"[[exclude]] number {number + 1} ({_rule_text(rule)}) matches nothing")
    turns = itertools.chain.from_iterable(itertools.zip_longest(*orders))
    jobs = tuple(
        replace(job, position=position) for position, job in enumerate(job for job in turns if job is not None)
    )
    if not jobs:
        why = "; ".join(notes) or "no artifact, device and setting go together"
        raise EmptySweep(f"the sweep {spec.name} has no jobs: {why}")
    return Expansion(jobs=jobs, notes=tuple(notes))


def job_key(sha256: str, device: str, options: Mapping[str, Any], repeat: int) -> str:
    """Return the name of a job within its sweep; it depends on nothing else."""
    text = json.dumps([sha256, device, dict(options), repeat], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def are_equal(a: SweepDevice, b: SweepDevice) -> bool:
    """Say whether a job of one device may be done by the other: of one profile and, where both are known, equal in all facts."""
    if a.name == b.name or LOCAL in (a.name, b.name) or a.profile is None or a.profile != b.profile:
        return False
    return a.info is None or b.info is None or not differing_facts(a.info, b.info)


def matches_device(pattern: str, device: SweepDevice) -> bool:
    """Say whether a device is meant by parts joined by commas: NAME with * and ?, tag:TAG, profile:PROFILE; `!` excludes."""
    parts = [part.strip() for part in pattern.split(",")]
    wanted = [part for part in parts if not part.startswith("!")] or ["*"]
    unwanted = [part[1:].strip() for part in parts if part.startswith("!")]
    return any(_is(part, device) for part in wanted) and not any(_is(part, device) for part in unwanted)


def _is(part: str, device: SweepDevice) -> bool:
    if part.startswith("tag:"):
        return part.removeprefix("tag:") in device.tags
    if part.startswith("profile:"):
        return device.profile is not None and fnmatchcase(device.profile, part.removeprefix("profile:"))
    return part == "all" or fnmatchcase(device.name, part)


def _matches(rule: Rule, artifact: SweepArtifact, device: SweepDevice) -> bool:
    if rule.artifact is not None and not _is_artifact(rule.artifact, artifact):
        return False
    return rule.device is None or matches_device(rule.device, device)


def _is_artifact(pattern: str, artifact: SweepArtifact) -> bool:
    """Match the name, with or without its ending, or the end of the path."""
    names = (artifact.name, artifact.name.rpartition(".")[0], artifact.path.name)
    return any(fnmatchcase(name, pattern) for name in names) or artifact.path.match(pattern)


def _check_includes(spec: SweepSpec, artifacts: Sequence[SweepArtifact], devices: Sequence[SweepDevice]) -> None:
    for number, rule in enumerate(spec.includes):
        if not any(_matches(rule, artifact, device) for artifact in artifacts for device in devices):
            raise InvalidRequest(
                f"[[include]] number {number + 1} ({_rule_text(rule)}) of the sweep {spec.name} matches no artifact and device; "
                f"artifacts: {', '.join(artifact.name for artifact in artifacts[:12])}; "
                f"devices: {', '.join(device.name for device in devices[:12])}"
            )


def _combinations(
    spec: SweepSpec, artifact: SweepArtifact, device: SweepDevice, used: set[int]
) -> list[dict[str, Any]]:
    """Return the options of each combination: the matrix without what is excluded, then what is included; each once."""
    found: list[dict[str, Any]] = []
    for choice in _product(spec.matrix):
        options = {**spec.settings, **choice}
        out = [
            number
            for number, rule in enumerate(spec.excludes)
            if _matches(rule, artifact, device) and _has(options, rule.settings)
        ]
        used.update(out)
        if not out:
            found.append(options)
    for rule in spec.includes:
        if _matches(rule, artifact, device):
            found += [{**spec.settings, **choice} for choice in _product(rule.settings)]
    return [options for place, options in enumerate(found) if options not in found[:place]]


def _product(values: Mapping[str, tuple[Any, ...]]) -> Iterable[dict[str, Any]]:
    return (dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values()))


def _has(options: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(options.get(name) in values for name, values in wanted.items())


def _cannot_be(
    artifact: SweepArtifact, options: Mapping[str, Any], device: SweepDevice, impossible: Counter[str]
) -> bool:
    """Say whether no runtime could do this, and count why. Options that clash on any file are the file's mistake and raise."""
    try:
        options_from_json(options)
    except InvalidRequest as error:
        raise InvalidRequest(f"{artifact.name} with {options_text(options)}: {option_words(str(error))}") from None
    runtime = options.get("runtime")
    format_ = ArtifactFormat.of_suffix(artifact.path.suffix)
    if runtime is None:
        return False
    own = None if device.info is None else device.info.runtime(runtime)
    if runtime in RUNTIMES.get(format_, ()) or (own is not None and format_ in own.formats):
        return False
    if own is None and all(runtime not in names for names in RUNTIMES.values()):
        return False  # it may be one that was added to the device
    impossible[f"{runtime} does not load .{format_.value} files"] += 1
    return True


def _in_order(
    wanted: list[tuple[SweepArtifact, dict[str, Any]]], device: str, repeats: int, seed: int, movable: tuple[str, ...]
) -> list[NewJob]:
    order: list[NewJob] = []
    last: tuple[SweepArtifact, dict[str, Any]] | None = None
    for repeat in range(repeats):
        turn = list(wanted)
        random.Random(f"{seed}/{device}/{repeat}").shuffle(turn)
        if len(turn) > 1 and turn[0] == last:
            turn[0], turn[-1] = turn[-1], turn[0]
        for artifact, options in turn:
            order.append(
                NewJob(
                    key=job_key(artifact.sha256, device, options, repeat),
                    position=0,
                    artifact=artifact,
                    device=device,
                    options=options,
                    repeat=repeat,
                    movable_to=movable,
                )
            )
        last = turn[-1] if turn else None
    return order


def options_text(options: Mapping[str, Any]) -> str:
    """Return options as a command line has them, `defaults` for none."""
    words = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif name == "provider_option":
            words += [f"{flag} {key}={each}" for key, each in value]
        else:
            shown = (
                ",".join(map(str, value))
                if isinstance(value, list | tuple)
                else f"{value:g}"
                if isinstance(value, float)
                else value
            )
            words.append(f"{flag} {shown}")
    return " ".join(words) or "defaults"


def _rule_text(rule: Rule) -> str:
    parts = [f"{what} {pattern}" for what, pattern in (("artifact", rule.artifact), ("device", rule.device)) if pattern]
    parts += [f"{name.replace('_', '-')} {', '.join(map(str, values))}" for name, values in rule.settings.items()]
    return ", ".join(parts)
