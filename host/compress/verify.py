"""Comparing what the device computes with what PyTorch computes. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Largest error allowed, as a share of the largest output: float32 sums in another order differ by about 1e-6 of it per layer.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCheck:
    """Errors are absolute; `top1_agreement` is the share of rows with the same largest output, near-ties counted as equal."""

    max_error: float
    mean_error: float
    top1_agreement: float
    ok: bool


def check_outputs(reference: npt.NDArray[np.floating], outputs: npt.NDArray[np.floating]) -> OutputCheck:
    """Compare outputs (N, classes) with the reference of the same shape.

    They agree (`ok`) if every error is within TOLERANCE of the largest reference output and every row has the same top-1. A row
    whose two best differ by less than that tolerance is a tie that either side may win. ValueError for different shapes.
    """
    if reference.shape != outputs.shape or reference.ndim != 2 or not reference.size:
        raise ValueError(
            f"outputs of shape {outputs.shape} cannot be compared with a reference of shape {reference.shape}"
        )
    if not np.isfinite(outputs).all() or not np.isfinite(reference).all():
        return OutputCheck(max_error=float("inf"), mean_error=float("inf"), top1_agreement=0.0, ok=False)
    error = np.abs(outputs.astype(np.float64) - reference)
    allowed = TOLERANCE * float(np.abs(reference).max())
    rows = np.arange(len(reference))
    lost = reference.max(axis=1) - reference[rows, outputs.argmax(axis=1)]
    agreement = float((lost <= allowed).mean())
    return OutputCheck(
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        top1_agreement=agreement,
        ok=bool(error.max() <= allowed) and agreement == 1.0,
    )
