"""The comparison with rivals: the test behind its verdicts, the grid's resume, and the parts written from papers."""

import itertools
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rivals.grid import Cell, Results, cells, fill
from benchmarks.rivals.halp import rounds_for
from benchmarks.rivals.knapsack import Item, knapsack
from benchmarks.rivals.mcnemar import mcnemar, mid_p, pack, unpack
from benchmarks.rivals.meeting import bisect
from benchmarks.rivals.methods import METHODS, OURS, Method
from benchmarks.rivals.netadapt import proposals, steps
from benchmarks.rivals.report import Report, verdict
from benchmarks.rivals.teacher import RememberedTeacher
from benchmarks.rivals.trial import OutOfReach, Shot
from benchmarks.search_cost import rows_of


def test_mcnemar_counts_the_images_that_one_net_alone_gets_right() -> None:
    ours = np.array([True] * 5 + [False] + [True] * 7 + [False] * 3)
    theirs = np.array([False] * 5 + [True] + [True] * 7 + [False] * 3)
    found = mcnemar(ours, theirs)
    assert (found.ours_only, found.theirs_only) == (5, 1)
    # By hand: of 6 tosses at most 1 in 7 of 64 ways, two-sided 14/64; half of what was seen, 6/64 on each side, comes off.
    assert found.p == pytest.approx(14 / 64 - 6 / 64)


def test_mcnemar_is_even_handed_and_needs_disagreement() -> None:
    assert mid_p(30, 10) == pytest.approx(mid_p(10, 30))
    assert mid_p(30, 10) < 0.01 < mid_p(12, 10)
    assert mid_p(0, 0) == 1.0
    assert mid_p(4, 4) == pytest.approx(1.0)


def test_answers_survive_packing() -> None:
    right = np.random.default_rng(0).random(9001) < 0.8
    assert np.array_equal(unpack(pack(right), 9001), right)


def test_both_nets_come_first_at_half_the_latency() -> None:
    order = [(cell.net, cell.target, cell.seed) for cell in cells(["one"])]
    assert order[:4] == [("resnet20", 0.5, 0), ("resnet56", 0.5, 0), ("resnet20", 0.5, 1), ("resnet56", 0.5, 1)]
    assert len(set(order)) == len(order) == 2 * 3 * 3


class Killed(Exception):
    pass


def test_a_grid_that_is_killed_goes_on_and_repeats_no_cell(tmp_path: Path) -> None:
    wanted = [Cell(net="resnet20", target=0.5, seed=seed, method="fake") for seed in range(4)]
    ran: list[int] = []

    def run(cell: Cell) -> Mapping[str, Any]:
        if len(ran) == 2 and cell.seed == 2 and not (tmp_path / "again").exists():
            raise Killed
        ran.append(cell.seed)
        return {"outcome": "filled", "accuracy": 0.5}

    with pytest.raises(Killed):
        fill(wanted, Results(tmp_path / "cells"), run, clock=lambda: 0.0)
    (tmp_path / "again").touch()
    assert fill(wanted, Results(tmp_path / "cells"), run, clock=lambda: 0.0) == 2
    assert ran == [0, 1, 2, 3]
    assert fill(wanted, Results(tmp_path / "cells"), run, clock=lambda: 0.0) == 0


def test_a_grid_stops_after_the_cell_in_which_its_time_is_up(tmp_path: Path) -> None:
    now = itertools.count(0, 40)  # each look at the clock is 40 s after the one before
    results = Results(tmp_path)
    filled = fill(cells(["fake"]), results, lambda _: {"outcome": "filled"}, minutes=1.5, clock=lambda: next(now))
    assert filled == 2


def test_a_cell_of_an_older_schema_counts_as_unfilled(tmp_path: Path) -> None:
    results, cell = Results(tmp_path), Cell(net="resnet20", target=0.5, seed=0, method="fake")
    results.put(cell, {"outcome": "filled"})
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 0}))
    assert results.get(cell) is None


def answers(accurate: float, *, ratio: float = 0.49, seed: int = 0, method: str = OURS) -> dict[str, Any]:
    right = np.random.default_rng(seed).random(9000) < accurate
    return {
        "method": method,
        "target": 0.5,
        "outcome": "filled",
        "accuracy": float(right.mean()),
        "test_images": 9000,
        "right": pack(right),
        "latency_ratio": {"ratio": ratio, "low": ratio, "high": ratio},
        "measurements": 5,
        "device_s": 10.0,
        "host_s": 100.0,
    }


def test_a_verdict_is_by_accuracy_only_where_both_kept_the_target() -> None:
    ours, worse, alike = answers(0.85), answers(0.80, seed=1), answers(0.85, seed=2)
    assert str(verdict(ours, worse)) == "won"
    assert str(verdict(worse, ours)) == "lost"
    assert str(verdict(ours, alike)) == "tie"
    missed = answers(0.95, ratio=0.505, seed=3)
    assert str(verdict(ours, missed)) == "won (missed)"
    assert str(verdict(missed, ours)) == "lost (missed)"
    assert str(verdict(ours, {"outcome": "out of reach", "target": 0.5})) == "won (missed)"
    assert verdict(ours, None) is None
    assert verdict(None, worse) is None
    assert verdict(ours, {"outcome": "not installed", "reason": "pip install it", "target": 0.5}) is None


def test_the_table_shows_filled_unfilled_missed_and_missing(tmp_path: Path) -> None:
    results = Results(tmp_path / "cells")

    def put(method: str, value: Mapping[str, Any]) -> None:
        results.put(Cell(net="resnet20", target=0.5, seed=0, method=method), value)

    put(OURS, answers(0.85))
    put("uniform", answers(0.80, seed=1))
    put("macs", {**answers(0.7, ratio=0.51, seed=2), "outcome": "out of reach", "reason": "0.51x at best"})
    put("fastnas", {"outcome": "not installed", "reason": "pip install it"})
    text = Report(results, tmp_path).text()
    by_title = {line.split("  ")[0]: line for line in text.splitlines() if line}
    assert "won" in by_title["uniform width"]
    assert "<0.001" in by_title["uniform width"]
    assert "MISSED" in by_title["our planner on MACs"]
    assert "not installed" in by_title["ModelOpt FastNAS"]
    assert "unfilled" in by_title["NetAdapt"]
    assert "resnet56 0.35x: unfilled" in text
    assert "2 won, 0 ties, 0 lost" in text
    rows = {row.metric: row for row in Report(results, tmp_path).rows()}
    margin = rows["resnet20 0.5x, seed 0: ours - best rival"]
    assert margin.met is True
    assert margin.value is not None
    assert margin.value > 3


def test_a_package_that_is_missing_says_how_to_get_it() -> None:
    method = Method(name="x", title="x", where="x:x", needs=("torch", "no_such_package_at_all"))
    assert method.missing() == "pip install 'boardfit[rivals]'"
    assert METHODS[OURS].missing() is None


@pytest.mark.parametrize("seed", range(6))
def test_the_knapsack_finds_what_trying_everything_finds(seed: int) -> None:
    draw = random.Random(seed)
    choices = {
        name: [Item(width=8 * step, value=draw.random() * step, cost=draw.randint(-2, 9)) for step in range(1, 5)]
        for name in "abcd"
    }
    # Whole costs and as many steps as there is room: the rounding of costs then changes nothing.
    budget = float(sum(min(item.cost for item in items) for items in choices.values()) + 8)
    best = max(
        sum(item.value for item in chosen)
        for chosen in itertools.product(*choices.values())
        if sum(item.cost for item in chosen) <= budget
    )
    kept = knapsack(choices, budget, steps=8)
    assert kept is not None
    taken = [next(item for item in choices[name] if item.width == width) for name, width in kept.items()]
    assert sum(item.cost for item in taken) <= budget
    assert sum(item.value for item in taken) == pytest.approx(best)


def test_a_knapsack_without_room_has_no_answer() -> None:
    assert knapsack({"a": [Item(width=8, value=1.0, cost=5.0)]}, 4.0) is None
    assert knapsack({"a": [Item(width=8, value=1.0, cost=5.0)]}, 5.0) == {"a": 8}


def test_halp_takes_a_round_per_factor_of_one_and_a_half() -> None:
    assert [rounds_for(target, 3) for target in (0.7, 0.5, 0.35, 0.1)] == [1, 2, 3, 3]


def test_netadapt_takes_the_widest_width_that_gives_the_step() -> None:
    widths = {"a": (8, 16, 24, 32), "b": (8, 16)}

    def latency(kept: Mapping[str, int]) -> float:
        return 0.02 * kept["a"] + 0.01 * kept["b"]  # as measured: "a" is dear

    found = {each.group: each for each in proposals(widths, {"a": 32, "b": 16}, latency, 0.2)}
    assert set(found) == {"a"}  # b has 0.08 to give at most
    assert found["a"].width == 16  # 24 would give 0.16 only
    assert found["a"].latency == pytest.approx(0.48)
    step, halved = steps(widths, {"a": 8, "b": 16}, latency, 0.2)
    assert step == pytest.approx(0.05)
    assert [(each.group, each.width) for each in halved] == [("b", 8)]
    assert steps(widths, {"a": 8, "b": 8}, latency, 0.2)[1] == []


class FakeTrial:
    """Measures a module of one convolution at its width / 64, and the long measurement at `bias` more."""

    def __init__(self, bias: float = 0.0) -> None:
        self.bias, self.measured = bias, set()

    def measure(self, module: nn.Conv2d, *, final: bool = False) -> Shot:
        self.measured.add(module.out_channels)
        ratio = module.out_channels / 64 + (self.bias if final else 0.0)
        return Shot(ratio=ratio, low=ratio, high=ratio)


def narrowed(step: int, least: int = 1) -> Callable[[float], nn.Module]:
    return lambda dial: nn.Conv2d(1, max(least, round(dial * 64 / step) * step), 1)


def test_bisection_ends_at_the_slowest_plan_at_or_under_the_target() -> None:
    met = bisect(FakeTrial(), narrowed(1), 0.5)  # type: ignore[arg-type]
    assert 0.97 * 0.5 <= met.shot.ratio <= 0.5
    met = bisect(FakeTrial(), narrowed(24), 0.5)  # type: ignore[arg-type]
    assert met.shot.ratio == 24 / 64


def test_bisection_believes_the_long_measurement() -> None:
    trial = FakeTrial(bias=0.02)
    met = bisect(trial, narrowed(4), 0.5)  # type: ignore[arg-type]
    assert met.shot.ratio <= 0.5
    assert met.module.out_channels / 64 <= 0.48


def test_a_target_below_the_fastest_plan_is_out_of_reach_and_the_plan_comes_along() -> None:
    with pytest.raises(OutOfReach, match=r"fastest plan measured 0\.625x, the target is 0\.50x") as caught:
        bisect(FakeTrial(), narrowed(8, least=40), 0.5)  # type: ignore[arg-type]
    assert isinstance(caught.value.nearest, nn.Conv2d)


def test_a_teacher_is_asked_once_about_a_batch(tmp_path: Path) -> None:
    asked = []

    class Teacher(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            asked.append(len(images))
            return images.sum((1, 2, 3))[:, None]

    images = torch.rand(4, 3, 2, 2)
    first = RememberedTeacher(Teacher(), tmp_path / "answers.pt")
    said = first(images)
    first.store()
    again = RememberedTeacher(Teacher(), tmp_path / "answers.pt")
    assert torch.equal(again(images.clone()), said)
    assert asked == [4]
    assert not torch.equal(again(images + 1), said)
    assert asked == [4, 4]


def test_search_cost_reads_what_the_cells_say() -> None:
    times = {"seconds": 100.0, "training_seconds": 60.0, "device_seconds": 30.0}
    notes = {"record": {"times": times}, "planning_s": 2.0, "plans_solved": 4}
    ours = {"outcome": "filled", "device_s": 30.0, "measurements": 20, "notes": notes}
    halp = {"outcome": "filled", "device_s": 200.0, "measurements": 60, "search_s": 90.0, "measuring_s": 80.0}
    rows = {row.metric: row for row in rows_of({"ours": [ours], "halp": [halp], "netadapt": []})}
    assert rows["host compress: device time"].met is True
    assert rows["host compress: planning, 4 solutions of its integer program"].value == 2.0
    assert rows["host compress: overhead outside training and measuring"].value == pytest.approx(10)
    assert rows["HALP-style knapsack: search on the host, without measuring"].value == 10
    assert rows["HALP-style knapsack: device time"].goal is None
    assert rows["NetAdapt: device time"].value is None
