"""Click types for quantities with units: 30ms, 0.5x, 40MB, 1%."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from host.compress.options import LatencyTarget

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-zµ%]*)\s*")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _split(text: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError
    return float(match[1]), match[2]


class LatencyTargetType(click.ParamType):
    """`0.5x` of the baseline's latency, or a time such as `30ms`."""

    name = "latency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LatencyTarget:
        from device_agent.contract.errors import InvalidRequest
        from host.compress.options import LatencyTarget

        try:
            number, unit = _split(value)
            if unit.lower() == "x":
                return LatencyTarget(ratio=number)
            return LatencyTarget(latency_ns=number * _SECONDS[unit.lower()] * 1e9)
        except (ValueError, KeyError):
            self.fail(
                f"{value!r} is neither a share of the baseline (0.5x) nor a time (30ms, 0.03s, 800us)", param, ctx
            )
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)


class BytesType(click.ParamType):
    """`40MB` is 40,000,000 bytes, `40MiB` is 41,943,040."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            number, unit = _split(value)
            return int(number * _BYTES[(unit or "b").lower()])
        except (ValueError, KeyError):
            self.fail(f"{value!r} is not a size such as 900kB, 2MB or 40MiB", param, ctx)


class FractionType(click.ParamType):
    """`1%` is 0.01; a plain number is taken as the fraction itself."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            number, unit = _split(value)
        except ValueError:
            number, unit = -1.0, ""
        fraction = number / 100 if unit == "%" else number
        if unit not in ("", "%") or not 0 <= fraction <= 1:
            self.fail(f"{value!r} is not a share such as 1% or 0.01", param, ctx)
        return fraction
