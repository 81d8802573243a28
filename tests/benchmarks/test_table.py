"""The shared part of the benchmarks: how a figure is judged and printed."""

from __future__ import annotations

import json

import pytest

from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged


@pytest.mark.parametrize(
    ("goal", "text", "good", "bad"),
    [
        (Goal(below=35), "< 35", 34.9, 35),
        (Goal(high=35), "<= 35", 35, 35.1),
        (Goal(low=100), ">= 100", 100, 99.9),
        (Goal(low=0.98, high=1.02), "0.98 - 1.02", 1.0, 1.03),
        (Goal(low=0, high=0), "0", 0, 1),
    ],
)
def test_a_goal_says_what_it_asks(goal: Goal, text: str, good: float, bad: float) -> None:
    assert str(goal) == text
    assert goal.holds(good)
    assert not goal.holds(bad)


def test_a_goal_needs_a_bound() -> None:
    with pytest.raises(ValueError, match="bound"):
        Goal()


def test_the_whole_interval_is_judged() -> None:
    goal = Goal(low=100)
    assert judged("m", 120, "MB/s", goal, interval=(110, 130)).met is True
    assert judged("m", 80, "MB/s", goal, interval=(70, 90)).met is False
    crossing = judged("m", 105, "MB/s", goal, interval=(90, 120))
    assert crossing.met is None
    assert crossing.reason is not None


def test_a_doubt_leaves_the_verdict_open() -> None:
    row = judged("m", 80, "MB/s", Goal(low=100), doubt="slow disk")
    assert (row.met, row.reason) == (None, "slow disk")


def test_an_interval_needs_six_values() -> None:
    assert interval_of([1, 2, 3, 4, 5]) == (3, None)
    assert interval_of([6, 1, 2, 3, 4, 5]) == (3.5, (1, 6))


def test_both_forms_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        judged("time", 0.25, "s", Goal(below=0.5), interval=(0.2, 0.3)),
        Row(metric="nothing", value=None, unit="s", goal="< 1", reason="left out: no such runtime"),
    ]
    benchmark = Benchmark(name="fake", about="What it compares.", measure=lambda _quick: rows)
    assert benchmark.main(["--json", "--quick"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["rows"][0] == {
        "metric": "time", "value": 0.25, "unit": "s", "interval": [0.2, 0.3], "goal": "< 0.5", "met": True,
        "reason": None, "quick": True,
    }  # fmt: skip
    assert benchmark.main([]) == 0
    text = capsys.readouterr().out
    assert "What it compares." in text
    assert "left out: no such runtime" in text
    assert "quick" not in text
    benchmark.main(["--quick"])
    assert "time [quick]" in capsys.readouterr().out


def test_what_cannot_be_measured_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(quick: bool) -> list[Row]:
        raise CannotMeasure("no compiler here; install one")

    assert Benchmark(name="fake", about="", measure=fail).main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no compiler here" in captured.err
