"""The folder that a compression leaves behind: its plan can be replayed, its files checked, its page made again."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import Settings
from host.compress.explain import explain
from host.compress.manifest import FilesDiffer, read_manifest
from host.compress.measuring import Measuring
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import compress
from host.compress.plan_file import PlanMismatch, read_plan
from host.compress.subject import Subject
from host.datasets.dataset import Dataset3, Normalisation
from host.report.page import report_page
from host.results.store import ResultStore
from host.zoo.registry import ZooModel
from tests.support.bars import bars
from tests.support.priced_device import priced_device

SHAPE = (1, 16, 16)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/compress.schema.json").read_text())


def net(middle: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(middle, 3),
    ).eval()


def subject(middle: int = 64) -> Subject:
    data = Dataset3(
        name="bars",
        num_classes=3,
        train=bars(SHAPE, 96, 0),
        validation=bars(SHAPE, 60, 1),
        test=bars(SHAPE, 30, 2),
        normalisation=Normalisation(mean=(0.5,), std=(0.25,)),
        class_names=("upright", "level", "none"),
    )
    return Subject(model=ZooModel(name="bars", module=net(middle), input_shape=SHAPE, num_classes=3), data=data)


def options(**changes: Any) -> CompressOptions:
    values: dict[str, Any] = {
        "model": "bars",
        "data": "bars",
        "target": LatencyTarget(ratio=0.6),
        "epochs": 2,
        "rounds": 2,
        "probes": 3,
        "threads": 1,
        **changes,
    }
    return CompressOptions(**values)


@dataclass(frozen=True)
class Run:
    folder: Path
    record: dict[str, Any]
    store: ResultStore


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("results")
    with ResultStore.open(f"sqlite:///{folder / 'history.sqlite'}") as store:
        measuring = Measuring(priced_device(), Settings(threads=1), store)
        record = compress(options(precision="int8"), subject(), measuring, out=folder / "out")
        yield Run(folder=folder / "out", record=json.loads(json.dumps(record)), store=store)


def test_the_record_keeps_its_schema_and_the_folder_what_it_names(run: Run) -> None:
    jsonschema.validate(run.record, SCHEMA)
    assert all(Path(path).is_file() for path in run.record["artifacts"].values())
    names = {path.name for path in run.folder.iterdir()}
    assert not [name for name in names if name.endswith(".training") or name.startswith("variant.")]
    assert "precision" not in names


def test_layers_and_groups_add_up(run: Run) -> None:
    record = run.record
    assert sum(each["result"]["macs"] for each in record["layers"]) < sum(
        each["baseline"]["macs"] for each in record["layers"]
    )
    # Node times of the baseline are shares of all of its nodes.
    assert 0.5 < sum(each["baseline"]["share"] for each in record["layers"]) <= 1.0 + 1e-9
    modelled = sum(each["result"]["modelled_share"] for each in record["layers"])
    for group in record["groups"]:
        assert group["kept"] == record["plan"][group["name"]]["kept"]
        assert group["kept"] in group["allowed"]
        assert set(group["latency_ratios"]) == {str(width) for width in group["allowed"]}
        # With the width that it has, all others as planned, the network is the result.
        assert group["latency_ratios"][str(group["kept"])] == pytest.approx(modelled)


def test_every_measurement_is_kept(run: Run) -> None:
    lines = [json.loads(line) for line in (run.folder / "measurements.jsonl").read_text().splitlines()]
    assert [line["measurement_id"] for line in lines if line["measurement_id"]] == run.record["measurements"]
    assert sum(line["device_seconds"] for line in lines) <= run.record["device_seconds"] + 1e-6
    for line in lines:
        if line["measurement_id"] is not None:
            stored = run.store.get_measurement(line["measurement_id"])
            assert [each["name"] for each in line["artifacts"]] == list(stored.artifact_names)
    pairs = {line["step"]: line["artifacts"][1] for line in lines if len(line["artifacts"]) == 2}
    probes = {each["name"]: each for each in run.record["probes"]}
    assert probes
    for name, probe in probes.items():
        assert pairs[name]["ratio"] == probe["measured_ratio"]


def test_the_curves_are_those_of_all_rounds(run: Run) -> None:
    first, second = (each["name"] for each in run.record["training"][:2])
    assert first.endswith("round 1 of 2")
    assert second.endswith("round 2 of 2")
    assert [len(each["epochs"]) for each in run.record["training"]][:2] == [1, 1]
    times = run.record["times"]
    assert times["seconds"] >= sum(each["seconds"] for each in times["stages"]) - 1e-6
    assert any(each["taken"] for each in run.record["candidates"])


def test_references_are_what_the_files_compute(run: Run) -> None:
    manifest = read_manifest(run.folder)
    assert manifest["class_names"] == ["upright", "level", "none"]
    assert manifest["normalisation"] == {"scale": 1 / 255, "mean": [0.5], "std": [0.25]}
    assert {each["precision"] for each in manifest["artifacts"]} == {"float32", run.record["precision"]["chosen"]}
    for artifact in manifest["artifacts"]:
        reference, tolerance = artifact["reference"], artifact["tolerance"]
        inputs, outputs = np.load(run.folder / reference["inputs"]), np.load(run.folder / reference["outputs"])
        (given,), (wanted,) = artifact["inputs"], artifact["outputs"]
        images, expected = inputs[given["name"]], outputs[wanted["name"]]
        assert [1, *images.shape[1:]] == given["shape"]
        assert images.dtype == given["dtype"]
        session = onnxruntime.InferenceSession(str(run.folder / artifact["file"]), providers=["CPUExecutionProvider"])
        answers = np.concatenate([session.run([wanted["name"]], {given["name"]: image[None]})[0] for image in images])
        assert len(answers) == reference["count"]
        assert np.abs(answers - expected).max() <= tolerance["max_error"]
        assert (answers.argmax(1) == expected.argmax(1)).mean() >= tolerance["top1_agreement"]
    sample = np.load(run.folder / "sample.npz")
    assert list(sample[given["name"]].shape) == given["shape"]


def test_a_file_that_was_changed_or_lost_is_named(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(run.folder, tmp_path / "copy")
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:-1])
    (copy / "plan.json").unlink()
    with pytest.raises(FilesDiffer, match=r"model\.onnx has other content; plan\.json is missing"):
        read_manifest(copy)


def test_a_plan_is_replayed_exactly(run: Run, tmp_path: Path) -> None:
    file = run.folder / "plan.json"
    plan = read_plan(file)
    assert plan.target == {"ratio": 0.6, "latency_ns": None, "percentile": 50}
    assert {name: len(kept) for name, kept in plan.kept.items()} == {
        name: each["kept"] for name, each in run.record["plan"].items()
    }
    wanted = options(plan=str(file), precision="float32")
    with ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}") as store:
        measuring = Measuring(priced_device(), Settings(threads=1), store)
        again = compress(wanted, subject(), measuring, out=tmp_path / "out")
    jsonschema.validate(json.loads(json.dumps(again)), SCHEMA)
    assert again["plan"] == run.record["plan"]
    assert (again["chosen"], again["predicted_ratio"], again["latency_model_error"]) == ("plan", None, None)
    assert read_plan(tmp_path / "out" / "plan.json").kept == plan.kept
    assert again["result"]["macs"] == run.record["result"]["macs"]
    assert "The plan was given" in report_page(again)


def test_a_plan_of_another_network_is_refused(run: Run, tmp_path: Path) -> None:
    wanted = options(plan=str(run.folder / "plan.json"))
    measuring = Measuring(priced_device(), Settings(threads=1), None)
    with pytest.raises(PlanMismatch, match="other groups or channels at 3"):
        compress(wanted, subject(middle=48), measuring, out=tmp_path / "out", dry_run=True)
    broken = tmp_path / "plan.json"
    broken.write_text((run.folder / "plan.json").read_text().replace('"kept": [', '"kept": [31, 31, '))
    with pytest.raises(InvalidRequest, match="ascending indices"):
        read_plan(broken)
    broken.write_text("{}")
    with pytest.raises(InvalidRequest, match="is no plan of host compress"):
        read_plan(broken)


def test_a_finished_run_gives_its_record_again_without_the_device(run: Run) -> None:
    device = priced_device()
    measuring = Measuring(device, Settings(threads=1), None)
    assert compress(options(precision="int8"), subject(), measuring, out=run.folder) == run.record
    assert device.client.measurements == 0  # type: ignore[attr-defined]  # the priced device's client counts


def test_reasons_come_from_the_record(run: Run) -> None:
    found = explain(run.record)
    assert [each.name for each in found.groups] == list(run.record["plan"])
    for reason, group in zip(found.groups, run.record["groups"], strict=True):
        assert str(group["kept"]) in reason.text
    assert {each.name for each in found.left_alone} == {each["layer"] for each in run.record["left_alone"]}
