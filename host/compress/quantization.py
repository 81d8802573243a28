"""Lower precisions of an exported ONNX file: int8 with calibrated or dynamic activations, and float16.

ONNX Runtime's own tools make the files: QDQ for static int8, weights per output channel; integer operators for dynamic int8.
Which 8-bit types are fast and exact depends on the processor's multiplication, so its architecture gives a short list, and the
device decides (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import inspect
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from device_agent.contract.errors import StableError
from host.compress.nodes import ExportedModel, describe
from host.compress.proof import first_line
from host.datasets.dataset import Images, Split
from host.files import write_whole

CPU_PROVIDER = "CPUExecutionProvider"
CALIBRATIONS = ("minmax", "percentile", "entropy")
CALIBRATION_IMAGES = 64
#: Histograms keep every activation of this many images in memory at once.
_AT_ONCE = 16

_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_ARM = frozenset({"aarch64", "arm64", "armv7l", "armv8l"})


class QuantizationFailed(StableError):
    """ONNX Runtime's tools cannot make the file; the message names it and their reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """8-bit types of a static int8 file: unsigned or signed activations and weights.

    `weight_bits` 7 leaves a bit unused: x86 without VNNI adds two products of U8S8 in 16 bits, which overflow with 8.
    `symmetric` puts the zero of the activations in the middle of their range, as GPUs want it.
    """

    activations: Literal["U8", "S8"]
    weights: Literal["U8", "S8"]
    weight_bits: Literal[7, 8] = 8
    symmetric: bool = False

    @property
    def text(self) -> str:
        """The field's word for it, such as `U8S8, 7-bit weights`."""
        return f"{self.activations}{self.weights}" + (", 7-bit weights" if self.weight_bits == 7 else "")

    @property
    def slug(self) -> str:
        """The same as a part of a file's name."""
        return f"{self.activations}{self.weights}{self.weight_bits}".lower() + ("sym" if self.symmetric else "")

    def same_speed(self) -> tuple[Scheme, ...]:
        """Return the schemes that run the same kernels and differ in accuracy only, this one first."""
        return (self, replace(self, weight_bits=8)) if self.weight_bits == 7 else (self,)


def schemes_for(architecture: str, provider: str | None) -> tuple[Scheme, ...]:
    """Return what to try on a processor (`uname -m`) or with an execution provider, the one recommended for it first."""
    if provider not in (None, CPU_PROVIDER):
        return (Scheme(activations="S8", weights="S8", symmetric=True),)
    if architecture in _X86:
        return Scheme(activations="U8", weights="S8", weight_bits=7), Scheme(activations="U8", weights="U8")
    signed, mixed = Scheme(activations="S8", weights="S8"), Scheme(activations="U8", weights="S8")
    return (signed, mixed) if architecture in _ARM else (mixed, signed)


def float16_reason(architecture: str, provider: str | None) -> str | None:
    """Return why float16 is not worth a try there, None where it is."""
    if provider in (None, CPU_PROVIDER) and architecture not in _ARM:
        return f"ONNX Runtime's CPU provider has no float16 kernels on {architecture}: it would compute in float32 all the same"
    return None


def calibration_images(train: Split, *, count: int = CALIBRATION_IMAGES, seed: int = 0) -> Images:
    """Draw images (N, C, H, W) of the training split for calibration: `count`, or all of a smaller split."""
    return np.ascontiguousarray(train.images[np.random.default_rng(seed).permutation(len(train))[:count]])


def prepare(source: Path, path: Path) -> Path:
    """Write `source` with its constants folded and its shapes inferred, as ONNX Runtime asks for before quantization."""
    from onnxruntime.quantization import quant_pre_process

    def make(written: Path) -> None:
        # Shapes are fixed on export, so ONNX's own inference is enough, and sympy is not needed.
        quant_pre_process(str(source), str(written), skip_symbolic_shape=True)

    _make(source, path, "prepared for quantization", make)
    return path


def quantize_static(
    prepared: Path, path: Path, images: Images, *, scheme: Scheme, calibration: str, ranges: Path | None = None
) -> ExportedModel:
    """Write a static int8 QDQ file, its activations calibrated on `images` (N, C, H, W) of the training split.

    `calibration` is one of CALIBRATIONS: the whole range, 99.999 % of it, or the range of least divergence. `ranges` is a file
    in which they are kept between calls of the same images, calibration and symmetry. Raises QuantizationFailed, CannotWrite.
    """
    from onnxruntime import quantization as tools

    types = {"U8": tools.QuantType.QUInt8, "S8": tools.QuantType.QInt8}
    methods = {
        "minmax": tools.CalibrationMethod.MinMax,
        "percentile": tools.CalibrationMethod.Percentile,
        "entropy": tools.CalibrationMethod.Entropy,
    }
    count = len(images) - len(images) % _AT_ONCE or len(images)
    options: dict[str, Any] = {
        # Weights of all channels have their zero in the same place: ONNX Runtime asks for that of unsigned ones too.
        "WeightSymmetric": True,
        "ActivationSymmetric": scheme.symmetric,
        "CalibTensorRangeSymmetric": scheme.symmetric,
        "CalibStridedMinMax": min(_AT_ONCE, count),
    }
    kept: dict[str, Any] = {}
    if ranges is not None and "calibration_cache_path" in inspect.signature(tools.quantize_static).parameters:
        kept["calibration_cache_path"] = ranges

    def make(written: Path) -> None:
        tools.quantize_static(
            str(prepared),
            str(written),
            _Reader(_input(prepared).name, images[:count]),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme.weight_bits == 7,
            activation_type=types[scheme.activations],
            weight_type=types[scheme.weights],
            calibrate_method=methods[calibration],
            extra_options=options,
            **kept,
        )

    return _make(prepared, path, f"quantized to {scheme.text}", make)


def quantize_dynamic(prepared: Path, path: Path) -> ExportedModel:
    """Write an int8 file whose activations are scaled anew in every run. Raises QuantizationFailed, CannotWrite."""
    from onnxruntime import quantization as tools

    def make(written: Path) -> None:
        # ConvInteger has no kernel for signed weights.
        tools.quantize_dynamic(str(prepared), str(written), weight_type=tools.QuantType.QUInt8)

    return _make(prepared, path, "quantized dynamically", make)


def to_float16(source: Path, path: Path) -> ExportedModel:
    """Write a float16 file whose inputs and outputs stay float32. Raises QuantizationFailed, CannotWrite."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    def make(written: Path) -> None:
        onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(written))

    return _make(source, path, "turned to float16", make)


class _Reader:
    """Images one by one, as ONNX Runtime's calibration asks for them; it may ask for a range of them at a time."""

    def __init__(self, name: str, images: Images) -> None:
        self._name, self._images = name, images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next = iter(self._images[start_index:end_index])

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        image = next(self._next, None)
        return None if image is None else {self._name: image[None]}

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        while (entry := self.get_next()) is not None:
            yield entry


def input_shape_of(path: Path) -> tuple[int, ...]:
    """Return the shape of a file's only input, the batch first."""
    return tuple(each.dim_value for each in _input(path).type.tensor_type.shape.dim)


def _input(path: Path) -> onnx.ValueInfoProto:
    model = onnx.load(str(path), load_external_data=False)
    constants = {value.name for value in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in constants)


def _make(source: Path, path: Path, done: str, make: Any) -> ExportedModel:
    """Let `make` write a file, hold it to the format's rules and to the source's IR version, and put it at `path` whole."""
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            written = Path(folder) / "model.onnx"
            make(written)
            model = onnx.load(str(written))
    except Exception as error:
        raise QuantizationFailed(f"{source} cannot be {done}: {first_line(error)}") from error
    # The optimiser declares every domain that its own version knows, and an older runtime may refuse one.
    used = {node.domain for node in model.graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain and entry.domain not in used]:
        model.opset_import.remove(entry)
    model.ir_version = min(model.ir_version, onnx.load(str(source)).ir_version)
    write_whole(path, model.SerializeToString())
    return describe(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools' prints off stdout, which is for results, and their advice off stderr."""
    root, handler, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)  # they log through the bare module, which would set up the root logger for good
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
