"""Input resolution as a choice: smaller images where they leave more of the network, and files that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from json_schemas import validate
from PIL import Image
from priced_device import priced_device
from small_nets import randomised
from torch import nn

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import Settings
from host.cli.compress_view import show
from host.compress.manifest import read_manifest
from host.compress.measuring import Measuring
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import compress
from host.compress.resolution import seen_at, shrink
from host.compress.subject import Subject
from host.compress.surgery import load_compressed
from host.datasets.dataset import Dataset3, Split
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.registry import ZooModel

SHAPE = (1, 12, 12)


def residual() -> nn.Module:
    return CifarResNet(depth=8, in_channels=1, num_classes=3, input_size=12)


def split(count: int, seed: int) -> Split:
    """Images whose class is a wide stripe: as plain at half the size."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    images = rng.normal(0, 0.1, (count, *SHAPE)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 1
    return Split(images=images, labels=labels)


@pytest.fixture
def subject() -> Subject:
    torch.manual_seed(0)
    data = Dataset3(name="stripes", num_classes=3, train=split(96, 0), validation=split(30, 1), test=split(30, 2))
    module = randomised(residual())
    return Subject(model=ZooModel(name="small", module=module, input_shape=SHAPE, num_classes=3), data=data)


def options(**changes: Any) -> CompressOptions:
    values: dict[str, Any] = {
        "model": "small",
        "data": "stripes",
        "target": LatencyTarget(ratio=0.6),
        "probes": 3,
        "candidates": 2,
        "epochs": 1,
        "precision": "float32",
        "resolutions": (6,),
    }
    return CompressOptions(**{**values, **changes})


def test_images_shrink_as_pillow_shrinks_them() -> None:
    pixels = np.random.default_rng(0).random((28, 20), dtype=np.float32)
    ours = shrink(torch.from_numpy(pixels)[None, None], (12, 9))[0, 0].numpy()
    theirs = np.asarray(Image.fromarray(pixels).resize((9, 12), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_network_behind_the_hook_takes_both_sizes(subject: Subject) -> None:
    module = subject.model.module.eval()
    behind, images = seen_at(module, (6, 6)), torch.from_numpy(subject.data.test.images[:4])
    small = shrink(images, (6, 6))
    with torch.no_grad():
        torch.testing.assert_close(behind(images), module(small))
        torch.testing.assert_close(behind(small), module(small))
        assert not torch.equal(module(images), module(small))
    assert seen_at(module, None) is module


def test_the_smaller_resolution_is_taken_where_no_plan_of_the_own_one_is_fast_enough(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every layer has a price of its own here, which no width takes away; a quarter of the pixels does."""
    measuring = Measuring(priced_device(), Settings(threads=1), None)
    out = tmp_path / "out"
    record = compress(options(target=LatencyTarget(ratio=0.2)), subject, measuring, out=out)
    validate(record, "compress")
    own, small = record["resolution"]["tried"]
    assert (own["size"], small["size"], record["resolution"]["size"]) == ([12, 12], [6, 6], [6, 6])
    assert "no plan over the allowed widths" in own["reason"]
    assert own["full_ratio"] == 1
    assert small["full_ratio"] < 0.8
    assert record["baseline"]["input_shape"] == [1, 12, 12]
    assert record["result"]["input_shape"] == [1, 6, 6]
    assert record["met"], record["reason"]
    show(record)
    assert "6x6" in capsys.readouterr().out

    graph = onnx.load(str(out / "model.onnx")).graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [1, 1, 6, 6]
    manifest = read_manifest(out)
    assert manifest["resize"] == {"height": 6, "width": 6, "method": "bilinear", "antialias": True}
    inputs = np.load(out / "reference-inputs.npz")[graph.input[0].name]
    answers = np.load(out / "reference-outputs.npz")[graph.output[0].name]
    loaded = load_compressed(out / "model.pt", residual).module.eval()
    with torch.no_grad():
        np.testing.assert_allclose(loaded(torch.from_numpy(inputs)).numpy(), answers, atol=1e-4)
        right = (
            loaded(shrink(torch.from_numpy(subject.data.test.images), (6, 6))).argmax(1).numpy()
            == subject.data.test.labels
        )
    assert int(right.sum()) == record["result"]["correct"]

    again = Measuring(priced_device(), Settings(threads=1), None)
    replayed = compress(
        options(resolutions=(), plan=str(out / "plan.json"), target=LatencyTarget(ratio=0.2)),
        subject,
        again,
        out=tmp_path / "again",
    )
    assert replayed["result"]["input_shape"] == [1, 6, 6]
    assert replayed["result"]["latency_ratio"] == pytest.approx(record["result"]["latency_ratio"], rel=0.01)


def test_a_resumed_run_asks_the_device_nothing_twice(subject: Subject, tmp_path: Path) -> None:
    first = priced_device()
    record = compress(options(), subject, Measuring(first, Settings(threads=1), None), out=tmp_path, dry_run=True)
    asked = first.client.measurements  # type: ignore[attr-defined]
    second = priced_device()
    again = compress(options(), subject, Measuring(second, Settings(threads=1), None), out=tmp_path, dry_run=True)
    assert second.client.measurements == 0 < asked  # type: ignore[attr-defined]
    assert again["resolution"] == record["resolution"]
    assert again["plan"] == record["plan"]


def test_a_network_of_one_size_stays_there(tmp_path: Path, subject: Subject) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 16, 3, padding=1)
            self.more = nn.Conv2d(16, 16, 3, padding=1)
            self.head = nn.Linear(16 * 144, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.more(self.conv(images).relu()).relu().flatten(1))

    flat = Subject(
        model=ZooModel(name="flat", module=Flat().eval(), input_shape=SHAPE, num_classes=3), data=subject.data
    )
    record = compress(
        options(model="flat", target=LatencyTarget(ratio=0.8)),
        flat,
        Measuring(priced_device(), Settings(threads=1), None),
        out=tmp_path,
        dry_run=True,
    )
    own, small = record["resolution"]["tried"]
    assert own["taken"]
    assert "does not run on images of shape" in small["reason"]


@pytest.mark.parametrize("changes", [{"precision": "int8"}, {"resolutions": (6, 6)}, {"resolutions": (0,)}])
def test_what_does_not_go_together(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        options(**changes)
