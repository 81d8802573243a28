"""Files of lower precision: what is in them, what they compute, and what they were calibrated on."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from host.compress.export import export_onnx
from host.compress.nodes import ExportedModel
from host.compress.quantization import (
    CALIBRATIONS,
    QuantizationFailed,
    Scheme,
    calibration_images,
    float16_reason,
    prepare,
    quantize_dynamic,
    quantize_static,
    schemes_for,
    to_float16,
)
from host.datasets.dataset import Images, Split
from tests.support.small_nets import TinyMobile

SHAPE = (3, 8, 8)
SAFE = Scheme(activations="U8", weights="S8", weight_bits=7)
EVERY = (
    SAFE,
    Scheme(activations="U8", weights="S8"),
    Scheme(activations="U8", weights="U8"),
    Scheme(activations="S8", weights="S8"),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    torch.manual_seed(0)
    net = TinyMobile()
    with torch.no_grad():  # batch norm as after a training
        for _ in range(5):
            net.train()(torch.randn(64, *SHAPE))
    return export_onnx(net.eval(), SHAPE, tmp_path_factory.mktemp("float") / "model.onnx")


@pytest.fixture(scope="module")
def prepared(exported: ExportedModel) -> Path:
    return prepare(exported.path, exported.path.with_name("prepared.onnx"))


@pytest.fixture(scope="module")
def images() -> Images:
    return np.random.default_rng(0).normal(size=(32, *SHAPE)).astype(np.float32)


def run(path: Path, images: Images) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in images])


def quantized_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (integers, scales) of the weights of every convolution."""
    model = onnx.load(str(path))
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = made_by[node.input[1]]
            assert weight.op_type == "DequantizeLinear"
            found[node.name] = values[weight.input[0]], values[weight.input[1]]
    return found


@pytest.mark.parametrize("scheme", EVERY, ids=lambda scheme: scheme.slug)
def test_static_int8_has_integer_weights_per_channel(
    exported: ExportedModel, prepared: Path, images: Images, tmp_path: Path, scheme: Scheme
) -> None:
    made = quantize_static(prepared, tmp_path / "int8.onnx", images, scheme=scheme, calibration="minmax")
    model = onnx.load(str(made.path))
    onnx.checker.check_model(model, full_check=True)
    weights = quantized_weights(made.path)
    assert len(weights) == 7
    for integers, scales in weights.values():
        assert integers.dtype == (np.int8 if scheme.weights == "S8" else np.uint8)
        assert scales.shape == integers.shape[:1]
    largest = max(int(np.abs(integers.astype(int)).max()) for integers, _ in weights.values())
    assert (largest <= 64) == (scheme.weight_bits == 7)
    activations = {
        numpy_helper.to_array(each).dtype
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
        for each in model.graph.initializer
        if each.name == node.input[2]
    }
    assert activations == {np.dtype(np.uint8 if scheme.activations == "U8" else np.int8)}
    assert (made.input_name, made.output_name) == (exported.input_name, exported.output_name)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_static_int8_computes_nearly_what_float_does(
    exported: ExportedModel,
    prepared: Path,
    images: Images,
    tmp_path: Path,
    calibration: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = quantize_static(prepared, tmp_path / "int8.onnx", images, scheme=SAFE, calibration=calibration)
    assert capfd.readouterr().out == ""  # stdout is for results
    reference, found = run(exported.path, images), run(made.path, images)
    error = np.abs(reference - found)
    assert 0 < error.mean() < 0.05 * np.ptp(reference)
    assert error.max() < 0.25 * np.ptp(reference)


def test_ranges_are_those_of_the_images_that_were_given(prepared: Path, images: Images, tmp_path: Path) -> None:
    def input_scale(path: Path) -> float:
        model = onnx.load(str(path))
        node = next(node for node in model.graph.node if node.input[0] == "input")
        return float(
            next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == node.input[1])
        )

    made = quantize_static(prepared, tmp_path / "int8.onnx", images, scheme=SAFE, calibration="minmax")
    assert input_scale(made.path) == pytest.approx(float(np.ptp(images)) / 255)
    wider = quantize_static(prepared, tmp_path / "wider.onnx", 3 * images, scheme=SAFE, calibration="minmax")
    assert input_scale(wider.path) == pytest.approx(3 * float(np.ptp(images)) / 255)


def test_kept_ranges_make_the_same_file(prepared: Path, images: Images, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    first = quantize_static(prepared, tmp_path / "a.onnx", images, scheme=SAFE, calibration="percentile", ranges=ranges)
    again = quantize_static(prepared, tmp_path / "b.onnx", images, scheme=SAFE, calibration="percentile", ranges=ranges)
    assert first.sha256 == again.sha256


def test_dynamic_int8_and_float16_run_and_take_float32(
    exported: ExportedModel, prepared: Path, images: Images, tmp_path: Path
) -> None:
    reference = run(exported.path, images)
    dynamic = quantize_dynamic(prepared, tmp_path / "dynamic.onnx")
    half = to_float16(prepared, tmp_path / "half.onnx")
    operators = {node.op_type for node in onnx.load(str(dynamic.path)).graph.node}
    assert {"ConvInteger", "MatMulInteger"} <= operators
    assert np.abs(reference - run(dynamic.path, images)).mean() < 0.05 * np.ptp(reference)
    assert np.abs(reference - run(half.path, images)).max() < 0.01 * np.ptp(reference)
    weights = onnx.load(str(half.path)).graph.initializer
    assert {each.data_type for each in weights if len(each.dims) == 4} == {onnx.TensorProto.FLOAT16}


def test_files_ask_no_more_of_a_runtime_than_the_float_file(
    exported: ExportedModel, prepared: Path, images: Images, tmp_path: Path
) -> None:
    source = onnx.load(str(exported.path))
    for made in (
        quantize_static(prepared, tmp_path / "static.onnx", images, scheme=SAFE, calibration="minmax"),
        quantize_dynamic(prepared, tmp_path / "dynamic.onnx"),
        to_float16(prepared, tmp_path / "half.onnx"),
    ):
        model = onnx.load(str(made.path))
        assert model.ir_version <= source.ir_version
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}


def test_calibration_draws_from_the_split_that_it_is_given() -> None:
    train = Split(
        images=np.arange(200, dtype=np.float32).reshape(200, 1, 1, 1), labels=np.arange(200, dtype=np.int64) % 2
    )
    drawn = calibration_images(train, count=64, seed=3)
    assert drawn.shape == (64, 1, 1, 1)
    assert len(set(drawn.ravel().tolist())) == 64
    assert set(drawn.ravel().tolist()) <= set(train.images.ravel().tolist())
    assert np.array_equal(drawn, calibration_images(train, count=64, seed=3))
    assert len(calibration_images(train.take(slice(5)))) == 5


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(QuantizationFailed, match=r"broken\.onnx cannot be prepared for quantization"):
        prepare(broken, tmp_path / "prepared.onnx")
    assert not (tmp_path / "prepared.onnx").exists()


def test_what_is_tried_depends_on_the_processor_and_the_provider() -> None:
    assert [scheme.text for scheme in schemes_for("x86_64", None)] == ["U8S8, 7-bit weights", "U8U8"]
    assert [scheme.text for scheme in schemes_for("aarch64", "CPUExecutionProvider")] == ["S8S8", "U8S8"]
    assert [scheme.symmetric for scheme in schemes_for("aarch64", "CUDAExecutionProvider")] == [True]
    assert [scheme.weight_bits for scheme in SAFE.same_speed()] == [7, 8]
    assert float16_reason("aarch64", None) is None
    assert float16_reason("x86_64", "CUDAExecutionProvider") is None
    assert "no float16 kernels on x86_64" in str(float16_reason("x86_64", None))
