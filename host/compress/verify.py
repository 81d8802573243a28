"""Whether a device's outputs are those of the PyTorch reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Largest error allowed, as a share of the largest absolute reference output: float32 sums taken in another order differ
#: by about 1e-6 of it per layer, a wrong weight or a wrong layout by 1e-1 and more.
MAX_RELATIVE_ERROR = 1e-3
#: Mean error allowed, as a share of the mean absolute reference output.
MEAN_RELATIVE_ERROR = 2e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCheck:
    """`max_error` and `mean_error` are absolute, in the outputs' unit; `scale` is the largest absolute
    reference output.

    `top1_agreement` is the share of rows with the same largest output, None for outputs that are not (N,
    classes).
    """

    max_error: float
    mean_error: float
    scale: float
    top1_agreement: float | None
    ok: bool


def check_outputs(
    reference: npt.NDArray[np.floating],
    outputs: npt.NDArray[np.floating],
    *,
    max_relative: float = MAX_RELATIVE_ERROR,
    mean_relative: float = MEAN_RELATIVE_ERROR,
) -> OutputCheck:
    """Compare outputs (N, ...) with the reference of the same shape.

    `ok` asks for both errors within their share of the reference's scale; top-1 is reported and not judged,
    since equal logits may swap. A value that is not finite on either side fails. Raises ValueError if the
    shapes differ.
    """
    if reference.shape != outputs.shape or not reference.size:
        raise ValueError(f"the outputs have shape {outputs.shape}, the reference has {reference.shape}")
    expected, found = reference.astype(np.float64), outputs.astype(np.float64)
    finite = bool(np.isfinite(expected).all() and np.isfinite(found).all())
    error = np.abs(found - expected)
    scale = float(np.abs(expected).max())
    max_error, mean_error = float(error.max()), float(error.mean())
    # A reference of zeros has no scale; then only equal outputs pass.
    within = max_error <= max_relative * scale and mean_error <= mean_relative * float(np.abs(expected).mean())
    agreement = None
    if expected.ndim == 2 and expected.shape[1] > 1:
        agreement = float((expected.argmax(1) == found.argmax(1)).mean())
    return OutputCheck(
        max_error=max_error, mean_error=mean_error, scale=scale, top1_agreement=agreement, ok=finite and within
    )
