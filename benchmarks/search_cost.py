"""What finding a plan costs: the board's time, measurements, planning, and the host's overhead. Runs no training itself.

Compares: `host compress` with NetAdapt and the HALP-style knapsack, on ResNet-56 at half of the measured latency; the figures are
    in the cells that `python -m benchmarks.rivals` has filled (all seeds that are, their median).
On: whatever that ran on. Device time is what the agent says that its workers took; a look-up table is charged to each method.
Fair because: all measure on the same agent and through the same code. NetAdapt judges its proposals with less training than in
    its paper, so that its time on the host is a lower bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rivals.grid import SEEDS, Cell, Results
from benchmarks.rivals.place import state_folder
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged

NET, TARGET = "resnet56", 0.5
TITLES = {"ours": "host compress", "netadapt": "NetAdapt", "halp": "HALP-style knapsack"}


def rows_of(cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """Return the rows from the filled cells of each method in TITLES; a method without one gets a row that says so."""
    rows = []
    for method, title in TITLES.items():
        filled = [cell for cell in cells.get(method, ()) if cell["outcome"] == "filled"]
        if not filled:
            rows.append(Row(metric=f"{title}: device time", value=None, unit="s", reason="no filled cell yet"))
            continue
        device_s = median(cell["device_s"] for cell in filled)
        goal = Goal(below=180.0)
        metric = f"{title}: device time"
        rows.append(
            judged(metric, device_s, "s", goal) if method == "ours" else Row(metric=metric, value=device_s, unit="s")
        )
        count = median(cell["measurements"] for cell in filled)
        rows.append(Row(metric=f"{title}: measurements", value=count, unit=""))
        if method == "netadapt":
            judged_nets = median(cell["notes"]["proposals"] for cell in filled)
            rows.append(Row(metric=f"{title}: proposals judged", value=judged_nets, unit=""))
        if method == "ours":
            rows += _ours(filled)
        else:
            host_s = median(cell["search_s"] - cell["measuring_s"] for cell in filled)
            rows.append(Row(metric=f"{title}: search on the host, without measuring", value=host_s, unit="s"))
    return rows


def _ours(cells: Sequence[Mapping[str, Any]]) -> list[Row]:
    times = [cell["notes"]["record"]["times"] for cell in cells]
    overheads = [
        (each["seconds"] - each["training_seconds"] - each["device_seconds"]) / each["seconds"] for each in times
    ]
    planning, solved = (median(cell["notes"][name] for cell in cells) for name in ("planning_s", "plans_solved"))
    return [
        judged(
            f"host compress: planning, {solved:g} solutions of its integer program", planning, "s", Goal(below=10.0)
        ),
        judged(
            "host compress: overhead outside training and measuring", 100 * median(overheads), "%", Goal(below=20.0)
        ),
        Row(metric="host compress: whole run", value=median(each["seconds"] for each in times), unit="s"),
    ]


def measure(state: Path) -> list[Row]:
    """Read the cells in `state`. Raises CannotMeasure if there are none."""
    results = Results(state / "cells")
    found: dict[str, list[dict[str, Any]]] = {}
    for method in TITLES:
        cells = (results.get(Cell(net=NET, target=TARGET, seed=seed, method=method)) for seed in SEEDS)
        found[method] = [cell for cell in cells if cell is not None]
    if not any(found.values()):
        raise CannotMeasure(
            f"no cell of {NET} at {TARGET:g}x in {state}; run python -m benchmarks.rivals --only {NET}-0.5x"
        )
    return rows_of(found)


def main() -> int:
    """Print the table; `--state` says where the cells are, the rest is as in every benchmark."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--state", type=Path, default=None)
    options, rest = parser.parse_known_args()
    state = options.state or state_folder()
    return Benchmark(name="search_cost", about=__doc__ or "", measure=lambda _: measure(state)).main(rest)


if __name__ == "__main__":
    sys.exit(main())
