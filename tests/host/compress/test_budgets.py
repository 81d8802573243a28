"""Compressions under a memory budget, and without whole blocks, on a device of known prices. Nothing here asserts on a time."""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from small_nets import randomised
from torch import nn

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import Measurement
from device_agent.contract.settings import Settings
from host.cli.compress_view import show
from host.compress.energy_budget import judge
from host.compress.measuring import Measuring
from host.compress.observer import Observer
from host.compress.options import CompressOptions, EnergyBudget, LatencyTarget
from host.compress.pipeline import compress
from host.compress.rounds import Chooser, Round
from host.compress.session import Session
from host.compress.subject import Subject
from host.compress.surgery import check_widths, load_compressed, prune, save_compressed
from host.datasets.dataset import Dataset3
from host.search.planner import Infeasible, solve
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.registry import ZooModel
from tests.support.bars import bars
from tests.support.priced_device import priced_device

SHAPE = (1, 12, 12)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/compress.schema.json").read_text())


def residual() -> nn.Module:
    return randomised(CifarResNet(depth=8, width=1.0, in_channels=1, num_classes=3, input_size=12))


@pytest.fixture
def subject() -> Subject:
    data = Dataset3(
        name="bars",
        num_classes=3,
        train=bars(SHAPE, 96, 0),
        validation=bars(SHAPE, 30, 1),
        test=bars(SHAPE, 30, 2),
        normalisation=None,
    )
    return Subject(model=ZooModel(name="bars", module=residual(), input_shape=SHAPE, num_classes=3), data=data)


@pytest.fixture
def measuring() -> Measuring:
    return Measuring(priced_device(), Settings(threads=1), None)


def options(**changes: Any) -> CompressOptions:
    values: dict[str, Any] = {
        "model": "bars",
        "data": "bars",
        "target": LatencyTarget(ratio=0.6),
        "epochs": 2,
        "probes": 3,
        "candidates": 4,
        "threads": 1,
        "criterion": "l1",
        "precision": "float32",
        **changes,
    }
    return CompressOptions(**values)


def test_a_memory_budget_is_planned_for_and_one_that_is_too_small_is_refused(
    subject: Subject, measuring: Measuring, tmp_path: Path
) -> None:
    peak = measuring.alone(
        Session(options(), subject, measuring, tmp_path / "first", Observer()).baseline, "baseline"
    ).result.artifacts[0].peak_memory_bytes  # fmt: skip
    assert peak is not None
    budget = 1_000_000 + (peak - 1_000_000) // 3
    record = compress(
        options(max_memory_bytes=budget, target=LatencyTarget(ratio=0.9)),
        subject,
        measuring,
        out=tmp_path / "out",
        dry_run=True,
    )
    session = Session(
        options(max_memory_bytes=budget, target=LatencyTarget(ratio=0.9)),
        subject,
        measuring,
        tmp_path / "out",
        Observer(),
    )
    assert session._peak(plan_in(record)) <= budget
    # Latency alone would have left more.
    assert record["measured_ratio"] < 0.9 * 0.97
    with pytest.raises(Infeasible, match="raise the memory budget"):
        compress(options(max_memory_bytes=1_010_000), subject, measuring, out=tmp_path / "least", dry_run=True)


def plan_in(record: dict[str, Any]) -> Any:
    from host.search.network import Plan

    return Plan(kept={name: group["kept"] for name, group in record["plan"].items()})


def test_blocks_are_dropped_where_that_costs_least_and_stay_dropped(
    subject: Subject, measuring: Measuring, tmp_path: Path
) -> None:
    """A branch that adds nothing is the first to go, in the first of two rounds already."""
    with torch.no_grad():
        subject.model.module.layer1[0].bn2.weight.zero_()
        subject.model.module.layer1[0].bn2.bias.zero_()
    session = Session(options(drop_blocks=True), subject, measuring, tmp_path / "out", Observer())
    widths, model = session.learned(1e6)
    state = session.start()
    for number, ratio in enumerate((0.75, 0.55)):
        wanted = Round(name=f"round {number}", ratio=ratio, window=(0.1, 1.0), tries=2, epochs=1)
        found = Chooser(session, state, wanted, model, widths).candidates(("latency",))[0]
        assert found.found.best.ratio <= ratio
        state = found.state
        assert state.plan.kept["layer1.0.conv1"] == 0
        check_widths(session.analysed, state.module, state.plan)
    exported = session.export(state.module, "model")
    assert not {"layer1.0.conv1", "layer1.0.conv2"} & set(exported.layer_nodes.values())
    save_compressed(state.module, tmp_path / "model.pt", kept=state.kept)
    loaded = load_compressed(tmp_path / "model.pt", residual)
    assert loaded.plan == state.plan
    images = torch.from_numpy(subject.data.test.images[:8])
    with torch.no_grad():
        torch.testing.assert_close(loaded.module.eval()(images), state.module.eval()(images))
    outputs = measuring.outputs(exported, images.numpy())
    np.testing.assert_allclose(outputs, loaded.module(images).detach().numpy(), atol=1e-3)


def test_a_dry_run_shows_the_front_and_what_dropping_would_cost(
    subject: Subject, measuring: Measuring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = compress(
        options(drop_blocks=True, target=LatencyTarget(ratio=0.8)),
        subject,
        measuring,
        out=tmp_path / "out",
        dry_run=True,
        front=(0.8, 0.6, 0.01),
    )
    fields = {name: record[name] for name in ("plan", "groups", "layers", "front")}
    jsonschema.validate(json.loads(json.dumps(fields)), {**SCHEMA, "required": []})
    (group,) = [each for each in record["groups"] if each["name"] == "layer1.0.conv1"]
    assert "0" in group["losses"]
    slow, fast = record["front"]  # nothing reaches 0.01
    assert 0.6 < slow["latency_ratio"] <= 0.8 * (1 + 1e-6)
    assert fast["latency_ratio"] <= 0.6 * (1 + 1e-6)
    assert slow["loss"] < fast["loss"]
    for name in ("parameters", "size_bytes", "memory_bytes"):
        assert fast[name] < slow[name]
    assert slow["size_bytes"] < record["baseline"]["size_bytes"]
    assert slow["peak_memory_bytes"] is None
    show(record)
    assert "planned, not measured" in capsys.readouterr().out


def test_a_target_may_be_about_the_90th_percentile(subject: Subject, measuring: Measuring, tmp_path: Path) -> None:
    target = LatencyTarget(ratio=0.8, percentile=90)
    record = compress(options(target=target, method="uniform"), subject, measuring, out=tmp_path / "out", dry_run=True)
    assert record["target"]["percentile"] == 90
    session = Session(options(target=target, method="uniform"), subject, measuring, tmp_path / "out", Observer())
    plan = plan_in(record)
    found = measuring.compare(
        session.baseline,
        session.variant(
            prune(session.analysed, session.original, {name: range(count) for name, count in plan.kept.items()}), plan
        ),
        "again",
    )
    assert record["measured_ratio"] == pytest.approx(found.at(90).ratio)
    assert found.at(90).ratio != found.ratio.ratio


def test_an_energy_budget_needs_a_meter(subject: Subject, measuring: Measuring, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no sensor of power or energy"):
        compress(options(max_energy=EnergyBudget(ratio=0.5)), subject, measuring, out=tmp_path / "out", dry_run=True)


def test_an_energy_budget_is_planned_for_and_judged(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energy follows the time here, and a baseline's run takes 2 mJ."""
    device = priced_device()
    meter = Channel(name="total", quantity=Quantity.POWER, site="board", source="a test")
    measuring = Measuring(
        dataclasses.replace(device, info=dataclasses.replace(device.info, channels=(meter,))), Settings(threads=1), None
    )
    base: list[float] = []

    def joules(measurement: Measurement, _channels: Any) -> dict[str, Any]:
        median = statistics.median(measurement.latencies_ns())
        base.append(median)
        return {"joules": 2e-3 * median / base[0], "deviation": 0.01, "unavailable": None}

    monkeypatch.setattr("host.compress.energy_budget.energy_per_run", joules)
    monkeypatch.setattr("host.compress.energy_learning.energy_per_run", joules)
    wanted = options(max_energy=EnergyBudget(joules=1.2e-3), target=LatencyTarget(ratio=0.9), method="uniform")
    session = Session(wanted, subject, measuring, tmp_path / "out", Observer())
    widths, model = session.learned(1e6)
    assert session.energy_ratio == pytest.approx(0.6, rel=0.01)
    losses = {name: {width: -float(width) for width in each} for name, each in widths.items()}
    plan = solve(session.network, widths, losses, model, latency_ratio=0.9, budgets=session.budgets).plan
    assert session.energy.predict(plan).ratio <= 0.6 * 1.01 < model.predict(solve(
        session.network, widths, losses, model, latency_ratio=0.9).plan).ratio  # fmt: skip
    kept = {name: range(count) for name, count in plan.kept.items()}
    small = session.export(prune(session.analysed, session.original, kept), "small")
    found, problem = judge(session, small)
    assert problem is None or found["ratio"] > 0.6
    assert found["ratio"] == pytest.approx(0.6, rel=0.1)
    over, problem = judge(session, session.baseline)
    assert over["ratio"] == pytest.approx(1.0, rel=0.01)
    assert problem == "a run takes 2 mJ, 1.2 mJ are allowed"
