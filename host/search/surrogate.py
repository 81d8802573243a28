"""What the told plans say about those that were not tried: a Bayesian linear model that adds up over groups.

Because it adds up, the integer program finds its best plan exactly, and a draw from its posterior is a set of losses like any
other (Thompson sampling; Russo et al. 2018, arXiv 1707.02038).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from host.search.network import Plan

Floats = npt.NDArray[np.float64]
#: By group and width: a loss, 0 at the full width.
Losses = Mapping[str, Mapping[int, float]]

#: Standard deviations of a group's own correction that are tried, as shares of the spread of the told scores.
SPREADS = (0.1, 0.3, 1.0)
#: Standard deviations of a score's noise that are tried, likewise.
NOISES = (0.1, 0.3, 0.6)
#: A score this many times as far above the best as the median is counts no more: how bad a bad plan is teaches little.
WORST = 3.0


class Surrogate:
    """score = constant + a (sum of losses) + sum over groups of (own curve in the log of the share kept + trends over the depth).

    `groups` are names with their channels, in the order of execution. Fitted anew from all told plans by `fit`, which takes the
    spread and the noise of the highest marginal likelihood.
    """

    def __init__(self, groups: Sequence[tuple[str, int]], losses: Losses) -> None:
        self._groups, self._losses = tuple(groups), losses
        count = len(self._groups)
        self._depth = {
            name: (2 * place / (count - 1) - 1 if count > 1 else 0.0) for place, (name, _) in enumerate(groups)
        }
        self._sizes = self._ranges()
        self._mean: Floats | None = None
        self._root: Floats | None = None

    def fit(self, plans: Sequence[Plan], scores: Sequence[float]) -> None:
        """Learn from plans and their scores (lower is better); needs two of each at least."""
        told = np.asarray(scores, dtype=np.float64)
        best, middle = float(told.min()), float(np.median(told))
        told = np.minimum(told, best + WORST * max(middle - best, 1e-12))
        matrix = np.array([self._row(plan) for plan in plans])
        spread = float(told.std()) or 1.0
        found: tuple[float, Floats, Floats] | None = None
        for own in SPREADS:
            for noise in NOISES:
                likelihood, mean, root = _posterior(matrix, told, self._prior(spread, own), noise * spread, spread)
                if found is None or likelihood > found[0]:
                    found = (likelihood, mean, root)
        assert found is not None
        _, self._mean, self._root = found

    def predict(self, plan: Plan) -> float:
        """Return the expected score; ValueError before `fit`."""
        return float(self._row(plan) @ self._weights())

    def losses(
        self, widths: Mapping[str, Sequence[int]], rng: np.random.Generator | None = None, scale: float = 1.0
    ) -> Losses:
        """Return what each width adds to the score, made monotone in the channels removed: the expectation, or with `rng` a draw.

        `scale` multiplies the draw's distance from the expectation.
        """
        weights = self._weights()
        if rng is not None:
            assert self._root is not None
            weights = weights + scale * (self._root @ rng.standard_normal(len(weights)))
        full = dict(self._groups)
        base = self._row(Plan(kept=full))
        found: dict[str, dict[int, float]] = {}
        for name, channels in self._groups:
            highest, by_width = 0.0, {}
            for width in sorted(widths[name], reverse=True):
                row = self._row(Plan(kept={**full, name: width}))
                value = float((row - base) @ weights) if width != channels else 0.0
                # A dropped branch stands alone: nothing may do less harm than a few channels.
                highest = max(highest, value) if width else max(value, 0.0)
                by_width[width] = highest
            found[name] = by_width
        return found

    def _weights(self) -> Floats:
        if self._mean is None:
            raise ValueError("the surrogate has not been fitted to any plan")
        return self._mean

    def _row(self, plan: Plan) -> Floats:
        """Constant, sum of losses, three trends, then two numbers per group."""
        own: list[float] = []
        trends = np.zeros(3)
        summed = 0.0
        for name, channels in self._groups:
            width = plan.kept[name]
            cut = self._cut(channels, width)
            summed += float(self._losses[name][width])
            trends += cut * np.array([1.0, self._depth[name], self._depth[name] ** 2])
            own += [cut, cut * cut]
        return np.array([1.0, summed, *trends, *own])

    @staticmethod
    def _cut(channels: int, width: int) -> float:
        return math.log((channels or 0.5) / (width or 0.5))  # 0: the branch is dropped, in this round or before

    def _ranges(self) -> Floats:
        """Return how far each feature can move; of sums, as if groups were cut by chance."""
        cuts = np.array([self._cut(channels, min(self._losses[name])) for name, channels in self._groups])
        most = math.hypot(*(max(map(float, row.values())) for row in self._losses.values()))
        return np.array([1.0, most, *[math.hypot(*cuts)] * 3, *np.column_stack([cuts, cuts**2]).ravel()])

    def _prior(self, spread: float, own: float) -> Floats:
        """Standard deviations of the weights: over its range a feature may move the score by about this share of the spread."""
        shares = np.full(len(self._sizes), own)
        shares[:5] = (10.0, 3.0, 1.0, 1.0, 1.0)
        # A feature that cannot move is left out.
        return np.asarray(np.where(self._sizes > 0, shares * spread / np.where(self._sizes > 0, self._sizes, 1.0), 0.0))


def _posterior(
    matrix: Floats, told: Floats, prior: Floats, noise: float, spread: float
) -> tuple[float, Floats, Floats]:
    """Return (log marginal likelihood, posterior mean, a root of the posterior covariance) of weights ~ N(0, prior^2)."""
    centre = float(told.mean())
    scaled = matrix * prior
    covariance = scaled @ scaled.T + noise**2 * np.eye(len(told))
    lower = np.linalg.cholesky(covariance)
    white = np.linalg.solve(lower, told - centre)
    likelihood = -0.5 * float(white @ white) - float(np.log(np.diag(lower) / spread).sum())
    mean = prior * (scaled.T @ np.linalg.solve(lower.T, white))
    precision = scaled.T @ scaled / noise**2 + np.eye(len(prior))
    # precision = L L^T, so its inverse has the root L^-T.
    root = prior[:, None] * np.linalg.inv(np.linalg.cholesky(precision)).T
    mean = mean.copy()
    mean[0] += centre
    return likelihood, mean, root
