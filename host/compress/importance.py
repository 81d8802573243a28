"""Criteria: how much each channel of a group matters, one score per channel. Higher stays longer.

Every score of a group is divided by the group's mean, so that groups of different scale can be compared; a
group of zeros stays zero. The order within a group, which decides what is cut, doesn't change by it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.cuts import NORMS, Cut, PrunableNetwork, Side
from host.compress.evaluation import device_of
from host.compress.suffix import one_thread

Loss = Callable[[Tensor, Tensor], Tensor]
#: Batches of images (N, C, H, W) and labels (N,).
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a criterion may look at. `gradients` holds, for criteria that asked for batches, each channel's
    first-order term.
    """

    module: nn.Module
    seed: int
    first_order: Mapping[str, Tensor] | None = None


#: (group name, its cuts, context) -> scores (channels,).
Criterion = Callable[[str, Sequence[Cut], Context], Tensor]


@torch.no_grad()
def scores(
    network: PrunableNetwork,
    module: nn.Module,
    criterion: str,
    batches: Batches | None = None,
    loss: Loss | None = None,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return scores (channels,), float64, of every group by the criterion of that name.

    `batches` are needed by "taylor" only; `loss` (outputs, labels) -> scalar defaults to the cross entropy;
    `seed` is for "random". Raises ValueError for an unknown criterion or for missing batches.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion '{criterion}'; there are {', '.join(sorted(CRITERIA))}")
    first_order = None
    if criterion in NEED_BATCHES:
        if batches is None:
            raise ValueError(f"criterion '{criterion}' needs batches of images and labels")
        with one_thread():
            first_order = _first_order(network, module, batches, loss or F.cross_entropy)
    context = Context(module=module, seed=seed, first_order=first_order)
    found = {}
    for group in network.network.groups:
        raw = CRITERIA[criterion](group.name, network.cuts[group.name], context).double().cpu()
        found[group.name] = raw / raw.mean() if raw.mean() > 0 else raw
    return found


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
        _per_channel(cut, layer.weight.abs())
        for cut in cuts
        if isinstance(layer := context.module.get_submodule(cut.module), NORMS) and layer.affine
    ]
    return _average(terms) if terms else l2(group, cuts, context)


def taylor(group: str, _cuts: Sequence[Cut], context: Context) -> Tensor:
    """First-order change of the loss when the channel goes (Molchanov et al., CVPR 2019, arXiv 1906.10771).

    The sum of weight x gradient over all weights that read the channel, which is what setting them to zero
    changes to first order; its absolute value per batch, averaged over the batches. Read at the consumers,
    the sum covers residuals and depthwise layers, and is not cancelled by a batch norm behind the producer.
    """
    assert context.first_order is not None
    return context.first_order[group]


def random(group: str, cuts: Sequence[Cut], context: Context) -> Tensor:
    """Uniform numbers from the seed and the group's name: the yardstick that a criterion has to beat."""
    generator = torch.Generator().manual_seed(crc32(f"{context.seed} {group}".encode()))
    return torch.rand(len(cuts[0].indices), generator=generator)


#: The criteria by name. To add one, write a function as those above, and put it here.
CRITERIA: dict[str, Criterion] = {"l1": l1, "l2": l2, "bn-gamma": bn_gamma, "taylor": taylor, "random": random}
NEED_BATCHES = frozenset({"taylor"})


def _weight_norm(cuts: Sequence[Cut], module: nn.Module, order: int) -> Tensor:
    terms = []
    for cut in cuts:
        layer = module.get_submodule(cut.module)
        if cut.side is Side.OUTPUT and isinstance(layer, (nn.Conv2d, nn.Linear)):
            norms = torch.linalg.vector_norm(layer.weight.detach().flatten(1).double(), order, dim=1)
            terms.append(_per_channel(cut, norms))
    return _average(terms)


def _average(terms: Sequence[Tensor]) -> Tensor:
    """Mean over layers, each scaled to mean 1, so that a layer of many or large weights doesn't outvote the
    others.
    """
    return torch.stack([term.double() / term.mean() if term.mean() > 0 else term.double() for term in terms]).mean(0)


def _per_channel(cut: Cut, values: Tensor) -> Tensor:
    """Gather values per index of a layer (width,) to sums per channel of the group (channels,)."""
    sums = torch.zeros(len(cut.indices), dtype=values.dtype, device=values.device)
    # Channels may have different numbers of indices here.
    channels = [channel for channel, indices in enumerate(cut.indices) for _ in indices]
    at = torch.as_tensor([index for indices in cut.indices for index in indices], device=values.device)
    return sums.index_add(0, torch.as_tensor(channels, device=values.device), values[at])


def _first_order(network: PrunableNetwork, module: nn.Module, batches: Batches, loss: Loss) -> dict[str, Tensor]:
    probe = copy.deepcopy(module).eval()
    device = device_of(probe)
    consumers = {
        cut.module: probe.get_submodule(cut.module)
        for cuts in network.cuts.values()
        for cut in cuts
        if cut.side is Side.INPUT
    }
    for parameter in probe.parameters():
        parameter.requires_grad_(False)
    weights: list[Tensor] = []
    for layer in consumers.values():
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        layer.weight.requires_grad_(True)
        weights.append(layer.weight)
    totals = {
        group.name: torch.zeros(group.channels, dtype=torch.float64, device=device) for group in network.network.groups
    }
    count = 0
    for images, labels in batches:
        with torch.enable_grad():
            value = loss(probe(images.to(device)), labels.to(device))
            gradients = torch.autograd.grad(value, weights)
        per_input = {
            name: _per_input(layer, weight.detach() * gradient)
            for (name, layer), weight, gradient in zip(consumers.items(), weights, gradients, strict=True)
        }
        for group, cuts in network.cuts.items():
            terms = [_per_channel(cut, per_input[cut.module]) for cut in cuts if cut.side is Side.INPUT]
            totals[group] += torch.stack(terms).sum(0).abs().double()
        count += 1
    if not count:
        raise ValueError("the criterion got no batch of images")
    return {group: total / count for group, total in totals.items()}


def _per_input(layer: nn.Module, product: Tensor) -> Tensor:
    """Sum a product of the weight's shape to one number per input feature (width,), grouped convolutions
    included.
    """
    if isinstance(layer, nn.Conv2d):
        rows = product.shape[0] // layer.groups
        return product.sum((2, 3)).view(layer.groups, rows, -1).sum(1).flatten()
    return product.sum(0)
