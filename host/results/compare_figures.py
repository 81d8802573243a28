"""From matched results to changes of every metric: latencies, peak memory, energy, size and accuracy."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Text, cast, select

from device_agent.contract.disturbance import steadiest
from device_agent.contract.measurement import Measurement
from device_agent.contract.paired_tails import paired_percentile_ratio
from device_agent.contract.pairs import PairedRatio, paired_ratio
from device_agent.contract.statistics import median_interval, normal_quantile, percentile
from host.results import models
from host.results.compare import Change, Figure, Method, Repeats, exact, paired, repeats_of, two_sample
from host.results.compare_match import Match, entries_of
from host.results.compare_rules import identity
from host.results.lines import LineFilter, ResultLine, list_lines
from host.results.store import ResultStore

METRICS = ("p50", "p90", "p99", "peak_memory", "energy", "size", "accuracy")
PERCENTS = {"p50": 50, "p90": 90, "p99": 99}
#: With fewer degrees of freedom than this, samples are read and the device's other repeats are asked.
ENOUGH_FREEDOM = 10
#: Measurements of a side whose samples are read for what they know of their own scatter.
READ = 2
#: Lines of the device that are looked through for repeats of other artifacts.
REPEAT_LINES = 80
#: Compressions that are looked through for a model, the newest.
COMPRESSIONS = 200
#: A section's own percentile needs so many runs beyond it; more sections than this only make them short (see paired_tails).
_BEYOND, _SECTIONS, _FEWEST_SECTIONS = 2, 10, 5
#: File sizes and accuracies of the files of one side.
Facts = Mapping[str, float]


class Figures:
    """Reads what matches need, each measurement and each device's repeats once. `confidence` is that of every interval.

    With `sparing` samples are read only where nothing else tells of a measurement's error: for many matches.
    """

    def __init__(self, store: ResultStore, *, confidence: float, sparing: bool = False) -> None:
        self._sparing = sparing
        self._store = store
        self._confidence = confidence
        self._measurements: dict[int, Measurement] = {}
        self._repeats: dict[tuple[str, str, int], tuple[tuple[Any, ResultLine], ...]] = {}

    def changes(self, match: Match) -> dict[str, Change]:
        """Return the changes of the metrics that both sides have."""
        sides = [[each.line for each in side] for side in (match.baseline, match.candidate)]
        quiet = all(line.undisturbed_p50_ns is not None for side in sides for line in side)
        found: dict[str, Change] = {}
        for metric, value_of in _values(quiet, sides).items():
            change = self._change(match, metric, value_of)
            if change is not None:
                found[metric] = change
        return found

    def _change(self, match: Match, metric: str, value_of: Callable[[ResultLine], float | None]) -> Change | None:
        sides = [
            [(each, value) for each in side if (value := value_of(each.line)) is not None and value > 0]
            for side in (match.baseline, match.candidate)
        ]
        if not all(sides):
            return None
        percent = PERCENTS.get(metric)
        if percent is not None and match.pairs:
            ratios = [(self._ratio(pair[0], percent, *pair[1:]), pair) for pair in match.pairs]
            known = [(ratio, pair) for ratio, pair in ratios if ratio is not None]
            if known:
                levels = [[self._level(pair[0], pair[1 + side], percent) for _, pair in known] for side in range(2)]
                return paired([ratio for ratio, _ in known], *levels, confidence=self._confidence)
        freedom = sum(map(len, sides)) - 2
        variances: list[list[float | None]] = [[None] * len(side) for side in sides]
        repeats = None
        if freedom < ENOUGH_FREEDOM:
            repeats = self._repeats_of(match, value_of)
            told = freedom + (repeats.freedom if repeats else 0)
            if percent is not None and told < (1 if self._sparing else ENOUGH_FREEDOM):
                variances = [
                    [
                        self._variance(each.number, each.line.position, percent) if place < READ else None
                        for place, (each, _) in enumerate(side)
                    ]
                    for side in sides
                ]
        figures = [
            [Figure(value=value, variance=variance) for (_, value), variance in zip(side, own, strict=True)]
            for side, own in zip(sides, variances, strict=True)
        ]
        return two_sample(*figures, confidence=self._confidence, repeats=repeats)

    def _ratio(self, number: int, percent: int, baseline: int, candidate: int) -> PairedRatio | None:
        """Return a measurement's paired ratio at the wanted confidence; None where the two have no block in common."""
        measurement = self._measurement(number)
        try:
            if percent == 50:
                return paired_ratio(measurement, baseline, candidate, confidence=self._confidence)
            return _at(paired_percentile_ratio(measurement, percent, baseline, candidate), self._confidence)
        except ValueError:
            return None

    def _level(self, number: int, position: int, percent: int) -> Figure:
        """Return a percentile of the runs made in turns."""
        timed = self._measurement(number).timed(position)
        values = steadiest(timed) if percent == 50 else [run.latency_ns for run in timed]
        return Figure(value=percentile(values, percent), variance=self._variance(number, position, percent))

    def _variance(self, number: int, position: int, percent: int) -> float | None:
        """Return the variance of the logarithm of a run's percentile, by blocks or sections; None for too few runs."""
        timed = self._measurement(number).timed(position)
        if percent == 50:
            found = median_interval(steadiest(timed))
            if found.low is None or found.high is None or found.low <= 0:
                return None
            return float((math.log(found.high / found.low) / 2 / normal_quantile(0.95)) ** 2)
        values = [run.latency_ns for run in timed]
        sections = min(_SECTIONS, int(len(values) * (1 - percent / 100) / _BEYOND + 1e-9))
        if sections < _FEWEST_SECTIONS:
            return None
        ends = [round(len(values) * place / sections) for place in range(sections + 1)]
        whole = math.log(percentile(values, percent))
        logs = [math.log(percentile(values[ends[place] : ends[place + 1]], percent)) for place in range(sections)]
        return sum((log - whole) ** 2 for log in logs) / (sections - 1) / sections

    def _repeats_of(self, match: Match, value_of: Callable[[ResultLine], float | None]) -> Repeats | None:
        """Return what artifacts that were measured more than once in this environment tell, besides what is compared."""
        line = match.candidate[0].line
        key = (line.device_id, line.runtime, line.threads)
        if key not in self._repeats:
            wanted = LineFilter(devices=(line.device_id,), runtime=line.runtime, threads=line.threads, alone=True)
            lines = list_lines(self._store, wanted, limit=REPEAT_LINES)
            self._repeats[key] = tuple(
                (identity(each.environment), each.line) for each in entries_of(self._store, lines)
            )
        environment = identity(match.candidate[0].environment)
        own = {each.number for each in (*match.baseline, *match.candidate)}
        # Whatever changed between the sides changed the other models too; it is no scatter.
        later = max(min(each.line.created_at for each in side) for side in (match.baseline, match.candidate))
        groups: dict[tuple[str, bool], list[float]] = defaultdict(list)
        for place, each in self._repeats[key]:
            value = value_of(each)
            if place == environment and each.measurement_id not in own and value is not None and value > 0:
                groups[each.sha256, each.created_at >= later].append(value)
        return repeats_of(list(groups.values()))

    def _measurement(self, number: int) -> Measurement:
        if number not in self._measurements:
            self._measurements[number] = self._store.get_measurement(number).measurement
        return self._measurements[number]


def file_changes(baseline: Facts, candidate: Facts, *, confidence: float) -> dict[str, Change]:
    """Return the changes of what files tell: `size` in bytes, and `accuracy` where `test_images` are known."""
    found: dict[str, Change] = {}
    if "size" in baseline and "size" in candidate:
        found["size"] = exact(baseline["size"], candidate["size"])
    if "accuracy" in baseline and "accuracy" in candidate:
        found["accuracy"] = _points(baseline, candidate, confidence)
    return found


def file_facts(path: Path | None) -> dict[str, float]:
    """Return the size of a model's file, and its accuracy if it lies in a folder of results of `host compress`."""
    if path is None:
        return {}
    facts: dict[str, float] = {"size": float(path.stat().st_size)}
    try:
        record = json.loads((path.parent / "record.json").read_bytes())
        side = record["baseline" if path.stem == "baseline" else "result"]
        if path.name in (f"baseline{path.suffix}", f"model{path.suffix}"):
            facts |= {"accuracy": side["accuracy"], "test_images": side["test_images"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no folder of results
    return facts


def stored_facts(store: ResultStore, sha256: str) -> dict[str, float]:
    """Return size and accuracy of a model that a compression in the history made or began with; empty if none did."""
    row = models.Compression
    newest = select(row.id).order_by(row.id.desc()).limit(COMPRESSIONS).subquery()
    query = (
        select(row.record)
        .where(row.id.in_(select(newest.c.id)), cast(row.record, Text).contains(sha256))
        .order_by(row.id.desc())
        .limit(1)
    )
    with store.reading() as session:
        record = session.scalars(query).one_or_none() or {}
    for role in ("baseline", "result"):
        side = record.get(role)
        if side and side.get("sha256") == sha256:
            known = {"size": "size_bytes", "accuracy": "accuracy", "test_images": "test_images"}
            return {name: float(side[key]) for name, key in known.items() if side.get(key) is not None}
    return {}


def _points(baseline: Facts, candidate: Facts, confidence: float) -> Change:
    """Return the difference of two accuracies in points, as if each had been found on other images: the interval is cautious."""
    change = candidate["accuracy"] - baseline["accuracy"]
    low = high = None
    if all(side.get("test_images") for side in (baseline, candidate)):
        variance = sum(
            max(side["accuracy"] * (1 - side["accuracy"]), 1 / side["test_images"]) / side["test_images"]
            for side in (baseline, candidate)
        )
        half = normal_quantile(confidence) * math.sqrt(variance)
        low, high = change - half, change + half
    level = candidate["accuracy"]
    off = None if low is None else change - low
    return Change(
        method=Method.TWO_SAMPLE, baseline=baseline["accuracy"], candidate=level, change=change, low=low, high=high,
        low_level=None if off is None else level - off, high_level=None if off is None else level + off,
        measurements=(1, 1), run_to_run=True, deviation=None, confidence=confidence,
    )  # fmt: skip


def _values(quiet: bool, sides: Sequence[Sequence[ResultLine]]) -> dict[str, Callable[[ResultLine], float | None]]:
    """Return how each metric is read from a line; the median of undisturbed runs where all have it, net energy likewise."""
    net = all(line.energy_net_j is not None and line.energy_net_j > 0 for side in sides for line in side)
    return {
        "p50": (lambda line: line.undisturbed_p50_ns) if quiet else (lambda line: line.p50_ns),
        "p90": lambda line: line.p90_ns,
        "p99": lambda line: line.p99_ns,
        "peak_memory": lambda line: line.peak_memory_bytes,
        "energy": (lambda line: line.energy_net_j) if net else (lambda line: line.energy_gross_j),
    }


def _at(ratio: PairedRatio, confidence: float) -> PairedRatio:
    """Return a ratio with its interval at another confidence, as if it were normal."""
    if ratio.low is None or ratio.high is None or confidence == ratio.confidence:
        return ratio
    factor = normal_quantile(confidence) / normal_quantile(ratio.confidence)
    low, high = (ratio.ratio * (end / ratio.ratio) ** factor for end in (ratio.low, ratio.high))
    return replace(ratio, low=low, high=high, confidence=confidence)
