"""Peak memory: activations that live at the same time, and the weights; and what the device makes of both.

Liveness is that of a runtime which keeps a tensor from the step that makes it to the last one that reads it, and writes a
result over an operand of equal size that is read no more (`Network.tensors` holds the outcome). What the device measures is
an affine map of it: the runtime's own structures, copies of weights packed for its kernels, workspaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from host.search.network import LiveTensor, Network, Plan
from host.search.solution import parameters

#: float32, for weights and activations alike.
ELEMENT_BYTES = 4


def live_sets(network: Network) -> list[tuple[LiveTensor, ...]]:
    """Return the tensors that live together, for every step that can be the peak: sets within another set are left out."""
    sets = {
        tuple(index for index, each in enumerate(network.tensors) if each.born <= step <= each.last)
        for step in {each.born for each in network.tensors}
    }
    largest = [one for one in sets if not any(set(one) < set(other) for other in sets)]
    return [tuple(network.tensors[index] for index in each) for each in sorted(largest)]


def activation_bytes(network: Network, plan: Mapping[str, int]) -> int:
    """Return the largest sum of activations that live together, for one image."""
    live = (sum(tensor.elements(plan) for tensor in each) for each in live_sets(network))
    return ELEMENT_BYTES * max(live, default=0)


def memory_bytes(network: Network, plan: Mapping[str, int]) -> int:
    """Return the peak of activations and all weights of a planned network, as the planner counts it."""
    return activation_bytes(network, plan) + ELEMENT_BYTES * parameters(network, plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """Peak memory of a plan on one device and runtime, above the runtime's import: `offset + scale * memory_bytes`.

    `error` is the largest relative error at measured plans that the map was not fitted to; None where there was none.
    `shortfall` is the largest share by which such a plan took more than predicted, 0 if none did.
    """

    network: Network
    offset: float
    scale: float
    error: float | None
    shortfall: float

    @classmethod
    def fit(cls, network: Network, measured: Sequence[tuple[Plan, int]]) -> MemoryModel | None:
        """Fit measured peaks (bytes) of plans: the map goes through the largest and the smallest, the others tell its error.

        Return None if they do not rise with the plan: then the network's own memory drowns in the runtime's.
        """
        points = sorted((memory_bytes(network, plan.kept), peak) for plan, peak in measured)
        (least, least_peak), (most, most_peak) = points[0], points[-1]
        if most <= least or most_peak <= least_peak:
            return None
        scale = (most_peak - least_peak) / (most - least)
        offset = most_peak - scale * most
        over = [peak / (offset + scale * size) for size, peak in points[1:-1]]
        return cls(
            network=network,
            offset=offset,
            scale=scale,
            error=max((abs(1 / each - 1) for each in over), default=None),
            shortfall=max((each - 1 for each in over if each > 1), default=0.0),
        )

    def predict(self, plan: Plan) -> float:
        """Return the predicted peak in bytes."""
        return self.peak(memory_bytes(self.network, plan.kept))

    def peak(self, size: float) -> float:
        """Return the predicted peak in bytes of a plan of so many `memory_bytes`."""
        return self.offset + self.scale * size

    def budget(self, peak_bytes: float) -> float:
        """Return the `memory_bytes` that a plan may have for a peak of at most `peak_bytes`, the model's shortfall allowed for.

        0 or less where not even an empty network would fit.
        """
        return (peak_bytes / (1 + self.shortfall) - self.offset) / self.scale

    def allowed(self, size: float) -> float:
        """Return the least budget that allows a plan of so many `memory_bytes`: its peak with the model's shortfall on top."""
        return self.peak(size) * (1 + self.shortfall)

    def line(self) -> str:
        """Return what the model says, in words."""
        known = "" if self.error is None else f"; a plan between them is predicted {self.error:.1%} off"
        return (
            f"peak memory above the runtime's own: {self.offset / 2**20:.2f} MiB and {self.scale:.2f} bytes for each of "
            f"weights and live activations, from the largest and the smallest plan{known}"
        )
