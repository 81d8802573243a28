"""Plans made in int8: when, what they are measured as, and what becomes of them. On a device of known prices."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import torch

from host.compress.export import export_onnx
from host.compress.formats import OnnxFormat
from host.compress.journal import Journal
from host.compress.options import LatencyTarget
from host.compress.pipeline import compress
from host.compress.precision_trial import PrecisionTrial
from host.compress.pricing import QuantizedFormat
from host.compress.pricing_choice import _too_few
from host.compress.quantization import Scheme
from host.compress.subject import Subject
from host.compress.variants import Variant
from host.fleet.devices import Device
from host.results.store import ResultStore
from host.search.network import LayerKind, Plan
from host.zoo.registry import ZooModel
from tests.host.compress.test_pipeline import SCHEMA, SHAPE, Killed, measuring_on, net, options
from tests.host.compress.test_pipeline import store as store
from tests.host.compress.test_pipeline import subject as subject
from tests.support.priced_device import answer_granularity, priced_device
from tests.support.small_nets import TinyMobile

SCHEME = Scheme(activations="U8", weights="S8", weight_bits=7)


@pytest.fixture(autouse=True)
def one_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.compress.variants.CALIBRATIONS", ("minmax",))


def run(subject: Subject, device: Device, store: ResultStore, out: Path, **changes: Any) -> dict[str, Any]:
    fresh = replace(subject, model=ZooModel(name="bars", module=net(), input_shape=SHAPE, num_classes=3))
    target = LatencyTarget(ratio=0.5)
    wanted = options(**{"precision": "auto", "epochs": 1, "target": target, **changes})
    measuring = measuring_on(device, store)
    answer_granularity(store, device, measuring.settings)
    record = compress(wanted, fresh, measuring, out=out)
    jsonschema.validate(json.loads(json.dumps(record)), SCHEMA)
    return record


def steps(out: Path) -> list[str]:
    return [json.loads(line)["key"] for line in (out / "journal.jsonl").read_text().splitlines()[1:]]


def test_where_int8_is_fast_the_plan_is_made_in_it_and_keeps_more(
    subject: Subject, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One of the 60 images is more than the rule allows, and rounding may well cost one; the rule has tests of its own.
    monkeypatch.setattr("host.compress.precision_rule.ALLOWED_DROP", 0.1)
    append, left = Journal._append, [0]

    def append_and_die(journal: Journal, entry: dict[str, Any]) -> None:
        append(journal, entry)
        if "key" in entry:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    device, out, record, starts = priced_device(int8=0.7), tmp_path / "auto", None, 0
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_append", append_and_die)
        while record is None:
            starts, left[0] = starts + 1, 15
            assert starts < 20
            with contextlib.suppress(Killed):
                record = run(subject, device, store, out)
    assert starts > 2
    keys = steps(out)
    assert len(keys) == len(set(keys))

    assert record["pricing"]["precision"] == record["precision"]["chosen"] == "int8-static"
    taken = [each for each in record["pricing"]["tried"] if each["taken"]]
    assert [each["ratio_to_float"] < 1 for each in taken] == [True]
    assert record["met"], record["reason"]
    assert record["result"]["latency_ratio"] <= record["target"]["latency_ratio"]
    assert record["result"]["size_bytes"] == (out / "model.int8.onnx").stat().st_size

    kept = record["pricing"]["macs_at_target"]
    assert kept["int8-static"] > 1.1 * kept["float32"]
    assert record["result"]["macs"] > 1.1 * kept["float32"]


def test_where_int8_is_slow_nothing_is_learned_in_it(subject: Subject, store: ResultStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = run(subject, priced_device(int8=1.2), store, out)
    assert record["pricing"]["precision"] == "float32"
    assert "no static int8 file of the baseline is faster" in record["pricing"]["reason"]
    assert not [key for key in steps(out) if key.startswith("int8 ")]


def test_int8_that_loses_its_accuracy_in_training_makes_room_for_float32(
    subject: Subject, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = PrecisionTrial._accuracy

    def loses(self: PrecisionTrial, variant: Variant, images: Any) -> dict[str, Any]:
        found = accuracy(self, variant, images)
        return found if self.exported.path.stem == "baseline" else {**found, "correct": 0}

    monkeypatch.setattr(PrecisionTrial, "_accuracy", loses)
    out = tmp_path / "out"
    record = run(subject, priced_device(int8=0.7), store, out)
    assert record["pricing"]["precision"] == record["precision"]["chosen"] == "float32"
    assert "planned in int8, validation accuracy is" in record["pricing"]["reason"]
    assert not any(each["taken"] for each in record["pricing"]["tried"])
    assert [each["name"] for each in record["training"]][:2] == ["int8 round 1 of 1", "round 1 of 1"]
    assert not (out / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("int8", "float32", "words"),
    [
        (120, 100, None),
        (105, 100, "keeps 0.000105 M MACs in int8 and 0.0001 M in float32"),
        (None, 100, "no plan in int8 meets the target"),
        (80, None, None),
    ],
)
def test_int8_has_to_keep_more_at_the_targets_latency(int8: int | None, float32: int | None, words: str | None) -> None:
    reason = _too_few(int8, float32)
    assert reason is None if words is None else words in str(reason)


@pytest.fixture(scope="module")
def files() -> QuantizedFormat:
    shape, runtime = (3, 8, 8), priced_device().info.runtimes[0]
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)).numpy()
    return QuantizedFormat(OnnxFormat(shape, runtime), SCHEME, images)


def test_a_variant_in_int8_knows_its_layers(files: QuantizedFormat, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = TinyMobile().eval()
    found = files.variant(module, Plan(kept={}), tmp_path / "variant.onnx")
    plain = export_onnx(module, (3, 8, 8), tmp_path / "plain.onnx")
    assert set(found.layer_nodes.values()) == set(plain.layer_nodes.values())
    assert "QuantizeLinear" in [node.op_type for node in onnx.load(str(found.path)).graph.node]


@pytest.mark.parametrize("kind", [LayerKind.CONV, LayerKind.DEPTHWISE, LayerKind.LINEAR])
def test_layers_are_asked_about_in_int8(files: QuantizedFormat, kind: LayerKind, tmp_path: Path) -> None:
    path = files.layer_model(kind, width_in=16, width_out=16, side=4, kernel=3, path=tmp_path / "layer.onnx")
    layer = "Gemm" if kind is LayerKind.LINEAR else "Conv"
    model = onnx.load(str(path))
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    inputs = [node.input for node in model.graph.node if node.op_type == layer]
    assert inputs
    assert {made_by[name] for each in inputs for name in each[:2]} == {"DequantizeLinear"}
