"""What earlier models on a device are worth to the next one, and how nodes become layer times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from device_agent.contract.measurement import NodeTime
from host.compress.learning import ENOUGH, FACT, FEWEST_PROBES, MOST_MODELS, keep_times, learn_latency, probe_of
from host.compress.node_shares import node_shares
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.results.store import ResultStore
from host.search.granularity import Granularity, Role, Step, all_allowed_widths
from host.search.latency import LatencyModel, probe_plans
from host.search.network import LayerKind, Plan
from host.search.probe import Probe
from tests.host.search.conftest import Device, mobile_network

GRANULARITY = Granularity(
    steps={(kind, role): Step(multiple=8, over_next={}, decided=True) for kind in LayerKind for role in Role}
)


class Timed(Device):
    """The synthetic device, whose probes come with the baseline's own layers and with what their unit lasts."""

    def measure(self, plan: Plan, *, nodes: bool = True) -> Probe:
        found = super().measure(plan, nodes=nodes)
        if not nodes:
            return found
        full = self.network.full_plan().kept
        unit_ns = self.total_ns(full) + self.profiler_ns * len(self.network.layers)
        own = {layer.name: (self.layer_ns(layer, full) + self.profiler_ns) / unit_ns for layer in self.network.layers}
        return replace(found, baseline_nodes=own, unit_ns=unit_ns)


class Stub:
    """As much of a session as learning needs; a probe is measured on the synthetic device."""

    def __init__(self, device: Device, store: ResultStore | None, name: str, *, nodes: bool = True) -> None:
        self.network, self.original, self.analysed = device.network, None, None
        self.observer = Observer()
        self.options = SimpleNamespace(probes=6, seed=0, model=name)
        self.pricing = SimpleNamespace(label="", size=None, prefix="", full_ratio=1.0)
        self.measuring = SimpleNamespace(store=store)
        self.probes: list[str] = []
        self._device, self._nodes = device, nodes

    def where(self) -> dict[str, Any]:
        return {"board": "synthetic"}

    def once(self, key: str, step: Callable[[], Any]) -> Any:
        return step()

    def probe(self, key: str, plan: Plan, build: Any) -> Probe:
        self.probes.append(key)
        return self._device.measure(plan, nodes=self._nodes)


def learned(stub: Stub) -> LatencyModel:
    widths = all_allowed_widths(stub.network, GRANULARITY)
    return learn_latency(cast(Any, stub), widths, GRANULARITY, 1e6)


def median_error(model: LatencyModel, device: Device) -> float:
    rng = np.random.default_rng(5)
    widths = all_allowed_widths(device.network, GRANULARITY)
    plans = [Plan(kept={name: int(rng.choice(each)) for name, each in widths.items()}) for _ in range(20)]
    return float(np.median([abs(model.predict(plan).ratio / device.ratio(plan) - 1) for plan in plans]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}") as opened:
        yield opened


def test_a_second_model_needs_fewer_variants(store: ResultStore) -> None:
    first = Stub(Timed(mobile_network(), noise=0.005, quirk=0.03), store, "first")
    learned(first)
    assert len(first.probes) == 6
    device = Timed(mobile_network(blocks=5, width=24, pixels=576), noise=0.005, quirk=0.03, seed=2)
    second = Stub(device, store, "second")
    model = learned(second)
    assert len(second.probes) == FEWEST_PROBES
    error = model.held_out_error()
    assert error is not None
    assert error.maximum <= ENOUGH
    assert median_error(model, device) < 0.015
    fact = store.get_device_fact('{"board": "synthetic"}', FACT)
    assert fact is not None
    assert [each["model"] for each in fact["models"]] == ["first", "second"]


def test_where_earlier_models_mislead_all_variants_are_measured(store: ResultStore) -> None:
    """Layers of the second model have habits of their own, by a factor of up to two."""
    learned(Stub(Timed(mobile_network(), noise=0.005, quirk=0.03), store, "first"))
    device = Timed(mobile_network(blocks=5, width=24, pixels=576), noise=0.04, quirk=0.6, seed=3)
    second = Stub(device, store, "second")
    model = learned(second)
    assert len(second.probes) == 6
    assert median_error(model, device) < 0.04


def test_without_node_times_nothing_is_kept_and_learning_works(store: ResultStore) -> None:
    device = Timed(mobile_network(blocks=4), noise=0.005)
    model = learned(Stub(device, store, "nets", nodes=False))
    assert store.get_device_fact('{"board": "synthetic"}', FACT) is None
    assert median_error(model, device) < 0.05
    assert median_error(learned(Stub(device, None, "nets")), device) < 0.05


def test_the_newest_models_are_kept(store: ResultStore) -> None:
    device = Timed(mobile_network(blocks=2))
    widths = all_allowed_widths(device.network, GRANULARITY)
    probes = [device.measure(plan) for plan in probe_plans(device.network, widths, 2, 0)]
    model = LatencyModel.fit(device.network, probes, 1e6, GRANULARITY)
    for name in ("a", "b", "c", "a", "d", "e"):
        keep_times(store, "board", name, model)
    fact = store.get_device_fact("board", FACT)
    assert fact is not None
    assert [each["model"] for each in fact["models"]] == ["c", "a", "d", "e"][-MOST_MODELS:]


def node(name: str, ns: float) -> NodeTime:
    return NodeTime(name=name, op_type="", median_ns=ns, share=0.1, runs=10)


def exported(*layers: str) -> ExportedModel:
    names = {layer: layer for layer in layers}
    return ExportedModel(
        path=Path("x.onnx"),
        input_name="x",
        output_name="y",
        sha256="",
        size_bytes=1,
        layer_nodes=names,
        layer_names=names,
    )


def shares(candidate: Sequence[NodeTime], baseline: Sequence[NodeTime]) -> Any:
    return node_shares(candidate, baseline, (exported("a", "b"), exported("a", "b")))


def test_nodes_that_follow_a_layer_count_to_it() -> None:
    baseline = [node("in", 100), node("a", 400), node("sum", 50), node("relu", 50), node("b", 400)]
    found = shares([node("a", 200), node("sum", 100), node("b", 100), node("b", 50)], baseline)
    assert found.unit_ns == 1000
    assert found.nodes == pytest.approx({"a": 0.3, "b": 0.15})
    assert found.other == 0
    assert found.baseline_nodes == pytest.approx({"a": 0.5, "b": 0.4})
    assert found.followers == {"a": 2, "b": 0}
    assert shares([node("a", 1)], [node("other", 10)]) is None


def test_a_baseline_in_another_precision_tells_nothing_of_the_layers() -> None:
    found = shares([node("a", 200), node("b", 100)], [node("a", 400), node("sum", 100), node("b", 500)])
    value = {
        "kept": {"g": 8},
        "ratio": 0.5,
        "low": None,
        "high": None,
        "nodes": {},
        "other": 0.0,
        "shares": found.to_dict(),
    }
    same, other = probe_of(value, same_files=True), probe_of(value, same_files=False)
    assert same.baseline_nodes == {"a": 0.5, "b": 0.5}
    assert same.followers == {"a": 1, "b": 0}
    assert (other.baseline_nodes, other.followers) == (None, None)
    assert same.nodes == other.nodes == {"a": 0.2, "b": 0.1}
    assert same.ratio_low < 0.5 < same.ratio_high
    older = probe_of({**value, "shares": None, "nodes": {"a": 0.1}}, same_files=True)
    assert older.nodes == {"a": 0.1}
