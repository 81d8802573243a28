"""When the benchmark of a busy machine says yes, no, or that it can't tell."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from benchmarks.busy import busy_cores
from benchmarks.disturbed import Look, judge
from benchmarks.table import Row

ROUNDS = (1.0, 1.01, 0.99, 1.005, 0.995, 1.01, 0.99, 1.0)


def rows(busy: float | None, *, others: str | None = None) -> dict[str, Row]:
    """Judge an agent whose undisturbed median grows by `busy` on the busy machine, beside a bare loop that doubles."""
    quiet = {"agent, undisturbed": 1e6, "agent, all runs": 1.02e6, "bare loop": 1e6}
    found = []
    for noise in ROUNDS:
        undisturbed = None if busy is None else 1e6 * busy * noise
        loaded = {"agent, undisturbed": undisturbed, "agent, all runs": 1.5e6, "bare loop": 2e6}
        found.append(
            (Look(latency_ns=dict(quiet), undisturbed_share=0.99), Look(latency_ns=loaded, undisturbed_share=0.3))
        )
    return {row.metric.partition(": ")[2]: row for row in judge("net", found, others=others)}


def test_the_undisturbed_median_is_judged_and_the_others_are_shown() -> None:
    found = rows(1.0)
    assert found["agent, undisturbed"].met is True
    assert found["bare loop"].value == pytest.approx(2)
    assert found["bare loop"].goal is None
    assert found["runs undisturbed while busy"].value == pytest.approx(30)


def test_a_median_that_moved_is_no() -> None:
    assert rows(1.2)["agent, undisturbed"].met is False


def test_other_work_leaves_a_miss_open_and_a_hit_as_it_is() -> None:
    assert rows(1.2, others="others took a core")["agent, undisturbed"].reason == "others took a core"
    assert rows(1.0, others="others took a core")["agent, undisturbed"].met is True


def test_without_undisturbed_runs_there_is_no_figure() -> None:
    row = rows(None)["agent, undisturbed"]
    assert (row.value, row.met) == (None, None)
    assert row.reason is not None
    assert "8 of 8 rounds" in row.reason


def test_busy_loops_are_pinned_and_end() -> None:
    def loops() -> list[frozenset[int]]:
        found = []
        for pid in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split():
            if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"while True: pass\0"):
                found.append(frozenset(os.sched_getaffinity(int(pid))))
        return found

    usable = os.sched_getaffinity(0)
    with busy_cores() as count:
        assert count == len(usable)
        assert set(loops()) == {frozenset({cpu}) for cpu in usable}
    assert loops() == []
