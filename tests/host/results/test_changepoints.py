"""Level shifts: found soon, rarely where there is none, never from one outlier. Shares are of seeded draws."""

from __future__ import annotations

import numpy as np
import pytest

from host.results.changepoints import FEWEST, course_of


def history(rng: np.random.Generator, count: int, *shifts: tuple[int, float]) -> list[float]:
    logs = 0.007 * rng.standard_normal(count)
    for at, step in shifts:
        logs[at:] += np.log1p(step)
    return [float(value) for value in 5e6 * np.exp(logs)]


def test_false_alarms() -> None:
    """At most 5 % of histories of 100 points; with 100 draws, 10 alarms would be over it with 95 % confidence."""
    rng = np.random.default_rng(1)
    assert sum(bool(course_of(history(rng, 100)).shifts) for _ in range(100)) <= 9


def test_a_slow_down_of_two_percent_is_found_with_three_points_behind_it() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(40):
        shifts = course_of(history(rng, 100, (97, 0.02))).shifts
        found += any(shift.at >= 95 and shift.change > 0 for shift in shifts)
    assert found >= 30


def test_the_place_and_size_of_shifts() -> None:
    course = course_of(history(np.random.default_rng(3), 90, (30, 0.05), (60, -0.03)))
    assert [shift.at for shift in course.shifts] == pytest.approx([30, 60], abs=1)
    for shift, step in zip(course.shifts, (0.05, -0.03), strict=True):
        assert shift.low < step < shift.high
        assert shift.high - shift.low < 0.02
    assert course.noise == pytest.approx(0.007, rel=0.3)
    assert course.segments[0].start == 0
    assert course.segments[-1].end == 90


def test_one_outlier_is_no_shift_wherever_it_lies() -> None:
    for place in (0, 40, 99):
        values = history(np.random.default_rng(4), 100)
        values[place] *= 1.4
        course = course_of(values)
        assert course.shifts == ()
        assert place in course.outliers


def test_a_value_that_knows_itself_badly_counts_less() -> None:
    rng = np.random.default_rng(5)
    values = history(rng, 40, (37, 0.025))
    sure = course_of(values)
    unsure = course_of(values, [0.0] * 37 + [0.03**2] * 3)
    assert sure.shifts
    assert not unsure.shifts


def test_few_or_equal_points() -> None:
    assert course_of([]).segments == ()
    few = course_of([1.0, 2.0, 3.0])
    assert (few.shifts, few.noise) == ((), None)
    assert len(few.segments) == 1
    assert course_of([4.0] * FEWEST).shifts == ()
    with pytest.raises(ValueError, match="not positive"):
        course_of([1.0, 0.0])
    with pytest.raises(ValueError, match="2 variances for 1"):
        course_of([1.0], [0.0, 0.0])
