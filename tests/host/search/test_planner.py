"""The planner against brute force, and at the size it was made for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planning import bilinear, every_plan, random_problem

from host.search.network import Group, Layer, LayerKind, Network, Part, Plan
from host.search.planner import Budgets, Infeasible, neighbours, parameters, slowest_within, solve, uniform
from host.search.program import coupled
from host.search.solution import TOLERANCE, total


def assembled_chain(length: int) -> Network:
    """Return equal pointwise layers in a row, each with a group of 64 channels of its own."""
    layers = tuple(
        Layer(
            name=f"l{index}",
            kind=LayerKind.POINTWISE,
            inputs=(Part(group=f"g{index - 1}"),) if index else (),
            input_fixed=0 if index else 3,
            outputs=(Part(group=f"g{index}"),),
            output_fixed=0,
            kernel=1,
            input_pixels=16,
            output_pixels=16,
        )
        for index in range(length)
    )
    return Network(
        layers=layers,
        groups=tuple(Group(name=f"g{index}", channels=64, layers=(f"l{index}",)) for index in range(length)),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 1.0), sized=st.booleans())
def test_solve_equals_brute_force(seed: int, share: float, sized: bool) -> None:
    network, widths, losses = random_problem(seed, groups=4, options=3)
    price = bilinear(network, seed)
    plans = every_plan(network, widths)
    ratios = [total(network, price, plan.kept) for plan in plans]
    budget = min(ratios) + share * (max(ratios) - min(ratios))
    limit = int(np.median([parameters(network, plan.kept) for plan in plans])) if sized else None

    def best(within: float) -> float | None:
        return min(
            (
                sum(losses[name][width] for name, width in plan.kept.items())
                for plan, ratio in zip(plans, ratios, strict=True)
                if ratio <= within and (limit is None or parameters(network, plan.kept) <= limit)
            ),
            default=None,
        )

    strict, lax = best(budget), best(budget * (1 + TOLERANCE))
    if lax is None:
        with pytest.raises(Infeasible):
            solve(network, widths, losses, price, latency_ratio=budget, budgets=Budgets(max_parameters=limit))
        return
    assume(strict is not None)
    assert strict is not None
    found = solve(network, widths, losses, price, latency_ratio=budget, budgets=Budgets(max_parameters=limit), gap=1e-9)
    assert found.loss is not None
    assert lax * (1 - 1e-6) - 1e-9 <= found.loss <= strict * (1 + 1e-6) + 1e-9
    assert found.predicted_ratio == pytest.approx(total(network, price, found.plan.kept))
    assert found.predicted_ratio <= budget * (1 + 1e-6)
    assert limit is None or parameters(network, found.plan.kept) <= limit
    assert found.gap is not None
    assert found.gap < 1e-5


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_any_price_of_pairs_is_exact(seed: int) -> None:
    """The price may be any function of the two widths, a staircase included, also where a side joins groups."""
    network, widths, losses = random_problem(seed, groups=4, options=3)
    rng = np.random.default_rng(seed)
    table: dict[tuple[str, int, int], float] = {}

    def price(layer: Layer, inward: int, outward: int) -> float:
        return table.setdefault((layer.name, inward, outward), float(rng.random()) / len(network.layers))

    plans = every_plan(network, widths)
    ratios = [total(network, price, plan.kept) for plan in plans]
    budget = float(np.quantile(ratios, 0.3))
    best = min(
        sum(losses[name][width] for name, width in plan.kept.items())
        for plan, ratio in zip(plans, ratios, strict=True)
        if ratio <= budget
    )
    assert solve(network, widths, losses, price, latency_ratio=budget, gap=1e-9).loss == pytest.approx(best)
    nearest = slowest_within(network, widths, price, latency_ratio=budget, gap=1e-9)
    assert nearest.predicted_ratio == pytest.approx(max(r for r in ratios if r <= budget), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sums_of_too_many_widths_are_exact_for_bilinear_prices(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.search.program.MOST_SUMS", 4)
    network, widths, losses = random_problem(seed, groups=4, options=3)
    price = bilinear(network, seed)
    plans = every_plan(network, widths)
    ratios = [total(network, price, plan.kept) for plan in plans]
    budget = float(np.quantile(ratios, 0.3))
    best = min(
        sum(losses[name][width] for name, width in plan.kept.items())
        for plan, ratio in zip(plans, ratios, strict=True)
        if ratio <= budget * (1 + TOLERANCE)
    )
    assert solve(network, widths, losses, price, latency_ratio=budget, gap=1e-9).loss == pytest.approx(best, abs=1e-9)


def test_infeasible_carries_the_fastest_plan() -> None:
    network, widths, losses = random_problem(3, groups=4, options=3, joined=False)

    # On this device the widest is the fastest: the narrowest plan must not be mistaken for it.
    def price(_: Layer, inward: int, outward: int) -> float:
        return 1.0 / (inward + outward)

    ratios = {plan.key(): total(network, price, plan.kept) for plan in every_plan(network, widths)}
    with pytest.raises(Infeasible, match="choose a target of at least") as caught:
        solve(network, widths, losses, price, latency_ratio=min(ratios.values()) * 0.99)
    assert caught.value.fastest_ratio == pytest.approx(min(ratios.values()), rel=1e-5)
    assert ratios[caught.value.fastest_plan.key()] == pytest.approx(min(ratios.values()), rel=1e-5)
    with pytest.raises(Infeasible, match="parameters"):
        solve(network, widths, losses, price, latency_ratio=9.0, budgets=Budgets(max_parameters=1))


def test_at_least_uses_the_budget_when_losses_leave_it_open() -> None:
    network, widths, losses = random_problem(5, groups=4, options=4)
    price = bilinear(network, 5)
    flat = {name: dict.fromkeys(table, 0.0) for name, table in losses.items()}
    found = solve(network, widths, flat, price, latency_ratio=0.8, at_least=0.76)
    assert 0.76 <= found.predicted_ratio <= 0.8
    narrow = slowest_within(network, widths, price, latency_ratio=0.8, gap=1e-9).predicted_ratio
    dropped = solve(network, widths, losses, price, latency_ratio=0.8, at_least=narrow + 1e-5)
    assert dropped.loss == pytest.approx(solve(network, widths, losses, price, latency_ratio=0.8).loss, rel=2e-3)


def test_solves_sixty_groups_of_eight_widths_to_the_stated_gap(make_mobile: Callable[..., Network]) -> None:
    network = make_mobile(40)
    assert len(network.groups) >= 60
    assert len(coupled(network)) >= 60
    widths = {
        group.name: tuple(sorted({max(1, group.channels * step // 8) for step in range(1, 9)}))
        for group in network.groups
    }
    rng = np.random.default_rng(0)
    losses = {
        group.name: {w: float(rng.random() * (1 - w / group.channels) ** 2) for w in widths[group.name]}
        for group in network.groups
    }
    price = bilinear(network, 1)
    found = solve(network, widths, losses, price, latency_ratio=0.5, gap=2e-3, time_limit_s=60)
    assert found.gap is not None
    assert found.gap <= 2e-3
    assert found.predicted_ratio <= 0.5 * (1 + 1e-6)
    assert found.loss is not None
    rival = uniform(network, widths, price, found.predicted_ratio, losses)
    assert rival.loss is not None
    assert found.loss * (1 - found.gap) <= rival.loss


def test_out_of_time_the_answer_still_fits_and_is_no_worse_than_uniform(make_mobile: Callable[..., Network]) -> None:
    network = make_mobile(40)
    widths = {
        group.name: tuple(sorted({max(1, group.channels * step // 16) for step in range(1, 17)}))
        for group in network.groups
    }
    rng = np.random.default_rng(2)
    losses = {group.name: {w: float(rng.random()) for w in widths[group.name]} for group in network.groups}
    price = bilinear(network, 3)
    found = solve(network, widths, losses, price, latency_ratio=0.45, gap=0.0, time_limit_s=1e-6)
    assert found.predicted_ratio <= 0.45 * (1 + 1e-6)
    assert found.gap is None or found.gap >= 0
    rival = uniform(network, widths, price, 0.45, losses)
    assert found.loss is not None
    assert rival.loss is not None
    assert found.loss <= rival.loss


def test_uniform_is_the_widest_that_fits() -> None:
    network, widths, losses = random_problem(8, groups=5, options=4)
    price = bilinear(network, 8)
    fit = uniform(network, widths, price, 0.6, losses)
    assert fit.predicted_ratio <= 0.6
    assert fit.predicted_ratio == pytest.approx(total(network, price, fit.plan.kept))
    assert fit.loss == pytest.approx(sum(losses[name][width] for name, width in fit.plan.kept.items()))
    wider = uniform(network, widths, price, 0.7).plan
    assert all(wider.kept[name] >= width for name, width in fit.plan.kept.items())
    assert uniform(network, widths, price, 1.0).plan == network.full_plan()
    with pytest.raises(Infeasible) as caught:
        uniform(network, widths, price, 0.01)
    assert caught.value.fastest_plan.kept == {name: allowed[0] for name, allowed in widths.items()}


@given(budget=st.floats(0.3, 1.0))
def test_uniform_keeps_one_ratio_and_uses_the_budget(budget: float) -> None:
    """All groups alike: their widths are at most one step apart, and no group could take the wider one."""
    network = assembled_chain(6)
    widths = {group.name: tuple(range(8, 72, 8)) for group in network.groups}
    price = bilinear(network, 0)
    fit = uniform(network, widths, price, budget)
    assert max(fit.plan.kept.values()) - min(fit.plan.kept.values()) <= 8
    assert fit.predicted_ratio <= budget * (1 + TOLERANCE)
    widest = max(fit.plan.kept.values())
    narrow = [name for name, width in fit.plan.kept.items() if width < widest]
    for name in narrow or ([] if widest == 64 else fit.plan.kept):
        wider = Plan(kept={**fit.plan.kept, name: fit.plan.kept[name] + 8})
        assert total(network, price, wider.kept) > budget


def test_neighbours_are_one_step_apart() -> None:
    near = neighbours(Plan(kept={"a": 8, "b": 24}), {"a": (8, 16), "b": (8, 24, 32)})
    assert [plan.kept for plan in near] == [{"a": 16, "b": 24}, {"a": 8, "b": 8}, {"a": 8, "b": 32}]
    with pytest.raises(ValueError, match="not among the allowed"):
        neighbours(Plan(kept={"a": 9}), {"a": (8, 16)})


def test_bad_losses_and_widths_are_named() -> None:
    network, widths, losses = random_problem(1, groups=4, options=3)
    price = bilinear(network, 1)
    with pytest.raises(ValueError, match="no loss for group g2 at width"):
        solve(network, widths, {**losses, "g2": {}}, price, latency_ratio=0.5)
    bad = {**losses, "g1": dict.fromkeys(losses["g1"], float("nan"))}
    with pytest.raises(ValueError, match="group g1"):
        solve(network, widths, bad, price, latency_ratio=0.5)
    with pytest.raises(ValueError, match="group g0"):
        solve(network, {**widths, "g0": (16, 8)}, losses, price, latency_ratio=0.5)
