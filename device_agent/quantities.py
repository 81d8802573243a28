"""Texts of a command line to values in base units: 30s, 1%, 500M, 4-7, NAME=VALUE. InvalidRequest for what is none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from device_agent.contract.errors import InvalidRequest

_NUMBER = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([A-Za-zµ%]*)\s*")
_SECONDS = {
    "": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0, "m": 60.0, "h": 3600.0
}  # fmt: skip
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
#: Linux has no processor beyond this (CONFIG_NR_CPUS on x86-64 is 8192 at most).
_LAST_CPU = 8191


def duration_s(text: str) -> float:
    """Return `30s` as 30.0, `10min` as 600.0; a bare number is seconds."""
    number, unit = _split(text)
    if unit not in _SECONDS:
        raise InvalidRequest(f"{text!r} is not a duration such as 30s, 500ms or 10min")
    return number * _SECONDS[unit]


def size_bytes(text: str) -> int:
    """Return `500M` or `500MB` as 500,000,000 bytes, `2Gi` or `2GiB` as 2 * 2**30; a bare number is bytes."""
    number, unit = _split(text)
    unit = unit.removesuffix("b")
    if unit not in _BYTES or not 1 <= number * _BYTES[unit] < 2**63:
        raise InvalidRequest(f"{text!r} is not a size such as 900k, 500M or 2Gi")
    return int(number * _BYTES[unit])


def share(text: str) -> float:
    """Return `1%` as 0.01; a bare number is the share itself."""
    number, unit = _split(text)
    value = number / 100 if unit == "%" else number
    if unit not in ("", "%") or not 0 < value < 1:
        raise InvalidRequest(f"{text!r} is not a share between 0 and 1, such as 1% or 0.01")
    return value


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of a range."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip()):
            raise InvalidRequest(f"{text!r} is not a whole number")
        value = int(text)
        if value < least or (most is not None and value > most):
            raise InvalidRequest(f"{value} is not {f'{least} or more' if most is None else f'in {least}..{most}'}")
        return value

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise InvalidRequest(f"{text!r} is not one of {', '.join(words)}")
        return text

    return read


def processors(text: str) -> tuple[int, ...]:
    """Return `0,2-3` as (0, 2, 3)."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,20})(?:-([0-9]{1,20}))?\s*", part)
        if match is None:
            raise InvalidRequest(f"{text!r} is not a list of processor numbers such as 0,2-3")
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
        if not numbers or numbers[-1] > _LAST_CPU:
            raise InvalidRequest(f"{text!r}: a range goes from a lower processor number to a higher one, such as 2-3")
        found.extend(numbers)
    if len(set(found)) != len(found):
        raise InvalidRequest(f"{text!r} names a processor twice")
    return tuple(found)


def name_value(text: str) -> tuple[str, str]:
    """Return `device_id=1` as ("device_id", "1"). The value may be empty and may hold further signs of equality."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InvalidRequest(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), value


def _split(text: str) -> tuple[float, str]:
    """Return number and lower-case unit; what is no quantity gets a unit that nobody knows."""
    match = _NUMBER.fullmatch(text)
    if match is None or not math.isfinite(float(match[1])):
        return 0.0, "?"
    return float(match[1]), match[2].lower()
