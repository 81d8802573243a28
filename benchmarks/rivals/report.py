"""The table: every method's accuracy at its measured latency, and McNemar's verdict of ours against it, seed by seed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import rivals
from benchmarks.rivals.grid import NET_NAMES, SEEDS, TARGETS, Cell, Results
from benchmarks.rivals.mcnemar import mcnemar, unpack
from benchmarks.rivals.methods import METHODS, OURS
from benchmarks.rivals.subjects import NETS
from benchmarks.rivals.trial import BATCH, LEARNING_RATE
from benchmarks.table import Goal, Row
from host.compress.options import LEARNING_RATE as REFITTED_RATE

ABOUT = (rivals.__doc__ or "").strip()
SIGNIFICANT = 0.05
_NONE = "–"
_HEADS = (
    "method",
    "seeds",
    "accuracy",
    "latency",
    "of target",
    "ours against it",
    "p",
    "measured",
    "device s",
    "host s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Ours against one rival with one seed. `p` is None where the verdict is not by accuracy."""

    word: str
    p: float | None = None

    def __str__(self) -> str:
        return self.word


def met(cell: Mapping[str, Any] | None) -> bool:
    """Return whether a filled cell's method kept the target."""
    return cell is not None and cell["outcome"] == "filled" and cell["latency_ratio"]["ratio"] <= cell["target"]


def verdict(ours: Mapping[str, Any] | None, rival: Mapping[str, Any] | None) -> Verdict | None:
    """Return won, lost or tie; None while one of the cells is unfilled or the rival isn't installed.

    A target that a method misses is lost for it. Otherwise McNemar's test on the same test images decides at SIGNIFICANT.
    """
    if ours is None or rival is None or rival["outcome"] == "not installed":
        return None
    if not met(ours) or not met(rival):
        words = {(True, False): "won (missed)", (False, True): "lost (missed)", (False, False): "both missed"}
        return Verdict(word=words[met(ours), met(rival)])
    test = mcnemar(*(unpack(each["right"], each["test_images"]) for each in (ours, rival)))
    if test.p >= SIGNIFICANT:
        return Verdict(word="tie", p=test.p)
    return Verdict(word="won" if test.ours_only > test.theirs_only else "lost", p=test.p)


def beside_missed(ours: Mapping[str, Any] | None, rival: Mapping[str, Any] | None) -> float | None:
    """Return McNemar's p where both have answers, whoever missed the target."""
    if ours is None or rival is None or "right" not in ours or "right" not in rival:
        return None
    return mcnemar(*(unpack(each["right"], each["test_images"]) for each in (ours, rival))).p


class Report:
    """Reads the cells of `results`; baselines lie beside them in `state`."""

    def __init__(self, results: Results, state: Path) -> None:
        self._results, self._state = results, state

    def text(self) -> str:
        """Return the whole table."""
        parts = [ABOUT, ""]
        for net in NET_NAMES:
            for target in sorted(TARGETS, reverse=True):
                parts += self._block(net, target)
        return "\n".join([*parts, *self._footer()]) + "\n"

    def rows(self) -> list[Row]:
        """Return accuracies and latencies as rows, and ours minus the best rival with its goal."""
        rows = []
        for net in NET_NAMES:
            for target in sorted(TARGETS, reverse=True):
                title = f"{net} {target:g}x"
                for method in METHODS:
                    cells = self._filled(net, target, method)
                    answered = [cell for cell in cells.values() if "accuracy" in cell]
                    reasons = sorted({cell["reason"] for cell in cells.values() if "reason" in cell})
                    value = 100 * mean(cell["accuracy"] for cell in answered) if answered else None
                    why = "; ".join(reasons) if reasons else None if answered else "unfilled"
                    rows.append(
                        Row(metric=f"{title}: accuracy, {METHODS[method].title}", value=value, unit="%", reason=why)
                    )
                    if answered:
                        share = mean(cell["latency_ratio"]["ratio"] for cell in answered) / target
                        rows.append(
                            Row(
                                metric=f"{title}: latency of target, {METHODS[method].title}", value=share, unit="ratio"
                            )
                        )
                rows += self._margins(net, target)
        return rows

    def _margins(self, net: str, target: float) -> Iterator[Row]:
        goal = Goal(low=0.0)
        for seed in SEEDS:
            ours = self._cell(net, target, seed, OURS)
            rivals = [self._cell(net, target, seed, name) for name in METHODS if name != OURS]
            reached = [each for each in rivals if each is not None and met(each)]
            metric = f"{net} {target:g}x, seed {seed}: ours - best rival"
            if ours is None or not reached:
                yield Row(metric=metric, value=None, unit="points", goal=str(goal), reason="unfilled")
                continue
            best = max(reached, key=lambda each: each["accuracy"])
            value = 100 * (ours.get("accuracy", 0.0) - best["accuracy"])
            p = beside_missed(ours, best)
            tried = f"of {len(reached)} rivals at the target {METHODS[best['method']].title} is best; McNemar p {_p(p)}"
            yield Row(
                metric=metric, value=value, unit="points", goal=str(goal), met=met(ours) and value >= 0, reason=tried
            )

    def _block(self, net: str, target: float) -> list[str]:
        if not any(self._filled(net, target, name) for name in METHODS):
            return [f"{net} {target:g}x: unfilled", ""]
        lines = [[f"{net} {target:g}x", *_HEADS[1:]], self._baseline(net)]
        remarks = []
        ours = self._filled(net, target, OURS)
        for name in (OURS, *(each for each in METHODS if each != OURS)):
            cells = self._filled(net, target, name)
            lines.append(self._line(name, cells, ours))
            reasons = sorted({cell["reason"] for cell in cells.values() if "reason" in cell})
            remarks += [f"{METHODS[name].title}: {reason}" for reason in reasons]
            more = {
                seed: cell["images_seen"]
                for seed, cell in cells.items()
                if cell.get("images_seen", 0) > NETS[net].budget
            }
            remarks += [
                f"{METHODS[name].title}, seed {seed}: saw {seen} training images, more than the {NETS[net].budget} of the budget"
                for seed, seen in more.items()
            ]
        widths = [max(len(line[place]) for line in lines) for place in range(len(_HEADS))]
        drawn = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        drawn.insert(1, "  ".join("-" * width for width in widths))
        return [*drawn, *(f"    {remark}" for remark in remarks), ""]

    def _baseline(self, net: str) -> list[str]:
        path = self._state / f"{net}-baseline.json"
        accuracy = f"{100 * json.loads(path.read_text())['accuracy']:.2f} %" if path.exists() else _NONE
        return ["baseline", _NONE, accuracy, "1.000x", *[_NONE] * (len(_HEADS) - 4)]

    def _line(
        self, name: str, cells: Mapping[int, Mapping[str, Any]], ours: Mapping[int, Mapping[str, Any]]
    ) -> list[str]:
        title = METHODS[name].title
        if not cells:
            return [title, "unfilled", *[_NONE] * (len(_HEADS) - 2)]
        every = list(cells.values())
        answered = [cell for cell in every if "accuracy" in cell]
        worked = [cell for cell in every if cell["outcome"] != "not installed"]
        words, values = [_NONE], [_NONE]
        if name != OURS:
            words = [str(verdict(ours.get(seed), cell) or _NONE) for seed, cell in cells.items()]
            values = [_p(beside_missed(ours.get(seed), cell)) for seed, cell in cells.items()]
        ratio = _mean(answered, lambda cell: cell["latency_ratio"]["ratio"])
        target = every[0]["target"]
        share = _NONE if ratio is None else f"{ratio / target:.3f}"
        if every[0]["outcome"] == "not installed":
            share = "not installed"
        elif any(not met(cell) for cell in worked):
            share = f"{share} MISSED" if answered else "OUT OF REACH"
        return [
            title,
            ",".join(str(seed) for seed in cells),
            _shown(_mean(answered, lambda cell: 100 * cell["accuracy"]), ".2f", " %"),
            _shown(ratio, ".3f", "x"),
            share,
            ", ".join(words),
            ", ".join(values),
            _shown(_mean(worked, lambda cell: cell["measurements"]), ".0f"),
            _shown(_mean(worked, lambda cell: cell["device_s"]), ".0f"),
            _shown(_mean(worked, lambda cell: cell["host_s"]), ".0f"),
        ]

    def _footer(self) -> list[str]:
        tally = {"won": 0, "tie": 0, "lost": 0}
        found: dict[str, Any] | None = None
        for net in NET_NAMES:
            for target in TARGETS:
                for seed in SEEDS:
                    ours = self._cell(net, target, seed, OURS)
                    for name in METHODS:
                        cell = self._cell(net, target, seed, name)
                        found = cell if cell is not None and "environment" in cell else found
                        word = None if name == OURS else verdict(ours, cell)
                        if word is not None and word.word.split()[0] in tally:
                            tally[word.word.split()[0]] += 1
        budgets = "; ".join(
            f"{net.name} {net.budget} images ({net.epochs} passes over {net.tuning_images}, other ones for each seed), baseline "
            f"{net.baseline_images} images"
            for net in NETS.values()
        )
        lines = [
            f"ours against its rivals: {tally['won']} won, {tally['tie']} ties, {tally['lost']} lost, by McNemar's test (mid-p, "
            f"two-sided, {SIGNIFICANT:g}) on the same test images, one verdict per seed; a missed target counts as lost",
            f"fine-tuning, the same for all: {budgets}; SGD, cosine from {LEARNING_RATE:g} (ours, "
            f"whose weights are refitted first, from {REFITTED_RATE:g}), batches of {BATCH}, crops and flips, "
            "distillation from the baseline",
            "measured: candidates, layers and look-up entries timed on the device; host s: everything but the test images, "
            "training and waiting for the device included",
        ]
        if found is not None:
            place = found["environment"]
            lines.append(
                f"device: {place['cpu']}, {place['runtime']} {place['runtime_version']}, {place['threads']} thread; p50 of pairs"
            )
        return [line for each in lines for line in textwrap.wrap(each, 130, subsequent_indent="    ")]

    def _filled(self, net: str, target: float, method: str) -> dict[int, dict[str, Any]]:
        cells = {seed: self._cell(net, target, seed, method) for seed in SEEDS}
        return {seed: cell for seed, cell in cells.items() if cell is not None}

    def _cell(self, net: str, target: float, seed: int, method: str) -> dict[str, Any] | None:
        return self._results.get(Cell(net=net, target=target, seed=seed, method=method))


def _mean(cells: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]) -> float | None:
    return mean(value(cell) for cell in cells) if cells else None


def _shown(value: float | None, spec: str, unit: str = "") -> str:
    return _NONE if value is None else f"{value:{spec}}{unit}"


def _p(value: float | None) -> str:
    if value is None:
        return _NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"
