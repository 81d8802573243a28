"""The cells, their order, and their files: one JSON per cell, written whole or not at all, never filled twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.files import write_whole

NET_NAMES = ("resnet20", "resnet56")
TARGETS = (0.5, 0.35, 0.7)
SEEDS = (0, 1, 2)
#: Raised when a figure of a cell's file changes its meaning; older files count as unfilled then.
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training of the comparison."""

    net: str
    target: float
    seed: int
    method: str

    @property
    def name(self) -> str:
        return f"{self.net}-{self.target:g}x-seed{self.seed}-{self.method}"


def cells(methods: Sequence[str]) -> Iterator[Cell]:
    """Yield all cells in the order in which they are filled.

    First both nets at 0.5x with the first seed, then with the second; then the other targets and the third seed, seed by seed.
    """
    first, *others = TARGETS
    blocks = [(net, first, seed) for seed in SEEDS[:2] for net in NET_NAMES]
    blocks += [(net, target, SEEDS[0]) for target in others for net in NET_NAMES]
    blocks += [(net, target, SEEDS[1]) for target in others for net in NET_NAMES]
    blocks += [(net, target, SEEDS[2]) for target in TARGETS for net in NET_NAMES]
    for net, target, seed in blocks:
        for method in methods:
            yield Cell(net=net, target=target, seed=seed, method=method)


class Results:
    """The folder of the cells' files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """Return what is known of the cell; None if it is unfilled."""
        try:
            found: dict[str, Any] = json.loads(self._path(cell).read_text())
        except FileNotFoundError:
            return None
        return found if found.get("schema") == SCHEMA else None

    def put(self, cell: Cell, value: Mapping[str, Any]) -> None:
        """Fill the cell."""
        document = {
            "schema": SCHEMA,
            "net": cell.net,
            "target": cell.target,
            "seed": cell.seed,
            "method": cell.method,
            **value,
        }
        write_whole(self._path(cell), (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())

    def forget(self, cell: Cell) -> None:
        """Make the cell unfilled; its file is kept beside it, for comparison."""
        path = self._path(cell)
        if path.exists():
            path.replace(path.with_suffix(".old"))

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"


def fill(
    wanted: Iterable[Cell],
    results: Results,
    run: Callable[[Cell], Mapping[str, Any]],
    *,
    minutes: float | None = None,
    clock: Callable[[], float],
) -> int:
    """Fill the unfilled of the `wanted` cells, and return how many were; stop after the cell in which `minutes` are up."""
    began, filled = clock(), 0
    for cell in wanted:
        if results.get(cell) is not None:
            continue
        if minutes is not None and clock() - began >= 60 * minutes:
            break
        results.put(cell, run(cell))
        filled += 1
    return filled
