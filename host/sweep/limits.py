"""What a sweep may take: time per job, attempts, devices at once, and how cool a device has to be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from device_agent.contract.errors import InvalidRequest
from device_agent.quantities import duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown:
    """When a device is cool enough for its next job: at `below_c`, or, with None, back at what it had before its first job.

    After `limit_s` the job begins all the same.
    """

    below_c: float | None
    limit_s: float

    def __post_init__(self) -> None:
        if self.below_c is not None and not 0 < self.below_c < 150:
            raise InvalidRequest(
                f"{self.below_c:g}C is no temperature that a device cools down to; 20C to 90C are usual"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The table [limits] of a sweep's file. Times in seconds.

    `per_job_s` ends a measurement that has no --timeout of its own; None leaves it to the agent. `attempts` counts how often a
    job is begun at most. A device that is away for longer than `wait_s` is given up when nothing else is left to do; with `move`
    its jobs go to an equal one before.
    """

    per_job_s: float | None = None
    attempts: int = 4
    devices_at_once: int = 200
    cool_down: CoolDown | None = None
    wait_s: float = 900.0
    move: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise InvalidRequest(f"attempts = {self.attempts} is not in 1..100")
        if not 1 <= self.devices_at_once <= 1000:
            raise InvalidRequest(f"devices-at-once = {self.devices_at_once} is not in 1..1000")
        if self.per_job_s is not None and self.per_job_s <= 0:
            raise InvalidRequest("per-job must be longer than nothing")


#: The keys of [limits], in the order of the documentation.
KEYS = ("per-job", "attempts", "devices-at-once", "cool-down", "cool-down-limit", "wait-for-device", "move")
_COOL_DOWN_LIMIT_S = 300.0
_CELSIUS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*°?C?\s*", re.IGNORECASE)


def limits_of(table: dict[str, Any]) -> Limits:
    """Return the limits of a table whose keys are known ones. InvalidRequest, beginning with the key, for a wrong value."""
    given: dict[str, Any] = {}
    if "per-job" in table:
        given["per_job_s"] = _time(table, "per-job")
    if "wait-for-device" in table:
        given["wait_s"] = _time(table, "wait-for-device")
    for key in ("attempts", "devices-at-once"):
        if key in table:
            if not isinstance(table[key], int) or isinstance(table[key], bool):
                raise InvalidRequest(f"{key} = {table[key]!r} is not a whole number")
            given[key.replace("-", "_")] = table[key]
    if "move" in table:
        if not isinstance(table["move"], bool):
            raise InvalidRequest(f"move = {table['move']!r} is neither true nor false")
        given["move"] = table["move"]
    if "cool-down" in table:
        limit_s = _time(table, "cool-down-limit") if "cool-down-limit" in table else _COOL_DOWN_LIMIT_S
        given["cool_down"] = CoolDown(below_c=_temperature(table["cool-down"]), limit_s=limit_s)
    elif "cool-down-limit" in table:
        raise InvalidRequest("cool-down-limit has no effect without cool-down")
    return Limits(**given)


def _time(table: dict[str, Any], key: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidRequest(f'{key} = {value!r} is not a time such as "10min"')
    try:
        return duration_s(str(value))
    except InvalidRequest as error:
        raise InvalidRequest(f"{key}: {error}") from None


def _temperature(value: Any) -> float | None:
    if value == "back":
        return None
    match = None if isinstance(value, bool) else _CELSIUS.fullmatch(str(value))
    if match is None:
        raise InvalidRequest(f'cool-down = {value!r} is neither "back" nor a temperature such as "55C"')
    return float(match[1])
