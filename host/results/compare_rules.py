"""Which differences of environment forbid a comparison, which are only told, and how people name them. The table is FIELDS."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import InputKind
from host.results.environment import Environment


class Weight(str, Enum):
    """What a difference means.

    SETTING: chosen by whoever measured; results are matched by it, and a history has a course for each value. STATE: of the
    device, and may change on its own; a comparison across it is refused, and a shift of a history is explained by it. REMARK:
    hardly moves a latency; told, and no more.
    """

    SETTING = "setting"
    STATE = "state"
    REMARK = "remark"


#: Every field of Environment: its weight, and its name for people.
FIELDS: Mapping[str, tuple[Weight, str]] = {
    "device_id": (Weight.SETTING, "device"),
    "runtime": (Weight.SETTING, "runtime"),
    "provider": (Weight.SETTING, "provider"),
    "threads": (Weight.SETTING, "threads"),
    "cpus": (Weight.SETTING, "pinned to"),
    "provider_options": (Weight.SETTING, "provider options"),
    "nice": (Weight.SETTING, "nice"),
    "batch": (Weight.SETTING, "batch"),
    "graph_optimization": (Weight.SETTING, "graph optimization"),
    "memory_arena": (Weight.SETTING, "memory arena"),
    "inputs": (Weight.SETTING, "inputs"),
    "inputs_sha256": (Weight.SETTING, "file of inputs"),
    "alone": (Weight.SETTING, "alone in its worker"),
    "soak": (Weight.SETTING, "soak"),
    "runtime_version": (Weight.STATE, "runtime's version"),
    "governor": (Weight.STATE, "governor"),
    "kernel": (Weight.STATE, "kernel"),
    "agent_version": (Weight.STATE, "agent's version"),
    "board": (Weight.STATE, "board"),
    "cpu": (Weight.STATE, "CPU"),
    "architecture": (Weight.STATE, "architecture"),
    "cores": (Weight.STATE, "cores"),
    # Distributions update without a new kernel, and what the kernel keeps of the memory varies with its version.
    "operating_system": (Weight.REMARK, "operating system"),
    "python": (Weight.REMARK, "Python"),
    "memory_bytes": (Weight.REMARK, "memory"),
}
_BOARD = ("board", "cpu", "architecture", "cores", "governor", "kernel", "agent_version")
#: What goes with a difference that is allowed: another device is another board as well.
_WITH: Mapping[str, tuple[str, ...]] = {
    "device": ("device_id", *_BOARD),
    "device_id": _BOARD,
    "runtime": ("runtime_version", "provider", "provider_options"),
}
RUNTIME = "runtime"


def allowed_fields(names: Collection[str]) -> frozenset[str]:
    """Return the fields that `--across` names, with what goes with them. InvalidRequest for a name that is none."""
    found: set[str] = set()
    for name in names:
        field = name.replace("-", "_")
        if field not in FIELDS and field not in _WITH:
            known = ", ".join(
                ("device", *(each for each, (weight, _) in FIELDS.items() if weight is not Weight.REMARK))
            )
            raise InvalidRequest(f"--across {name}: no such field; the fields are {known}")
        found |= {field, *_WITH.get(field, ())}
    return frozenset(found & set(FIELDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field in which two environments differ, and what it is in each."""

    field: str
    baseline: Any
    candidate: Any

    @property
    def text(self) -> str:
        """In words, such as `runtime's version 1.31.0 → 1.32.0`."""
        return f"{FIELDS[self.field][1]} {_value(self.baseline)} → {_value(self.candidate)}"


def differences(
    baseline: Environment, candidate: Environment, weights: Collection[Weight] = tuple(Weight)
) -> tuple[Difference, ...]:
    """Return the fields of these weights in which the two differ, in the order of FIELDS."""
    return tuple(
        Difference(field=field, baseline=getattr(baseline, field), candidate=getattr(candidate, field))
        for field, (weight, _) in FIELDS.items()
        if weight in weights and getattr(baseline, field) != getattr(candidate, field)
    )


def identity(environment: Environment, *, without: Collection[str] = ()) -> tuple[Any, ...]:
    """Return the fields that must be equal in a comparison, without those that may differ."""
    return tuple(
        getattr(environment, field)
        for field, (weight, _) in FIELDS.items()
        if weight is not Weight.REMARK and field not in without
    )


def settings(environment: Environment, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields that somebody chose, by name."""
    return {
        field: getattr(environment, field)
        for field, (weight, _) in FIELDS.items()
        if weight is Weight.SETTING and field not in without
    }


def setting_words(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return in words what was not left to the device, such as `batch 4`; `chosen` are settings by name, also as in a document.

    Runtime, provider and threads are no part of it: every result has them, and they are shown with each.
    """
    words = [f"{name}={value}" for name, value in chosen.get("provider_options") or ()]
    for name in ("cpu_group", "nice", "batch", "graph_optimization"):
        value = chosen.get(name)
        if value is not None:
            words.append(f"{name.replace('_', ' ')} {getattr(value, 'value', value)}")
    if chosen.get("memory_arena") is not None:
        words.append("memory arena" if chosen["memory_arena"] else "no memory arena")
    if chosen.get("cpus") is not None:
        words.append(f"cpus {','.join(map(str, chosen['cpus']))}")
    inputs = InputKind(chosen.get("inputs") or InputKind.RANDOM)
    if inputs is not InputKind.RANDOM:
        file = chosen.get("inputs_sha256")
        words.append(f"inputs {inputs.value}{f' {file[:8]}' if file else ''}")
    if chosen.get("soak"):
        words.append("soak")
    return tuple(words)


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value) or "none"
    return str(value)
