"""Quantities with units on the command line: 30ms, 0.5x, 40MB, 1%. Each raises click.BadParameter for what is none."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from host.compress.options import EnergyBudget, LatencyTarget

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-zµ%]*)\s*")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_JOULES = {"j": 1.0, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def latency_target(text: str) -> LatencyTarget:
    """Return `0.5x` as a share of the baseline's latency, `30ms` as a time."""
    from device_agent.contract.errors import InvalidRequest
    from host.compress.options import LatencyTarget

    number, unit = _split(text)
    try:
        if unit == "x":
            return LatencyTarget(ratio=number)
        if unit in _SECONDS:
            return LatencyTarget(latency_ns=number * _SECONDS[unit] * 1e9)
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from None
    raise click.BadParameter(f"{text!r} is neither a share of the baseline (0.5x) nor a time (30ms, 0.03s, 800us)")


def energy_budget(text: str) -> EnergyBudget:
    """Return `0.5x` as a share of the baseline's energy per run, `20mJ` as joules."""
    from device_agent.contract.errors import InvalidRequest
    from host.compress.options import EnergyBudget

    number, unit = _split(text)
    try:
        if unit == "x":
            return EnergyBudget(ratio=number)
        if unit in _JOULES:
            return EnergyBudget(joules=number * _JOULES[unit])
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from None
    raise click.BadParameter(f"{text!r} is neither a share of the baseline (0.5x) nor an energy per run (20mJ, 0.02J)")


def ratios(text: str) -> tuple[float, ...]:
    """Return `0.8x,0.6x` as shares of the baseline's, the x being optional."""
    found = []
    for each in text.split(","):
        number, unit = _split(each)
        if unit not in ("", "x") or not 0 < number <= 1:
            raise click.BadParameter(
                f"{each.strip()!r} in {text!r} is not a share of the baseline's latency such as 0.8x"
            )
        found.append(number)
    return tuple(found)


def heights(text: str | tuple[int, ...]) -> tuple[int, ...]:
    """Return `24,20` as pixels."""
    if not isinstance(text, str):  # a default
        return text
    if not all(each.strip().isdecimal() and int(each) > 0 for each in text.split(",")):
        raise click.BadParameter(f"{text!r} is not a list of heights in pixels such as 24,20")
    return tuple(int(each) for each in text.split(","))


def size_bytes(text: str) -> int:
    """Return `40MB` as 40,000,000 bytes, `40MiB` as 41,943,040; a bare number is bytes."""
    number, unit = _split(text)
    if (unit or "b") not in _BYTES:
        raise click.BadParameter(f"{text!r} is not a size such as 900kB, 2MB or 40MiB")
    return int(number * _BYTES[unit or "b"])


def fraction(text: str) -> float:
    """Return `1%` as 0.01; a bare number is the fraction itself."""
    number, unit = _split(text)
    value = number / 100 if unit == "%" else number
    if unit not in ("", "%") or not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is not a share such as 1% or 0.01")
    return value


def _split(text: str) -> tuple[float, str]:
    """Return number and lower-case unit; what is no quantity gets a unit that nobody knows."""
    match = _NUMBER.fullmatch(text)
    if match is None or not math.isfinite(float(match[1])):
        return 0.0, "?"
    return float(match[1]), match[2].lower()
