"""The energy model on a synthetic board whose power depends on the kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from host.search.energy import EnergyModel, EnergyProbe
from host.search.granularity import Granularity, all_allowed_widths
from host.search.latency import LatencyModel, probe_plans
from host.search.network import LayerKind, Network, Plan
from host.search.solution import total

#: Watts while a kind of layer runs.
POWERS = {LayerKind.CONV: 6.0, LayerKind.POINTWISE: 5.0, LayerKind.DEPTHWISE: 2.5, LayerKind.LINEAR: 3.0}
IDLE_W = 3.5


@pytest.fixture
def learned(
    make_mobile: Callable[..., Network], make_device: Any, granularity: Callable[[int], Granularity]
) -> tuple[Network, Any, LatencyModel, dict[str, tuple[int, ...]]]:
    network = make_mobile()
    widths = all_allowed_widths(network, granularity(8))
    device = make_device(network, seed=3)
    probes = [device.measure(plan) for plan in probe_plans(network, widths, 4, 0)]
    return network, device, LatencyModel.fit(network, probes, baseline_ns=1e6), widths


def energy(device: Any, plan: Mapping[str, int]) -> float:
    layers = sum(POWERS[layer.kind] * device.layer_ns(layer, plan) for layer in device.network.layers)
    return layers + IDLE_W * device.other_ns(plan)


def measured(device: Any, plan: Plan, rng: np.random.Generator) -> EnergyProbe:
    truth = energy(device, plan.kept) / energy(device, device.network.full_plan().kept)
    return EnergyProbe(plan=plan, ratio=truth * float(np.exp(0.01 * rng.normal())), deviation=0.01)


def test_a_few_plans_tell_what_kinds_of_layers_draw(learned: Any) -> None:
    network, device, latency, widths = learned
    rng = np.random.default_rng(0)
    probes = [measured(device, plan, rng) for plan in probe_plans(network, widths, 4, 1)]
    model = EnergyModel.fit(latency, probes)
    plans = [Plan(kept={name: int(rng.choice(each)) for name, each in widths.items()}) for _ in range(30)]
    unit = energy(device, network.full_plan().kept)
    truth = [energy(device, plan.kept) / unit for plan in plans]
    off = np.median([abs(model.predict(plan).ratio / true - 1) for plan, true in zip(plans, truth, strict=True)])
    by_time = np.median([abs(latency.predict(plan).ratio / true - 1) for plan, true in zip(plans, truth, strict=True)])
    assert off < 0.02
    assert off < by_time / 2
    assert model.powers[LayerKind.POINTWISE] > 1 > model.powers[LayerKind.DEPTHWISE]
    reported = model.held_out_error()
    assert reported is not None
    assert reported.count == 4
    assert model.predict(network.full_plan()).ratio == pytest.approx(1, abs=0.01)
    assert total(network, model.price, plans[0].kept) == pytest.approx(model.predict(plans[0]).ratio)


def test_without_a_measured_plan_energy_follows_the_time(learned: Any) -> None:
    _, _, latency, widths = learned
    model = EnergyModel.fit(latency, [])
    plan = Plan(kept={name: each[0] for name, each in widths.items()})
    assert model.predict(plan).ratio == pytest.approx(latency.predict(plan).ratio)
    assert model.held_out_error() is None
    assert model.predict(plan).low is None


def test_updates_and_other_precisions_move_the_level(learned: Any) -> None:
    network, device, latency, widths = learned
    rng = np.random.default_rng(0)
    probes = [measured(device, plan, rng) for plan in probe_plans(network, widths, 3, 1)]
    model = EnergyModel.fit(latency, probes[:2]).updated(probes[2])
    assert model == EnergyModel.fit(latency, probes)
    halved = [EnergyProbe(plan=each.plan, ratio=each.ratio / 2, deviation=each.deviation) for each in probes]
    other = EnergyModel.fit(latency, halved, full_ratio=0.5)
    assert other.predict(network.full_plan()).ratio == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="energy ratio"):
        EnergyProbe(plan=network.full_plan(), ratio=0.0, deviation=0.1)
