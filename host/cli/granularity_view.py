"""Which widths a device runs fast, as found by earlier compressions and kept in the history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from host.cli import render

if TYPE_CHECKING:
    from rich.table import Table

    from device_agent.contract.device import DeviceInfo
    from host.results.store import ResultStore

#: Facts of the device that a stored answer belongs to; the rest of its key says under which settings it was asked.
_BOARD = ("board", "cpu", "architecture")


def known_granularity(store: ResultStore, info: DeviceInfo) -> list[dict[str, Any]]:
    """Return what is known of boards like `info`'s, as JSON values, an entry per environment.

    Each has the settings (`runtime runtime_version provider threads governor precision`) and `steps`: `kind role multiple decided
    over_next`, and `measured_at`.
    """
    mine = {name: getattr(info, name) for name in _BOARD}
    found: dict[str, dict[str, Any]] = {}
    for fact in store.list_device_facts("granularity "):
        try:
            environment = json.loads(fact.device_key)
        except ValueError:
            continue  # a key of another kind of fact
        if {name: environment.get(name) for name in _BOARD} != mine:
            continue
        entry = found.setdefault(
            fact.device_key,
            {**{key: value for key, value in environment.items() if key not in _BOARD}, "steps": []},
        )
        measured_at = fact.updated_at.isoformat(timespec="seconds")
        entry["steps"] += [{**step, "measured_at": measured_at} for step in fact.value["steps"]]
    return [found[key] for key in sorted(found)]


def granularity_table(entry: Mapping[str, Any]) -> Table:
    """Return one environment's answers; its settings are the title.

    Costs are latencies of widths that are multiples of 8, 4 or 2 only, or odd, over that of the next larger fast width.
    """
    provider = f", {entry['provider']}" if entry.get("provider") else ""
    threads = f"{entry['threads']} thread{'s' if entry['threads'] != 1 else ''}"
    governor = f", governor {entry['governor']}" if entry.get("governor") else ""
    title = f"fast widths with {entry['runtime']} {entry['runtime_version']}{provider}, {threads}, {entry['precision']}{governor}"
    columns = {8: "8 only", 4: "4 only", 2: "2 only", 1: "odd"}
    right = ("fast multiples", *columns.values())
    made = render.table("layers", "width", *right, "measured", right=right, title=title)
    for step in entry["steps"]:
        over = {int(divisor): cost for divisor, cost in step["over_next"].items() if int(divisor) < step["multiple"]}
        multiple = "any" if step["multiple"] == 1 else str(step["multiple"])
        multiple += "" if step["decided"] else " (noisy)"
        costs = [render.ratio_text(over.get(divisor)) for divisor in columns]
        render.add_row(made, step["kind"], step["role"], multiple, *costs, step["measured_at"][:10])
    return made
