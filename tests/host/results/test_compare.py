"""Changes with intervals, bounds, and the sides of a comparison: pure functions."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timezone

import numpy as np
import pytest

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.pairs import PairedRatio
from host.results.compare import (
    Figure,
    Method,
    Repeats,
    exact,
    measurements_needed,
    paired,
    repeats_of,
    student_quantile,
    two_sample,
)
from host.results.compare_bounds import Met, judge, parse_bound
from host.results.compare_rules import FIELDS, Weight, allowed_fields
from host.results.compare_sides import parse_side
from host.results.environment import Environment


def figures(*values: float, variance: float | None = None) -> list[Figure]:
    return [Figure(value=value, variance=variance) for value in values]


def test_intervals_cover_and_a_lone_candidate_borrows_the_spread_of_the_baseline() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        sides = [[Figure(value=float(np.exp(0.01 * each))) for each in rng.standard_normal(count)] for count in (6, 1)]
        change = two_sample(*sides)
        assert change.run_to_run
        assert change.low is not None
        assert change.high is not None
        hits += change.low <= 0 <= change.high
    assert 367 <= hits <= 395  # 95 % of 400, three standard deviations to either side


def test_one_each_leaves_the_runs_own_scatter_only_unless_repeats_tell_more() -> None:
    one, other = figures(100.0, variance=1e-6), figures(103.0, variance=1e-6)
    alone = two_sample(one, other)
    assert not alone.run_to_run
    assert alone.change == pytest.approx(0.03)
    assert (alone.high or 0) - (alone.low or 0) == pytest.approx(2 * 1.96 * np.sqrt(2e-6) * 1.03, rel=0.01)
    told = two_sample(one, other, repeats=Repeats(variance=0.007**2, freedom=20))
    assert told.run_to_run
    assert (told.high or 0) - (told.low or 0) > 4 * ((alone.high or 0) - (alone.low or 0))
    unknown = two_sample(figures(100.0), figures(103.0))
    assert (unknown.low, unknown.high, unknown.deviation) == (None, None, None)


def test_an_interval_over_all_magnitudes_is_none() -> None:
    change = two_sample(figures(1.0), figures(2.0), confidence=0.9999, repeats=Repeats(variance=0.5, freedom=1))
    assert (change.low, change.high, change.low_level) == (None, None, None)
    assert change.change == pytest.approx(1.0)


def test_the_scatter_of_runs_is_the_least() -> None:
    """Two repeats that happen to agree do not make a noisy measurement exact."""
    change = two_sample(figures(100.0, 100.0, variance=1e-4), figures(100.0, 100.0, variance=1e-4))
    assert change.deviation == pytest.approx(0.01)


def test_repeats_are_pooled() -> None:
    assert repeats_of([[1.0], [2.0]]) is None
    found = repeats_of([[1.0, np.e], [5.0], [1.0, 1.0, 1.0]])
    assert found is not None
    assert found.freedom == 3
    assert found.variance == pytest.approx(0.5 / 3)


def test_pairs() -> None:
    ratio = PairedRatio(ratio=0.97, low=0.96, high=0.98, blocks=40)
    single = paired([ratio], figures(100.0), figures(97.0))
    assert (single.method, single.low, single.high) == (Method.PAIRED, pytest.approx(-0.04), pytest.approx(-0.02))
    assert single.candidate == pytest.approx(97.0)
    assert not single.run_to_run
    two = paired([ratio, PairedRatio(ratio=1.03, low=1.02, high=1.04, blocks=40)], figures(100.0), figures(100.0))
    assert two.low is not None
    assert two.high is not None
    assert (
        two.low < -0.03 < 0.03 < two.high
    )  # they contradict one another: the variance between them is in the interval
    several = paired([PairedRatio(ratio=each, low=None, high=None, blocks=3) for each in (0.96, 0.97, 0.98, 0.97)],
                     figures(100.0), figures(97.0))  # fmt: skip
    assert several.run_to_run
    assert several.low is not None
    assert several.high is not None
    assert -0.05 < several.low < -0.03 < several.high < -0.01


def test_students_quantile_against_a_table() -> None:
    assert [round(student_quantile(0.95, freedom), 3) for freedom in (1, 4, 30)] == [12.706, 2.776, 2.042]


@pytest.mark.parametrize(
    ("text", "metric", "above", "value", "relative", "is_change"),
    [
        ("p50 > +3%", "p50", True, 0.03, True, True),
        ("p90>+0.5ms", "p90", True, 0.5e6, False, True),
        ("peak_memory > 40MB", "peak_memory", True, 40e6, False, False),
        ("energy < -5%", "energy", False, -0.05, True, True),
        ("accuracy < -1%", "accuracy", False, -0.01, False, True),
        ("accuracy < 90%", "accuracy", False, 0.9, False, False),
        ("peak-memory > +1MiB", "peak_memory", True, 2**20, False, True),
    ],
)
def test_bounds_are_read(text: str, metric: str, above: bool, value: float, relative: bool, is_change: bool) -> None:
    bound = parse_bound(text)
    assert (bound.metric, bound.above, bound.value) == (metric, above, pytest.approx(value))
    assert (bound.relative, bound.is_change) == (relative, is_change)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p50 +3%", "METRIC > VALUE"),
        ("speed > +3%", "none of p50"),
        ("p50 > 3%", "a percentage is a change"),
        ("p50 > +3MB", "no unit of p50"),
        ("p50 > 3", "p50 needs a unit or a percent sign: p50 > 3ms, p50 > [+]3%"),
        ("peak_memory < -1.5", "a percent sign: peak_memory < -1.5MB, peak_memory < -1.5%"),
        ("p50 < -100%", "100 %"),
    ],
)
def test_what_is_no_bound_says_why(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_bound(text)


def test_bounds_are_judged_by_the_whole_interval() -> None:
    change = two_sample(
        figures(100e6), figures(104e6), repeats=Repeats(variance=0.005**2, freedom=50)
    )  # +4 %, half-width 1.4 %
    for text, met in (
        ("p50 > +2%", Met.MET),
        ("p50 > +3%", Met.UNDECIDED),
        ("p50 > +6%", Met.NOT_MET),
        ("p50 < -1%", Met.NOT_MET),
        ("p50 > +2ms", Met.MET),
        ("p50 > +6ms", Met.NOT_MET),
        ("p50 > 101ms", Met.MET),
        ("p50 > 104ms", Met.UNDECIDED),
        ("p50 < 110ms", Met.MET),
    ):
        judgement = judge(parse_bound(text), change)
        assert judgement.met is met, text
        assert (judgement.hint is None) == (met is not Met.UNDECIDED)
    hint = judge(parse_bound("p50 > +3%"), change).hint
    assert hint is not None
    assert "more measurement" in hint
    assert judge(parse_bound("size > +1%"), exact(100, 102)).met is Met.MET
    assert judge(parse_bound("size > +2%"), exact(100, 102)).met is Met.NOT_MET
    assert judge(parse_bound("energy > +1%"), None).met is Met.UNDECIDED


def test_measurements_needed_do_decide() -> None:
    count = measurements_needed(0.007, 0.01)
    assert count is not None
    for tried, enough in ((count, True), (count - 1, False)):
        half = student_quantile(0.95, 2 * tried - 2) * 0.007 * np.sqrt(2 / tried)
        assert (half < 0.01) == enough
    assert measurements_needed(0.007, 1e-9) is None


def day(month: int, number: int) -> datetime:
    return datetime(2026, month, number, tzinfo=timezone.utc)


def test_sides() -> None:
    assert parse_side("net.onnx").word == "net.onnx"
    assert parse_side("#31:2").measurement == parse_side("measurement:31").measurement == 31
    assert parse_side("#31:2").place == 2
    assert parse_side("sha256:3f2a91").sha256 == "3f2a91"
    assert parse_side("sweep:#7").sweep == "#7"
    both = parse_side("2026-11-01..2026-11-20")
    assert (both.since, both.until) == (day(11, 1), day(11, 21))
    one = parse_side("2026-11-30")
    assert (one.since, one.until) == (day(11, 30), day(12, 1))
    assert parse_side("before:2026-11-20").until == day(11, 20)
    assert parse_side("since:2026-11-20T06:30").since == datetime(2026, 11, 20, 6, 30, tzinfo=timezone.utc)
    mixed = parse_side("net.onnx, runtime:onnxruntime@1.31,threads:4")
    assert (mixed.word, mixed.runtime, mixed.runtime_version, mixed.threads) == ("net.onnx", "onnxruntime", "1.31", 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.onnx,", "empty part"),
        ("a.onnx,b.onnx", "twice"),
        ("2026-11-20..2026-11-01", "ends before"),
        ("before:yesterday", "no date"),
        ("2026-02-30", "no date"),
        ("runtime:", "lacks a value"),
        ("runtime:x@", "NAME@VERSION"),
        ("threads:0", "number of threads"),
        ("sha256:xyz", "first digits"),
        ("measurement:abc", "its number"),
    ],
)
def test_what_is_no_side_says_why(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_side(text)


def test_the_table_of_fields_is_complete() -> None:
    assert set(FIELDS) == {field.name for field in fields(Environment)}
    assert allowed_fields(["runtime"]) >= {"runtime", "runtime_version", "provider"}
    assert "cpu" in allowed_fields(["device"])
    assert allowed_fields(["runtime-version"]) == {"runtime_version"}
    assert FIELDS["runtime_version"][0] is Weight.STATE
    with pytest.raises(InvalidRequest, match="the fields are device"):
        allowed_fields(["weather"])
