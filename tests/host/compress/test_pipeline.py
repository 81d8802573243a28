"""The whole compression with a net and data small enough for seconds, once on a real agent, else on a device of known prices.

Nothing here asserts on a time.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from device_agent.contract.settings import Settings
from host.compress.journal import Journal, JournalMismatch
from host.compress.measuring import Durations, Measuring
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import compress
from host.compress.rounds import Chooser, Round
from host.compress.session import Session, State
from host.compress.subject import Subject
from host.compress.surgery import check_widths, load_compressed, plan_of, prune
from host.datasets.dataset import Dataset3, Split
from host.fleet.client import AgentClient
from host.fleet.devices import Device
from host.results.store import ResultStore
from host.search.latency import LatencyModel
from host.search.network import Plan
from host.search.planner import Infeasible
from host.search.probe import Probe
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.registry import ZooModel
from tests.support.bars import bars
from tests.support.priced_device import priced_device

SHAPE = (1, 12, 12)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/compress.schema.json").read_text())


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()


@pytest.fixture
def subject() -> Subject:
    data = Dataset3(
        name="bars",
        num_classes=3,
        train=bars(SHAPE, 192, 0),
        validation=bars(SHAPE, 60, 1),
        test=bars(SHAPE, 90, 2),
        normalisation=None,
    )
    return Subject(model=ZooModel(name="bars", module=net(), input_shape=SHAPE, num_classes=3), data=data)


@pytest.fixture
def device() -> Device:
    return priced_device()


@pytest.fixture
def real_device(agent: Any) -> Iterator[Device]:
    with AgentClient(agent.address) as client:
        yield Device(name="bench", client=client, info=client.describe())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}") as opened:
        yield opened


def measuring_on(device: Device, store: ResultStore) -> Measuring:
    short = Durations(
        alone_s=0.1, pair_s=0.1, longest_pair_s=0.1, longest_turns_s=0.1, final_s=0.2, longest_final_s=0.2, layer_s=0.02
    )
    return Measuring(device, Settings(threads=1), store, durations=short)


def options(**changes: Any) -> CompressOptions:
    values: dict[str, Any] = {
        "model": "bars",
        "data": "bars",
        "target": LatencyTarget(ratio=0.6),
        "epochs": 2,
        "probes": 3,
        "candidates": 4,
        "threads": 1,
        "precision": "float32",  # tests/host/compress/test_precision.py tries the others
        **changes,
    }
    return CompressOptions(**values)


def test_a_network_is_compressed_on_a_real_agent_and_a_second_call_repeats_nothing(
    subject: Subject, real_device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = measuring_on(real_device, store)
    wanted = options(target=LatencyTarget(ratio=0.75), epochs=1, probes=2)
    record = compress(wanted, subject, measuring, out=tmp_path / "out")

    before, after = record["baseline"], record["result"]
    assert after["parameters"] < before["parameters"]
    assert after["macs"] < before["macs"]
    assert after["size_bytes"] < before["size_bytes"]
    assert after["test_images"] == 90
    assert after["peak_memory_bytes"] > 0
    assert record["met"] == (after["latency_ratio"] <= record["target"]["latency_ratio"])
    assert record["met"] or record["reason"]
    assert all(0 < group["kept"] <= group["channels"] for group in record["plan"].values())
    assert any(group["kept"] < group["channels"] for group in record["plan"].values())
    assert record["device_seconds"] > 0
    jsonschema.validate(json.loads(json.dumps(record)), SCHEMA)
    assert json.loads((tmp_path / "out" / "record.json").read_text()) == json.loads(json.dumps(record))

    # The checkpoint, loaded without an analysis, computes what the exported file computes.
    loaded = load_compressed(Path(record["artifacts"]["checkpoint"]), net).module.eval()
    images = subject.data.test.images[:4]
    session = onnxruntime.InferenceSession(record["artifacts"]["onnx"], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    exported = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    np.testing.assert_allclose(loaded(torch.from_numpy(images)).detach().numpy(), exported, atol=1e-4)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished measurement ran again")

    monkeypatch.setattr(real_device.client, "measure", refuse)
    fresh = Subject(model=ZooModel(name="bars", module=net(), input_shape=SHAPE, num_classes=3), data=subject.data)
    again = compress(wanted, fresh, measuring_on(real_device, store), out=tmp_path / "out")
    assert again == json.loads(json.dumps(record))


class Killed(BaseException):
    """The process ends here."""


def test_a_run_that_is_killed_again_and_again_ends_all_the_same(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, left = Journal._append, [0]

    def append_and_die(journal: Journal, entry: dict[str, Any]) -> None:
        append(journal, entry)
        if "key" in entry:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    monkeypatch.setattr(Journal, "_append", append_and_die)
    record = None
    starts = 0
    while record is None:
        starts += 1
        assert starts < 60
        left[0] = 3
        fresh = Subject(model=ZooModel(name="bars", module=net(), input_shape=SHAPE, num_classes=3), data=subject.data)
        with contextlib.suppress(Killed):
            record = compress(options(), fresh, measuring_on(device, store), out=tmp_path / "out")
    steps = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()[1:]]
    keys = [step["key"] for step in steps]
    assert starts == len(keys) // 3 + 1
    assert len(set(keys)) == len(keys)
    on_device = [step["value"] for step in steps if isinstance(step["value"], dict) and "device_ns" in step["value"]]
    assert on_device
    assert record["device_seconds"] == pytest.approx(sum(value["device_ns"] for value in on_device) / 1e9)
    jsonschema.validate(json.loads(json.dumps(record)), SCHEMA)


def test_a_dry_run_plans_and_trains_nothing(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.compress.finetune.train_on", None)
    before = {name: value.clone() for name, value in subject.model.module.state_dict().items()}
    measuring = measuring_on(device, store)
    record = compress(options(), subject, measuring, out=tmp_path / "out", dry_run=True)
    assert record["result"] is None
    assert record["met"] is None
    assert record["measured_ratio"] < 1
    jsonschema.validate(json.loads(json.dumps(record)), SCHEMA)
    after = subject.model.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_target_below_what_the_device_can_do_says_what_it_can(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path
) -> None:
    measuring = measuring_on(device, store)
    with pytest.raises(Infeasible, match=r"choose a (larger )?target"):
        compress(options(target=LatencyTarget(ratio=0.01)), subject, measuring, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.training"))  # said before hours were spent


def test_a_size_budget_is_kept_and_one_that_is_too_small_is_refused(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path
) -> None:
    measuring = measuring_on(device, store)
    size = Session(options(), subject, measuring, tmp_path / "first", Observer()).baseline.path.stat().st_size
    budget = size // 3
    record = compress(options(max_size_bytes=budget), subject, measuring, out=tmp_path / "out", dry_run=True)
    widths = {name: group["kept"] for name, group in record["plan"].items()}
    session = Session(options(max_size_bytes=budget), subject, measuring, tmp_path / "out", Observer())
    kept = {name: range(width) for name, width in widths.items()}
    small = session.export(prune(session.analysed, session.original, kept), "small")
    assert small.path.stat().st_size <= budget
    with pytest.raises(Infeasible, match="raise the size budget"):
        compress(options(max_size_bytes=1000), subject, measuring, out=tmp_path / "least", dry_run=True)


def test_other_weights_are_no_continuation(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path
) -> None:
    measuring = measuring_on(device, store)
    compress(options(), subject, measuring, out=tmp_path / "out", dry_run=True)
    with torch.no_grad():
        next(subject.model.module.parameters())[0] += 1
    with pytest.raises(JournalMismatch, match=r"other options: weights \("):
        compress(options(), subject, measuring, out=tmp_path / "out")


def test_the_test_images_decide_nothing(subject: Subject, device: Device, store: ResultStore, tmp_path: Path) -> None:
    poisoned = Dataset3(
        name="bars",
        num_classes=3,
        train=subject.data.train,
        validation=subject.data.validation,
        test=Split(images=np.full((3, *SHAPE), np.nan, dtype=np.float32), labels=np.arange(3, dtype=np.int64)),
        normalisation=None,
    )
    measuring = measuring_on(device, store)
    record = compress(
        options(), Subject(model=subject.model, data=poisoned), measuring, out=tmp_path / "out", dry_run=True
    )
    assert record["plan"]


def test_a_final_ratio_outside_the_window_has_to_repeat(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, finals = Measuring.compare, []

    def disturbed(self: Measuring, *arguments: Any, final: bool = False, longer: float = 1.0, **more: Any) -> Any:
        found = compare(self, *arguments, final=final, longer=longer, **more)
        if final:
            finals.append((longer, found.ratio.ratio))
            if longer == 1.0:
                found = dataclasses.replace(found, ratio=dataclasses.replace(found.ratio, ratio=0.99))
        return found

    monkeypatch.setattr(Measuring, "compare", disturbed)
    wanted = options(target=LatencyTarget(ratio=0.75), epochs=1)
    record = compress(wanted, subject, measuring_on(device, store), out=tmp_path / "out")
    assert [longer for longer, _ in finals[:2]] == [1.0, 2.0]
    assert record["result"]["latency_ratio"] in [ratio for longer, ratio in finals if longer == 2.0]


def test_residual_streams_with_padded_shortcuts_are_compressed(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path
) -> None:
    def residual() -> nn.Module:
        torch.manual_seed(0)
        return CifarResNet(depth=8, width=2.0, in_channels=1, num_classes=3, input_size=12).eval()

    model = ZooModel(name="resnet8", module=residual(), input_shape=SHAPE, num_classes=3)
    padded = Subject(model=model, data=subject.data)
    record = compress(
        options(model="resnet8", target=LatencyTarget(ratio=0.75)),
        padded,
        measuring_on(device, store),
        out=tmp_path / "out",
    )
    assert {"conv1", "layer2.0.conv2", "layer3.0.conv2"} <= set(record["plan"])
    assert {each["layer"] for each in record["left_alone"]} == {"linear"}
    loaded = load_compressed(tmp_path / "out" / "model.pt", residual)
    narrow = {name: entry["kept"] for name, entry in record["plan"].items() if entry["kept"] < entry["channels"]}
    assert narrow
    assert {name: len(loaded.kept[name]) for name in narrow} == narrow
    images = subject.data.test.images[:8]
    session = onnxruntime.InferenceSession(record["artifacts"]["onnx"])
    name = session.get_inputs()[0].name
    exported = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    with torch.no_grad():
        np.testing.assert_allclose(exported, loaded.module.eval()(torch.from_numpy(images)).numpy(), atol=1e-3)


def test_a_group_with_nothing_left_to_give_stays_as_it_is(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path
) -> None:
    session = Session(options(), subject, measuring_on(device, store), tmp_path / "out", Observer())
    kept = {**session.start().kept, "0": (5,)}
    start = State(
        module=prune(session.analysed, session.original, kept), plan=plan_of(session.analysed, kept), kept=kept
    )
    narrow = Plan(kept={"0": 1, "3": 16, "6": 16})
    model = LatencyModel.fit(session.network, [Probe(plan=narrow, ratio=0.4, ratio_low=0.3, ratio_high=0.5)], 1e6)
    wanted = Round(name="later", ratio=0.7, window=(0.1, 2.0), tries=1, epochs=1)
    widths = {"0": (8, 16, 32), "3": (16, 32, 64), "6": (16, 32, 64)}
    chooser = Chooser(session, start, wanted, model, widths)
    found = [*chooser.candidates(("latency",)), *chooser.candidates(("uniform",))]
    assert {each.method for each in found} == {"latency", "uniform"}
    for each in found:
        assert each.state.plan.kept["0"] == 1
        assert each.state.kept["0"] == (5,)
        check_widths(session.analysed, each.state.module, each.state.plan)
