"""The time of a layer at any widths, from layer times: a regression per kind of layer, then what kinds, shapes and layers have of
their own.

All regressions minimise relative errors: a layer of 20 us must be as right as one of 2 ms, since plans trade them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from host.search.features import FEATURES, PASSES, Floats, Shape, effective, features
from host.search.granularity import Granularity
from host.search.network import Layer, LayerKind
from host.search.observations import KEPT, Observation
from host.search.residuals import Residuals, Spreads

#: What a paired ratio, or a mean of node times, is commonly off by.
DEVIATION = 0.01
#: Turns of reweighting; the weights settle in a few.
ROBUST_STEPS = 5
#: Passes are believed in where they lower the mean relative error to this share of that without.
BETTER = 0.95
#: A shape's own factor counts half where there are this many times of it.
PRIOR_COUNT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrices:
    """Fitted layer times, in the unit of the newest observations. Made by `fit`; a value.

    `coefficients` (8 per kind, see `features`) and `passes` (output channels per pass of the kernel, 0: no passes seen) hold what
    was seen; a kind that no node time was seen of takes no time. `shapes` holds every layer's by its name.
    """

    coefficients: Mapping[LayerKind, tuple[float, ...]]
    passes: Mapping[LayerKind, int]
    shapes: Mapping[str, Shape]
    granularity: Granularity | None
    residuals: Residuals | None

    @classmethod
    def fit(
        cls,
        observations: Sequence[Observation],
        shapes: Mapping[str, Shape],
        granularity: Granularity | None,
        spreads: Spreads | None = None,
    ) -> LayerPrices:
        """Fit `observations`. Those kept of other models are first brought to the speed of the new ones."""
        seen = _at_one_speed(observations)
        coefficients: dict[LayerKind, tuple[float, ...]] = {}
        passes: dict[LayerKind, int] = {}
        logs = np.zeros(len(seen))
        for kind in dict.fromkeys(each.shape.kind for each in seen):
            places = [place for place, each in enumerate(seen) if each.shape.kind is kind]
            mine = [seen[place] for place in places]
            passes[kind], prices = _price_kind(mine)
            coefficients[kind] = tuple(prices.tolist())
            times = np.array([each.time for each in mine])
            logs[places] = np.log(times / np.maximum(_design(mine, passes[kind]) @ prices, 1e-9 * times))
        return cls(
            coefficients=coefficients,
            passes=passes,
            shapes=shapes,
            granularity=granularity,
            residuals=Residuals.fit(seen, logs, spreads) if seen else None,
        )

    def times(self, asked: Sequence[tuple[Layer, int, int]]) -> Floats:
        """Return the times of layers at (input width, output width), 0 for layers that are gone."""
        found = np.zeros(len(asked))
        points, places = [], []
        for place, (layer, width_in, width_out) in enumerate(asked):
            if width_in and width_out and layer.kind in self.coefficients:
                shape = self.shapes[layer.name]
                inward, outward, charge = effective(layer, width_in, width_out, self.granularity)
                row = features(shape, inward, outward, charge, self.passes[layer.kind])
                found[place] = float(np.dot(self.coefficients[layer.kind], row))
                points.append(
                    Observation(
                        shape=shape,
                        inward=inward,
                        outward=outward,
                        charge=charge,
                        time=1.0,
                        window="",
                        layer=layer.name,
                    )
                )
                places.append(place)
        if self.residuals is not None and points:
            found[places] *= np.exp(self.residuals.means(points))
        return found

    def outputs(self, layer: Layer, width_out: int) -> int:
        """Return the output elements that the kernel of `layer` writes."""
        return effective(layer, width_out, width_out, self.granularity)[1] * layer.output_pixels


def relative_nnls(matrix: Floats, target: Floats, trust: Floats | None = None) -> Floats:
    """Return x >= 0, shape (columns,), that minimises the relative error of `matrix @ x` to a positive `target`.

    Rows that the others call wrong (a neighbour on the board, a page fault) count less: Huber's weights.
    """
    size = matrix.max(axis=0)
    size[size == 0] = 1.0
    given = np.ones(len(target)) if trust is None else trust
    relative, weights = matrix / size / target[:, None], given
    solution = np.zeros(matrix.shape[1])
    for _ in range(ROBUST_STEPS):
        root = np.sqrt(weights)
        solution = nnls(relative * root[:, None], root)[0]
        weights = given * huber(relative @ solution - 1.0)
    return np.asarray(solution / size, dtype=np.float64)


def huber(residuals: Floats) -> Floats:
    """Return weights in (0, 1]: 1 within two robust standard deviations, then falling as one over the distance."""
    deviation = max(1.483 * float(np.median(np.abs(residuals))), DEVIATION)
    return np.asarray(np.minimum(1.0, 2 * deviation / np.maximum(np.abs(residuals), 1e-12)), dtype=np.float64)


def _design(observations: Sequence[Observation], channels: int) -> Floats:
    return np.array([features(each.shape, each.inward, each.outward, each.charge, channels) for each in observations])


def _price_kind(observations: Sequence[Observation]) -> tuple[int, Floats]:
    """Return (channels per pass, coefficients) of one kind of layer, with what single shapes have of their own left aside."""
    times = np.array([each.time for each in observations])
    trust = np.array([float(each.count) for each in observations])
    best = (0, np.zeros(FEATURES))
    error = np.inf
    for channels in (0, *PASSES):
        design = _design(observations, channels)
        prices = relative_nnls(design, times, trust)
        own = _own_factors(observations, times / np.maximum(design @ prices, 1e-9 * times))
        prices = relative_nnls(design, times / own, trust)
        own = _own_factors(observations, times / np.maximum(design @ prices, 1e-9 * times))
        off = float(np.average(np.abs(own * (design @ prices) / times - 1), weights=trust))
        if off < error * (BETTER if best[0] == 0 else 1.0):
            best, error = (channels, prices), off
    return best


def _own_factors(observations: Sequence[Observation], ratios: Floats) -> Floats:
    """Return for each observation the factor of its shape: the median of `ratios`, nearer to 1 the fewer there are."""
    logs: dict[Shape, list[float]] = {}
    for each, log in zip(observations, np.log(ratios).tolist(), strict=True):
        logs.setdefault(each.shape, []).append(log)
    factors = {shape: float(np.median(mine)) * len(mine) / (len(mine) + PRIOR_COUNT) for shape, mine in logs.items()}
    return np.exp([factors[each.shape] for each in observations])


def _at_one_speed(observations: Sequence[Observation]) -> list[Observation]:
    """Return the observations with those kept of other models in the unit of the new ones.

    Each model's times are multiplied by one factor: the median over layers of what the new ones take against what the other
    model's prices say. Without new ones the units are left as they are.
    """
    new = [each for each in observations if not each.window.startswith(KEPT)]
    found = list(new)
    for window in dict.fromkeys(each.window for each in observations if each.window.startswith(KEPT)):
        old = [each for each in observations if each.window == window]
        ratios = []
        for kind in dict.fromkeys(each.shape.kind for each in new):
            mine, theirs = ([each for each in group if each.shape.kind is kind] for group in (new, old))
            if len(theirs) >= FEATURES // 2:
                channels, prices = _price_kind(theirs)
                guesses = _design(mine, channels) @ prices
                ratios += [each.time / guess for each, guess in zip(mine, guesses.tolist(), strict=True) if guess > 0]
        factor = float(np.median(ratios)) if ratios else 1.0
        found += [
            Observation(
                shape=each.shape, inward=each.inward, outward=each.outward, charge=each.charge,
                time=factor * each.time, window=window, count=each.count,
            )
            for each in old
        ]  # fmt: skip
    return found
