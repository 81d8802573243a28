"""What the two drivers of the INA3221 on NVIDIA's boards share: the names of rails, which is the total, and where each leads.

The chip measures three rails. On some boards one of them feeds all others (NVIDIA's Jetson developer guides, "Power Monitor");
others have no such rail, and there the rails add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import numbered

KIND = "ina3221"
#: Fast enough for a run of some hundred milliseconds; a conversion takes longer on some boards, see update_interval.
INTERVAL_S = 0.05
#: Rails that feed every other one of the board: Jetson Nano and TX1 with JetPack 4, and the boards that call it VDD_IN.
TOTALS = frozenset({"POM_5V_IN", "VDD_IN"})
#: The label of an input that is not connected.
UNUSED = "NC"


def rail_channel(rail: str, source: str, seen: Counter[str]) -> Channel:
    """Return the power channel of a rail; `seen` counts the names that were given out."""
    return Channel(
        name=f"{KIND}.{numbered(rail, seen)}",
        quantity=Quantity.POWER,
        site="board" if rail in TOTALS else _site(rail),
        source=source,
        meter=KIND,
    )


def within_total(channels: Iterable[Channel]) -> list[Channel]:
    """Return the channels, each marked as part of the board's total where the board has one."""
    listed = list(channels)
    total = next((one.name for one in listed if one.name.removeprefix(f"{KIND}.") in TOTALS), None)
    if total is None:
        return listed
    return [one if one.name == total else replace(one, part_of=total) for one in listed]


def _site(rail: str) -> str:
    """A rail such as VDD_CPU_GPU_CV feeds several units; only one that feeds a single unit belongs to it."""
    words = set(rail.upper().split("_"))
    units = [unit for unit in ("CPU", "GPU") if unit in words]
    if len(units) == 1 and not words & {"CV", "SOC"}:
        return units[0].lower()
    return "soc" if units or words & {"SOC", "CV"} else "board"
