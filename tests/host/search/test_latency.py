"""The latency model on a synthetic device whose truth is known, and is not of the model's own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from host.search.granularity import Granularity, LayerKind, Role, Step, all_allowed_widths
from host.search.latency import LatencyModel, Probe, macs_line, probe_plans
from host.search.network import Network, Plan
from host.search.planner import slowest_within, solve
from host.search.solution import total


@pytest.fixture
def network(make_mobile: Callable[..., Network]) -> Network:
    return make_mobile()


@pytest.fixture
def widths(network: Network, granularity: Callable[[int], Granularity]) -> dict[str, tuple[int, ...]]:
    return all_allowed_widths(network, granularity(8))


def new_plans(widths: Mapping[str, tuple[int, ...]], count: int, seed: int) -> list[Plan]:
    rng = np.random.default_rng(seed)
    return [Plan(kept={name: int(rng.choice(each)) for name, each in widths.items()}) for _ in range(count)]


def errors(predict: Callable[[Plan], float], device: Any, plans: list[Plan]) -> list[float]:
    return [abs(predict(plan) / device.ratio(plan) - 1) for plan in plans]


@pytest.mark.parametrize("nodes", [True, False])
def test_beats_the_line_over_macs(network: Network, widths: Any, make_device: Any, nodes: bool) -> None:
    """On average over devices, at four probes: by five times with node times, by two without."""
    ours, line = [], []
    for seed in range(4):
        device = make_device(network, seed=seed)
        probes = [device.measure(plan, nodes=nodes) for plan in probe_plans(network, widths, 4, seed)]
        model = LatencyModel.fit(network, probes, baseline_ns=1e6)
        rival = macs_line(network, probes)
        plans = new_plans(widths, 30, seed)
        ours.append(np.median(errors(lambda plan, m=model: m.predict(plan).ratio, device, plans)))
        line.append(np.median(errors(lambda plan, r=rival: r.predict(network.macs(plan.kept)), device, plans)))
    assert np.mean(ours) < np.mean(line) / (5 if nodes else 2)
    assert np.mean(ours) < (0.01 if nodes else 0.02)


def test_drift_cancels(network: Network, widths: Any, make_device: Any) -> None:
    """Windows that ran at e^(+-1.5) of the speed leave the model as good as quiet ones."""
    worst = []
    for drift in (0.0, 1.5):
        device = make_device(network, seed=3, drift=drift)
        probes = [device.measure(plan) for plan in probe_plans(network, widths, 6, 1)]
        model = LatencyModel.fit(network, probes, baseline_ns=1e6)
        worst.append(np.median(errors(lambda p, m=model: m.predict(p).ratio, device, new_plans(widths, 30, 2))))
    assert worst[1] == pytest.approx(worst[0], rel=1e-6, abs=1e-9)


def test_reported_error_is_held_out_and_covers_new_plans(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=5)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 8, 5)]
    model = LatencyModel.fit(network, probes, baseline_ns=2e6)
    reported = model.held_out_error()
    assert reported is not None
    assert reported.count == 8
    assert 0 < reported.median <= reported.maximum < 0.05
    rival = macs_line(network, probes).held_out_error()
    assert rival is not None
    assert reported.median < rival.median
    inside = 0
    for plan in new_plans(widths, 50, 6):
        guess = model.predict(plan)
        assert guess.low is not None
        assert guess.high is not None
        inside += guess.low <= device.ratio(plan) <= guess.high
    assert inside >= 40


def test_a_single_probe_has_no_held_out_error(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=1)
    first = device.measure(probe_plans(network, widths, 1, 0)[0])
    model = LatencyModel.fit(network, [first, first], baseline_ns=1e6)  # one plan, measured twice
    assert model.held_out_error() is None
    guess = model.predict(first.plan)
    assert (guess.low, guess.high) == (None, None)


@pytest.mark.parametrize("nodes", [True, False])
def test_updates_improve(network: Network, widths: Any, make_device: Any, nodes: bool) -> None:
    before, after = [], []
    for seed in range(4):
        device = make_device(network, seed=seed)
        start = [device.measure(plan, nodes=nodes) for plan in probe_plans(network, widths, 2, seed)]
        model = LatencyModel.fit(network, start, baseline_ns=1e6)
        plans = new_plans(widths, 30, seed)
        before.append(np.median(errors(lambda p, m=model: m.predict(p).ratio, device, plans)))
        for plan in new_plans(widths, 5, 100 + seed):
            model = model.updated(device.measure(plan, nodes=nodes))
        assert len(model.probes) == 7
        after.append(np.median(errors(lambda p, m=model: m.predict(p).ratio, device, plans)))
    assert np.mean(after) < (0.9 if nodes else 0.75) * np.mean(before)


def test_corrections_learn_a_slow_layer(network: Network, widths: Any, make_device: Any) -> None:
    """One layer that runs at a third of its kind's speed is priced as such, not spread over the kind."""
    device = make_device(network, seed=2, quirk=0.0)
    device.quirks["b3.expand"] = 3.0
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 6, 0)]
    model = LatencyModel.fit(network, probes, baseline_ns=1e6)
    full = network.full_plan().kept
    baseline = device.total_ns(full)
    for name in ("b3.expand", "b4.expand"):
        layer = next(each for each in network.layers if each.name == name)
        share = model.price(layer, *layer.widths(full)) - model.estimate.overhead / len(network.layers)
        assert share == pytest.approx(device.layer_ns(layer, full) / baseline, rel=0.2)


def test_prices_add_up_to_the_prediction(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=4)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 4, 0)]
    for some in (probes, [replace(probe, nodes=None, other=None) for probe in probes]):
        model = LatencyModel.fit(network, some, baseline_ns=1e6)
        for plan in new_plans(widths, 5, 0):
            assert total(network, model.price, plan.kept) == pytest.approx(model.predict(plan).ratio)


@pytest.mark.parametrize("nodes", [True, False])
def test_variants_in_another_precision_than_the_baseline(
    network: Network, widths: Any, make_device: Any, nodes: bool
) -> None:
    """If all of them, the full plan too, take 0.7 of the time, then so do all predictions."""
    device = make_device(network, seed=2)
    probes = [device.measure(plan, nodes=nodes) for plan in probe_plans(network, widths, 6, 0)]
    faster = [
        replace(each, ratio=0.7 * each.ratio, ratio_low=0.7 * each.ratio_low, ratio_high=0.7 * each.ratio_high)
        for each in probes
    ]
    model = LatencyModel.fit(network, probes[:5], baseline_ns=1e6).updated(probes[5])
    other = LatencyModel.fit(network, faster[:5], baseline_ns=1e6, full_ratio=0.7).updated(faster[5])
    for plan in new_plans(widths, 5, 0):
        assert other.predict(plan).ratio == pytest.approx(0.7 * model.predict(plan).ratio)
        assert total(network, other.price, plan.kept) == pytest.approx(other.predict(plan).ratio)
    assert other.errors == pytest.approx(model.errors)


def test_extrapolation_is_named(network: Network, widths: Any, make_device: Any, granularity: Any) -> None:
    device = make_device(network, seed=4)
    inner = {name: each[2:] for name, each in widths.items()}
    probes = [device.measure(plan) for plan in probe_plans(network, inner, 4, 0)]
    model = LatencyModel.fit(network, probes, baseline_ns=1e6, granularity=granularity(8))
    full = network.full_plan()
    assert model.predict(full).extrapolated == ()
    below = Plan(kept={**full.kept, "h3": widths["h3"][0]})
    assert model.predict(below).extrapolated == ("b3.expand", "b3.depth", "b3.project")
    off = Plan(kept={**full.kept, "h3": full.kept["h3"] - 3})
    assert model.predict(off).extrapolated == ("b3.expand", "b3.depth", "b3.project")


def test_a_width_off_the_multiples_is_priced_as_the_next_one(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=4)
    fast = Step(multiple=8, over_next={1: 1.5}, decided=True)
    granularity = Granularity(steps={(kind, role): fast for kind in LayerKind for role in Role})
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 4, 0)]
    model = LatencyModel.fit(network, probes, baseline_ns=1e6, granularity=granularity)
    layer = next(each for each in network.layers if each.name == "b3.expand")
    at, near, off = (model.price(layer, 48, width) for width in (64, 62, 61))
    assert near == pytest.approx(at)
    assert off > 1.2 * at


def test_one_bad_pair_hardly_moves_the_total(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=6)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 8, 0)]
    worse = [replace(probes[3], ratio=probes[3].ratio * 1.5, ratio_high=probes[3].ratio * 2), *probes]
    del worse[4]
    plans = new_plans(widths, 20, 0)
    model = LatencyModel.fit(network, worse, baseline_ns=1e6)
    assert np.median(errors(lambda plan: model.predict(plan).ratio, device, plans)) < 0.06


def test_missing_nodes_and_bad_probes(network: Network, widths: Any, make_device: Any) -> None:
    device = make_device(network, seed=7)
    plans = probe_plans(network, widths, 4, 0)
    measured = [device.measure(plan) for plan in plans]
    # The runtime merged the head into something else, and one probe came without a profile.
    partial = [
        replace(probe, nodes={name: time for name, time in (probe.nodes or {}).items() if name != "head"})
        for probe in measured[:3]
    ]
    model = LatencyModel.fit(network, [*partial, replace(measured[3], nodes=None, other=None)], baseline_ns=1e6)
    assert np.median(errors(lambda p: model.predict(p).ratio, device, new_plans(widths, 20, 1))) < 0.02
    with pytest.raises(ValueError, match="nowhere"):
        LatencyModel.fit(network, [replace(measured[0], nodes={"nowhere": 0.1})], baseline_ns=1e6)
    with pytest.raises(ValueError, match="narrower than the baseline"):
        LatencyModel.fit(network, [device.measure(network.full_plan())], baseline_ns=1e6)
    with pytest.raises(ValueError, match="ratio"):
        Probe(plan=plans[0], ratio=0.5, ratio_low=0.6, ratio_high=0.7)


def test_probe_plans_are_a_latin_hypercube(network: Network, widths: Any) -> None:
    even = {name: tuple(range(8, 72, 8)) for name in widths}
    plans = probe_plans(network, even, 8, 0)
    assert plans == probe_plans(network, even, 8, 0)
    assert plans != probe_plans(network, even, 8, 1)
    assert set(plans[0].kept.values()) == {8}
    for name, allowed in even.items():
        assert sorted(plan.kept[name] for plan in plans) == list(allowed)
    # Fewer widths than plans: no plan twice, and never the baseline.
    few = probe_plans(network, {name: each[-2:] for name, each in widths.items()}, 8, 0)
    assert len({plan.key() for plan in few}) == len(few)
    assert network.full_plan() not in few


def test_plans_of_the_model_hit_their_latency(network: Network, widths: Any, make_device: Any) -> None:
    """From four probes to a plan: what the planner promises under the model is what the device then takes."""
    device = make_device(network, seed=8)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 4, 0)]
    model = LatencyModel.fit(network, probes, baseline_ns=1e6)
    losses = {
        group.name: {width: (1 - width / group.channels) ** 2 for width in widths[group.name]}
        for group in network.groups
    }
    for target in (0.6, 0.35):
        plan = solve(network, widths, losses, model, latency_ratio=target).plan
        assert device.ratio(plan) == pytest.approx(target, rel=0.03)
    assert device.ratio(slowest_within(network, widths, model, latency_ratio=0.4).plan) == pytest.approx(0.4, rel=0.03)


def test_a_wide_interval_counts_less(network: Network, widths: Any, make_device: Any) -> None:
    """Three of eight windows were disturbed and say so by their intervals; the total follows the other
    five.
    """
    device = make_device(network, seed=9)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 8, 0)]
    plans = new_plans(widths, 20, 0)
    for nodes in (True, False):
        some = probes if nodes else [replace(probe, nodes=None, other=None) for probe in probes]
        off = [replace(each, ratio=0.7 * each.ratio, ratio_low=0.4 * each.ratio) for each in some[:3]]
        model = LatencyModel.fit(network, [*off, *some[3:]], baseline_ns=1e6)
        assert np.median(errors(lambda plan, m=model: m.predict(plan).ratio, device, plans)) < 0.03
