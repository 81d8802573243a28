"""How the latency model's benchmark judges: networks of a known device, quiet and noisy, and rivals that get the same figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.latency_model import judge
from benchmarks.latency_nets import Measured
from host.search.granularity import Granularity, Role, Step, all_allowed_widths
from host.search.latency import probe_plans
from host.search.network import LayerKind, Plan
from tests.host.search.conftest import Device, mobile_network

GRANULARITY = Granularity(
    steps={(kind, role): Step(multiple=8, over_next={}, decided=True) for kind in LayerKind for role in Role}
)


def measured(*, noise: float = 0.005) -> Measured:
    device = Device(mobile_network(blocks=4), noise=noise, quirk=0.05)
    widths = all_allowed_widths(device.network, GRANULARITY)
    rng = np.random.default_rng(1)
    plans = [Plan(kept={name: int(rng.choice(each)) for name, each in widths.items()}) for _ in range(20)]
    return Measured(
        title="net",
        network=device.network,
        granularity=GRANULARITY,
        baseline_ns=1e6,
        probes=tuple(device.measure(plan) for plan in probe_plans(device.network, widths, 8, 0)),
        held_out=tuple(device.measure(plan) for plan in plans),
        widths_s=1.0,
        probes_s=2.0,
        held_out_s=3.0,
    )


def rows_of(found: Measured, **arguments: Any) -> dict[str, Any]:
    return {row.metric.removeprefix("net, onnxruntime: "): row for row in judge(found, "onnxruntime", (), **arguments)}


def test_a_known_device_is_predicted_and_the_rivals_get_the_same_figures() -> None:
    rows = rows_of(measured())
    assert rows["error, 8 probes: median"].met
    assert rows["error, 8 probes: 90th percentile"].met
    assert rows["median error, ours / MACs"].met
    assert rows["error, line over MACs: median"].value > rows["error, 8 probes: median"].value
    assert rows["error, line over MACs: median"].goal is None
    assert rows["device time, 8 probes"].value == 2.0


def test_a_missed_goal_is_missed_unless_noise_or_others_explain_it() -> None:
    found = measured()
    off = replace(
        found,
        held_out=tuple(replace(each, ratio=1.1 * each.ratio, ratio_high=1.2 * each.ratio) for each in found.held_out),
    )
    narrow = replace(
        off,
        held_out=tuple(
            replace(each, ratio_low=0.999 * each.ratio, ratio_high=1.001 * each.ratio) for each in off.held_out
        ),
    )
    name = "error, 8 probes: median"
    assert rows_of(narrow)[name].met is False
    busy = rows_of(narrow, others="others took 1.5 of 2 cores")[name]
    assert (busy.met, busy.reason) == (None, "others took 1.5 of 2 cores")
    wide = replace(
        off,
        held_out=tuple(replace(each, ratio_low=0.7 * each.ratio, ratio_high=1.3 * each.ratio) for each in off.held_out),
    )
    row = rows_of(wide)[name]
    assert row.met is None
    assert "only known within 30.0 %" in row.reason
