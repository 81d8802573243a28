"""Running a `.tflite` file on this host's own processor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from host.compress.tflite.flatbuffer import TfliteUnavailable


def run_tflite(path: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Run `images` (N, C, H, W) one by one; return the first outputs stacked.

    Raises TfliteUnavailable, and what the interpreter raises.
    """
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise TfliteUnavailable(
            "TFLite files are checked with ai-edge-litert, which is not installed on this host; "
            "install it with: pip install 'boardfit[litert]'"
        ) from error
    with _silent():
        model: Any = litert.Interpreter(model_path=str(path), num_threads=1)
        model.allocate_tensors()
    source, target = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    found = []
    for image in images:
        model.set_tensor(source, image[None])
        model.invoke()
        found.append(np.array(model.get_tensor(target)))
    return np.concatenate(found)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the delegate's announcement of itself off the terminal: it writes to the process's own stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@torch.no_grad()
def difference(path: Path, module: nn.Module, images: Tensor) -> float:
    """Return the largest difference of the file's outputs from those of `module`, as a share of the module's largest output.

    Infinite for outputs of another shape, and for such as are not finite. `module` is run in evaluation mode, and left as it was.
    """
    training = module.training
    try:
        expected = module.eval()(images).numpy()
    finally:
        module.train(training)
    found = run_tflite(path, images.numpy())
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
