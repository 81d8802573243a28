"""Criteria: how much each channel of a group matters, one score per channel. Higher stays longer.

Every score of a group is divided by the group's mean, so that groups of different scale can be compared; a group of zeros stays
zero. The order within a group, which decides what is cut, doesn't change by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.cuts import NORMS, Cut, PrunableNetwork, Side
from host.compress.gradients import Batches, GateGradients, Loss, gate_gradients
from host.compress.per_channel import per_channel
from host.compress.suffix import one_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a criterion may look at. `gradients` is there for criteria in NEED_BATCHES."""

    module: nn.Module
    seed: int
    gradients: GateGradients | None = None


#: (group name, its cuts, context) -> scores (channels,).
Criterion = Callable[[str, Sequence[Cut], Context], Tensor]


def scores(
    network: PrunableNetwork,
    module: nn.Module,
    criterion: str,
    batches: Batches | None = None,
    loss: Loss | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return scores (channels,), float64, of every group by the criterion of that name, each group's mean 1.

    `batches` are needed by "taylor" and "hessian" only; `loss` (outputs, labels) -> scalar, a mean over images, defaults to the
    cross entropy; `seed` is for "random". Raises ValueError for an unknown criterion or for missing batches.
    """
    return evened(raw_scores(network, module, criterion, batches, loss, seed=seed))


def evened(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return scores with a mean of 1 in each group; a group of zeros stays as it is."""
    return {name: each / each.mean() if each.mean() > 0 else each for name, each in raw.items()}


@torch.no_grad()
def raw_scores(
    network: PrunableNetwork,
    module: nn.Module,
    criterion: str,
    batches: Batches | None = None,
    loss: Loss | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return `scores` in the criterion's own scale: nats for those in NEED_BATCHES, weights' for others."""
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion '{criterion}'; there are {', '.join(sorted(CRITERIA))}")
    gradients = None
    if criterion in NEED_BATCHES:
        if batches is None:
            raise ValueError(f"criterion '{criterion}' needs batches of images and labels")
        with one_thread():
            gradients = gate_gradients(network, module, batches, loss or F.cross_entropy)
    context = Context(module=module, seed=seed, gradients=gradients)
    return {
        group.name: CRITERIA[criterion](group.name, network.cuts[group.name], context).double().cpu()
        for group in network.network.groups
    }


def l1(_group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Sum of absolute weights per filter (Li et al., ICLR 2017, arXiv 1608.08710), over all producers of the
    group.
    """
    return _weight_norm(cuts, context.module, 1)


def l2(_group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Euclidean norm per filter (He et al., IJCAI 2018, arXiv 1808.06866), over all producers of the group."""
    return _weight_norm(cuts, context.module, 2)


def bn_gamma(group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Absolute scale of batch norm (Liu et al., ICCV 2017, arXiv 1708.06519); l2 for a group without batch
    norm.
    """
    terms = [
        per_channel(cut, layer.weight.abs())
        for cut in cuts
        if isinstance(layer := context.module.get_submodule(cut.module), NORMS) and layer.affine
    ]
    return _average(terms) if terms else l2(group, cuts, context)


def fpgm(_group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Sum of distances to the layer's other filters (geometric median; He et al., CVPR 2019, arXiv 1811.00250), over all
    producers of the group: the filter that the others can best stand in for goes first.
    """
    return _over_filters(cuts, context.module, lambda filters: torch.cdist(filters, filters).sum(1))


def taylor(group: str, _cuts: Sequence[Cut], context: Context) -> Tensor:
    """First-order change of the loss when the channel goes (Molchanov et al., CVPR 2019, arXiv 1906.10771).

    The gradient of the channel's gate, which equals the sum of weight x gradient over all weights that read the channel; its
    absolute value per batch, averaged over the batches.
    """
    assert context.gradients is not None
    return context.gradients.first[group]


def hessian(group: str, _cuts: Sequence[Cut], context: Context) -> Tensor:
    """Second-order change of the loss when the channel goes, the Hessian's diagonal taken as the empirical Fisher information.

    Half the mean over images of the squared gradient of the channel's gate, summed over its readers before squaring: OBD's
    term (LeCun et al., 1990) as in Theis et al., 2018, arXiv 1801.05787, and for coupled layers in Liu et al., ICML 2021,
    arXiv 2108.00708.
    """
    assert context.gradients is not None
    return context.gradients.square[group] / 2


def random(group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Uniform numbers from the seed and the group's name: the yardstick that a criterion has to beat."""
    generator = torch.Generator().manual_seed(crc32(f"{context.seed} {group}".encode()))
    return torch.rand(len(cuts[0].indices), generator=generator)


#: The criteria by name. To add one, write a function as those above, put it here, and its name in host.compress.options.CRITERIA.
CRITERIA: dict[str, Criterion] = {
    "taylor": taylor,
    "hessian": hessian,
    "l1": l1,
    "l2": l2,
    "fpgm": fpgm,
    "bn-gamma": bn_gamma,
    "random": random,
}
NEED_BATCHES = frozenset({"taylor", "hessian"})


def _weight_norm(cuts: Sequence[Cut], module: nn.Module, order: int) -> Tensor:
    return _over_filters(cuts, module, lambda filters: torch.linalg.vector_norm(filters, order, dim=1))


def _over_filters(cuts: Sequence[Cut], module: nn.Module, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Average over the group's producers what `measure` says of a layer's filters (out, weights of one)."""
    terms = []
    for cut in cuts:
        layer = module.get_submodule(cut.module)
        if cut.side is Side.OUTPUT and isinstance(layer, (nn.Conv2d, nn.Linear)):
            terms.append(per_channel(cut, measure(layer.weight.detach().flatten(1).double())))
    return _average(terms)


def _average(terms: Sequence[Tensor]) -> Tensor:
    """Mean over layers, each scaled to mean 1, so that a layer of many or large weights doesn't outvote the others."""
    return torch.stack([term.double() / term.mean() if term.mean() > 0 else term.double() for term in terms]).mean(0)
