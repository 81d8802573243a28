"""Axes: round values that cover what is drawn."""

from datetime import datetime, timedelta, timezone

import pytest

from host.report.axes import Axis, date_axis, spread_axis


@pytest.mark.parametrize(("low", "high"), [(1.2, 90.0), (0.4, 0.9), (3.0, 40_000.0), (10.0, 10.0), (9.0, 11.0)])
def test_a_logarithmic_axis_covers_its_values(low: float, high: float) -> None:
    axis = Axis(label="x", low=low, high=high, log=True)
    first, last = axis.bounds()
    assert first <= low * (1 + 1e-9)
    assert last >= high * (1 - 1e-9)
    assert 0 <= axis.place(low) <= axis.place(high) <= 1
    assert len(axis.ticks()) <= 12


def test_a_wide_spread_is_logarithmic_and_nothing_else_is() -> None:
    assert spread_axis("x", [1.0, 50.0]).log
    assert not spread_axis("x", [1.0, 2.0]).log
    assert not spread_axis("x", [0.0, 50.0]).log


def test_ticks_say_what_they_are() -> None:
    assert Axis(label="x", low=7.5, high=22.5).texts() == ["7.5", "10.0", "12.5", "15.0", "17.5", "20.0", "22.5"]


@pytest.mark.parametrize("span", [timedelta(seconds=1), timedelta(hours=7), timedelta(days=9), timedelta(days=800)])
def test_dates_stand_at_round_moments(span: timedelta) -> None:
    first = datetime(2026, 3, 1, 11, 7, 13, tzinfo=timezone.utc)
    axis = date_axis(first, first + span)
    assert 0 <= axis.place(first.timestamp()) < axis.place((first + span).timestamp()) <= 1
    assert len(axis.texts()) <= 8
