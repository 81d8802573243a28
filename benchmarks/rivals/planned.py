"""Plans of our own planner without our latency model: the uniform one, and one that counts MACs. Bisected on measured latency."""

from __future__ import annotations

from torch import nn

from benchmarks.rivals.meeting import bisect
from benchmarks.rivals.trial import Pruned, Trial
from host.compress.cutting import RECALIBRATION_BATCHES
from host.compress.importance import scores
from host.compress.sensitivity import measure_losses
from host.compress.surgery import channels_to_keep, prune
from host.search.network import Layer, Network, Plan
from host.search.planner import solve
from host.search.solution import Price
from host.search.uniform import uniform

#: What people round to where nobody asked the device.
STEP = 8


def stepped(network: Network) -> dict[str, tuple[int, ...]]:
    """Return by group the widths that are multiples of STEP, and the full one."""
    return {group.name: tuple(sorted({*range(STEP, group.channels, STEP), group.channels})) for group in network.groups}


def macs_price(network: Network) -> Price:
    """Return a price that is a layer's share of the baseline's MACs."""
    whole = network.macs(network.full_plan().kept)

    def price(layer: Layer, width_in: int, width_out: int) -> float:
        return width_in * width_out * layer.kernel * layer.output_pixels / layer.groups / whole

    return price


def uniform_width(trial: Trial, target: float) -> Pruned:
    """One keep ratio for all groups, the residual streams included; the best channels by Taylor stay."""
    network = trial.analysed.network
    price, widths = macs_price(network), stepped(network)
    return _bisected(trial, target, lambda budget: uniform(network, widths, price, budget).plan)


def macs_driven(trial: Trial, target: float) -> Pruned:
    """Our planner with measured losses, under a budget of MACs instead of latency."""
    network, batches = trial.analysed.network, trial.batches()
    price, widths = macs_price(network), stepped(network)
    ranked = scores(trial.analysed, trial.baseline, "taylor", batches=batches, seed=trial.seed)
    losses = measure_losses(
        trial.analysed,
        trial.baseline,
        ranked,
        widths,
        batches,
        recalibrate=[images for images, _ in batches[:RECALIBRATION_BATCHES]],
        workers=trial.threads,
    )
    return _bisected(trial, target, lambda budget: solve(network, widths, losses, price, latency_ratio=budget).plan)


def _bisected(trial: Trial, target: float, plan_for: object) -> Pruned:
    assert callable(plan_for)
    network = trial.analysed.network
    ranked = scores(trial.analysed, trial.baseline, "taylor", batches=trial.batches(), seed=trial.seed)
    least = Plan(kept={name: widths[0] for name, widths in stepped(network).items()})
    lowest = network.macs(least.kept) / network.macs(network.full_plan().kept)
    plans: dict[float, Plan] = {}

    def propose(budget: float) -> nn.Module:
        # The narrowest plan itself: at a budget of exactly its MACs rounding could leave it out.
        plans[budget] = least if budget <= lowest else plan_for(budget)
        return prune(trial.analysed, trial.baseline, channels_to_keep(trial.analysed, ranked, plans[budget]))

    met = bisect(trial, propose, target, low=lowest)
    return Pruned(module=met.module, notes={"plan": dict(plans[met.dial].kept), "macs_ratio": met.dial})
