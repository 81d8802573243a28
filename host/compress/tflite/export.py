"""Export to TFLite by litert-torch: checked, atomic, with the way back from operators to layers.

Inputs and outputs are float32, and images are (1, C, H, W) at the file's boundary as in PyTorch, whatever the runtime's layout:
the converter puts a transpose behind the input, which costs a few microseconds. Batch norm is folded by the converter.
"""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from host.compress.export import ExportFailed
from host.compress.nodes import ExportedModel
from host.compress.proof import first_line
from host.compress.tflite.describe import describe_tflite
from host.compress.tflite.flatbuffer import TfliteUnavailable
from host.compress.tflite.matching import match_file
from host.compress.tflite.running import difference
from host.files import write_whole

#: Largest error of an export, as a share of the module's largest output.
TOLERANCE = 1e-3
#: A conversion takes 20 - 80 s here; one that takes this long hangs.
LONGEST_S = 1800


def check_converter() -> None:
    """Raise TfliteUnavailable, with what to do, where litert-torch is not installed."""
    if importlib.util.find_spec("litert_torch") is None:
        raise TfliteUnavailable(
            "compressing for LiteRT exports with litert-torch, which is not installed on this host; install it "
            "(1.1 GB with all that it needs) with: pip install 'boardfit[tflite-export]'"
        )


def export_tflite(module: nn.Module, input_shape: tuple[int, int, int], path: Path) -> ExportedModel:
    """Write `module`, in evaluation mode, for one image (1, C, H, W) float32 to `path`; `module` is not changed.

    Takes half a minute or more. Raises ExportFailed, TfliteUnavailable, CannotWrite; `path` is then as it was.
    """
    check_converter()
    title = type(module).__name__
    frozen = copy.deepcopy(module).cpu().eval()
    example = torch.zeros((1, *input_shape))
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        source, target = Path(folder) / "program.pt2", Path(folder) / "model.tflite"
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(torch.export.export(frozen, (example,)), source)
        except Exception as error:
            raise ExportFailed(
                f"{title} cannot be exported to TFLite: torch.export says {first_line(error)}. Change the operation that it names"
            ) from error
        _convert(title, source, target)
        off = difference(target, frozen, torch.randn(example.shape, generator=torch.Generator().manual_seed(0)))
        if not off <= TOLERANCE:
            raise ExportFailed(
                f"{title} was exported to TFLite, but the file's outputs are off by {off:.2g} of the largest: the converter "
                "is at fault. Try another version of litert-torch, and report it with the model"
            )
        write_whole(path, target.read_bytes())
    return describe_tflite(path, match_file(path, frozen, input_shape))


def _convert(title: str, source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "host.compress.tflite.convert", str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportFailed(f"litert-torch did not convert {title} within {LONGEST_S} s") from error
    if done.returncode or not target.exists():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else f"it ended with code {done.returncode}"
        raise ExportFailed(
            f"litert-torch cannot convert {title} to TFLite: {reason}. Change the operation that it names"
        )
