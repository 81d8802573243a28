"""What layers take beyond the regression over their kind: a Gaussian process over the logarithms of their times.

Kernels have steps and favourites that no column of the regression knows. A layer's time at a width that was seen is then known
as well as it was measured; layers of equal shape tell of each other, layers of one kind a little, and nearby widths too. Far from
all that was seen the correction fades to none. Method: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
chapters 2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from host.search.features import Floats
from host.search.observations import BASELINE, KEPT, Observation

#: Distance at which widths tell little of each other: in logarithms, and in output channels (two blocks of most kernels).
LOG_LENGTH = 0.35
CHANNEL_LENGTH = 6.0
#: Common factor of the times of another model: clock and temperature were others then.
KEPT_DEVIATION = 0.15
#: Residuals beyond this many standard deviations are trusted less, the more the farther: a neighbour, a page fault.
OUTLIER = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spreads:
    """Standard deviations of log times: what kinds, shapes and single layers have of their own, then windows and noise."""

    kind: float = 0.06
    shape: float = 0.05
    layer: float = 0.03
    window: float = 0.03
    noise: float = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class _Points:
    """Observations as columns; codes say which are alike."""

    kinds: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]
    layers: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int64]
    kept: npt.NDArray[np.bool_]
    counts: Floats
    log_in: Floats
    log_out: Floats
    outward: Floats

    @classmethod
    def of(cls, observations: Sequence[Observation], before: Sequence[Observation] = ()) -> _Points:
        """Return columns whose codes agree with those of `before`."""

        def codes(key: Callable[[Observation], object]) -> npt.NDArray[np.int64]:
            known: dict[object, int] = {}
            for each in (*before, *observations):
                known.setdefault(key(each), len(known))
            return np.array([known[key(each)] for each in observations], dtype=np.int64)

        outward = np.array([each.outward for each in observations], dtype=np.float64)
        return cls(
            kinds=codes(lambda each: each.shape.kind),
            shapes=codes(lambda each: each.shape),
            layers=codes(lambda each: each.layer or id(each)),
            windows=codes(lambda each: each.window),
            kept=np.array([each.window.startswith(KEPT) for each in observations], dtype=np.bool_),
            counts=np.array([each.count for each in observations], dtype=np.float64),
            log_in=np.log([each.inward for each in observations]),
            log_out=np.log(outward),
            outward=outward,
        )


def _alike(one: _Points, other: _Points) -> tuple[Floats, Floats, Floats]:
    """Return how much each of `one` has in common with each of `other`: by kind, shape and layer, for spreads of 1."""
    apart = (one.log_in[:, None] - other.log_in) ** 2 + (one.log_out[:, None] - other.log_out) ** 2
    near = np.exp(-apart / (2 * LOG_LENGTH**2))
    channels = np.exp(-(((one.outward[:, None] - other.outward) / CHANNEL_LENGTH) ** 2) / 2)
    return (
        (one.kinds[:, None] == other.kinds) * (near + channels) / 2,
        (one.shapes[:, None] == other.shapes) * (1 + near) / 2,
        (one.layers[:, None] == other.layers).astype(np.float64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """A fitted process. Made by `fit`; a value."""

    observations: tuple[Observation, ...]
    points: _Points
    spreads: Spreads
    weights: Floats

    @classmethod
    def fit(cls, observations: Sequence[Observation], logs: Floats, spreads: Spreads | None = None) -> Residuals:
        """Fit log residuals `logs`, one per observation. Without `spreads` they are chosen by their likelihood."""
        points = _Points.of(observations)
        covariance = _Covariance(points, observations)
        chosen = covariance.likeliest(logs, covariance.doubts(Spreads(), logs)) if spreads is None else spreads
        weights = np.linalg.solve(covariance(chosen, covariance.doubts(chosen, logs)), logs)
        return cls(
            observations=tuple(observations),
            points=points,
            spreads=chosen,
            weights=np.asarray(weights, dtype=np.float64),
        )

    def means(self, asked: Sequence[Observation]) -> Floats:
        """Return the expected log residuals of layers at widths; times and windows of `asked` are not looked at."""
        kind, shape, layer = _alike(_Points.of(asked, self.observations), self.points)
        spreads = self.spreads
        alike = spreads.kind**2 * kind + spreads.shape**2 * shape + spreads.layer**2 * layer
        return np.asarray(alike @ self.weights, dtype=np.float64)


class _Covariance:
    def __init__(self, points: _Points, observations: Sequence[Observation]) -> None:
        self._parts = _alike(points, points)
        same = points.windows[:, None] == points.windows
        # The baseline's own times make up the unit, so they share no factor.
        self._window = same & ~points.kept & np.array([each.window != BASELINE for each in observations])
        self._kept = same & points.kept
        self._counts = points.counts

    def __call__(self, spreads: Spreads, doubt: Floats) -> Floats:
        kind, shape, layer = self._parts
        total = spreads.kind**2 * kind + spreads.shape**2 * shape + spreads.layer**2 * layer
        total = total + spreads.window**2 * self._window + KEPT_DEVIATION**2 * self._kept
        total[np.diag_indices_from(total)] += spreads.noise**2 * (doubt / self._counts + 1e-3)
        return np.asarray(total, dtype=np.float64)

    def doubts(self, spreads: Spreads, logs: Floats) -> Floats:
        """Return by what factors the noise of each is larger, 1 or more: each is judged by what all others say of it."""
        inverse = np.linalg.inv(self(spreads, np.ones(len(logs))))
        scores = np.abs(inverse @ logs) / np.sqrt(np.diag(inverse))
        return np.asarray(np.maximum(1.0, scores / OUTLIER) ** 4, dtype=np.float64)

    def likeliest(self, logs: Floats, doubt: Floats) -> Spreads:
        """Return the spreads of greatest likelihood among factors of two around the usual ones, one spread after the other."""
        best, highest = Spreads(), self._likelihood(Spreads(), logs, doubt)
        for field in fields(Spreads):
            for factor in (0.5, 2.0):
                tried = replace(best, **{field.name: factor * getattr(Spreads(), field.name)})
                likelihood = self._likelihood(tried, logs, doubt)
                if likelihood > highest:
                    best, highest = tried, likelihood
        return best

    def _likelihood(self, spreads: Spreads, logs: Floats, doubt: Floats) -> float:
        lower = np.linalg.cholesky(self(spreads, doubt))
        whitened = solve_triangular(lower, logs, lower=True)
        return float(-(whitened @ whitened) / 2 - np.log(np.diag(lower)).sum())
