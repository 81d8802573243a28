"""Lower precisions of a `.tflite` file by ai-edge-quantizer: int8 with calibrated or dynamic activations, weights per channel.

It works on the file itself, in a second. Inputs and outputs stay float32, so a quantized file takes the place of a float one.
PyTorch's own quantization (PT2E) through litert-torch would take another export of half a minute for each calibration.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from host.compress.nodes import ExportedModel
from host.compress.proof import first_line
from host.compress.quantization import QuantizationFailed
from host.compress.tflite.describe import describe_tflite
from host.compress.tflite.flatbuffer import TfliteUnavailable
from host.datasets.dataset import Images
from host.files import write_whole

#: How ranges of activations are found: the least and largest value seen, or moving averages of each image's.
CALIBRATIONS = ("minmax", "average")


def quantizer_version() -> str:
    """Return the version of ai-edge-quantizer. TfliteUnavailable, with what to do, where it is not installed."""
    try:
        return version("ai-edge-quantizer")
    except PackageNotFoundError as error:
        raise TfliteUnavailable(
            "TFLite files are quantized with ai-edge-quantizer, which is not installed on this host; "
            "install it with: pip install 'boardfit[tflite-export]'"
        ) from error


def quantize_tflite(source: Path, path: Path, images: Images, *, calibration: str) -> ExportedModel:
    """Write a static int8 file, its activations calibrated on `images` (N, C, H, W) of the training split, one of CALIBRATIONS.

    Raises QuantizationFailed, TfliteUnavailable, CannotWrite.
    """
    return _make(source, path, lambda: _static(source, images, calibration))


def quantize_tflite_dynamic(source: Path, path: Path) -> ExportedModel:
    """Write a file with int8 weights, whose activations are scaled anew in every run. Raises what `quantize_tflite` does."""
    return _make(source, path, lambda: _dynamic(source))


def _static(source: Path, images: Images, calibration: str) -> bytes:
    from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, recipe, recipe_manager
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.utils import qsv_utils

    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        rules.add_quantization_config(".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    updates = {"minmax": qsv_utils.min_max_update, "average": qsv_utils.moving_average_update}
    measured = calibrator.Calibrator(str(source), num_threads=1, qsv_update_func=updates[calibration])
    signature, name = _signature(source)
    measured.calibrate({signature: [{name: image[None]} for image in images]}, rules)
    made = Quantizer(str(source), rules.get_quantization_recipe()).quantize(
        measured.get_model_qsvs(), enable_progress_report=False
    )
    return bytes(made.quantized_model)


def _dynamic(source: Path) -> bytes:
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.quantizer import Quantizer

    made = Quantizer(str(source), recipe.dynamic_wi8_afp32()).quantize(enable_progress_report=False)
    return bytes(made.quantized_model)


def _signature(source: Path) -> tuple[str, str]:
    """Return the names of the file's signature and of its input there."""
    from ai_edge_litert.interpreter import Interpreter

    found: dict[str, Any] = Interpreter(model_path=str(source)).get_signature_list()
    name, ends = next(iter(found.items()))
    return name, ends["inputs"][0]


def _make(source: Path, path: Path, make: Callable[[], bytes]) -> ExportedModel:
    quantizer_version()
    try:
        with _quiet():
            content = make()
    except Exception as error:
        raise QuantizationFailed(f"{source} cannot be quantized by ai-edge-quantizer: {first_line(error)}") from error
    write_whole(path, content)
    return describe_tflite(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool's progress bars and reports off the terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
