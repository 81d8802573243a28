"""The weights of a cut network, refitted layer by layer so that each yields what it did before, in one pass over some images.

A layer that lost inputs, or whose inputs changed because layers before it lost some, gets the weights that reproduce its former
outputs best from what it now sees, by least squares (He et al., ICCV 2017, arXiv 1707.06168; inputs of the cut network and
outputs of the former one as in Zhang et al., 2015, arXiv 1505.06798). Labels and gradients are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.cuts import Place, PrunableNetwork, Side, removed_indices
from host.compress.suffix import BatchNorm, one_thread

#: Ridge towards the former weights, as a share of the mean variance of the inputs.
RIDGE = 0.1
#: Floats that the former outputs of one layer may take: fewer positions are looked at where there are many channels.
MOST_FLOATS = 2**22
#: Bytes of the largest activation of one pass: fewer images are taken where images are large.
MOST_BYTES = 2**27


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where a layer's outputs (N, channels) were taken: `rows` and `columns` of the map; of a linear layer, `rows` of inputs."""

    rows: Tensor
    columns: Tensor | None
    outputs: Tensor


def images_for(network: PrunableNetwork, most: int) -> int:
    """Return how many images, up to `most`, keep the largest activation of a pass within MOST_BYTES; 16 at least."""
    full = network.network.full_plan().kept
    largest = max(4 * layer.output_pixels * layer.widths(full)[1] for layer in network.network.layers)
    return max(min(16, most), min(most, MOST_BYTES // largest))


class Reconstruction:
    """What the layers of `module` yield on `images` (N, C, H, W), and `fit`, which brings a cut copy near to it.

    `positions` are looked at in each image's map, at random by `seed`. The module is left as it was.
    """

    def __init__(
        self, network: PrunableNetwork, module: nn.Module, images: Tensor, *, positions: int = 32, seed: int = 0
    ) -> None:
        self._network, self._images, self._positions = network, images, positions
        self._generator = torch.Generator().manual_seed(seed)
        self._targets: dict[str, _Target] = {}
        calls: dict[str, int] = {}

        def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
                calls[name] = calls.get(name, 0) + 1
                self._targets[name] = self._target(layer, output)

            return hook

        handles = [
            module.get_submodule(name).register_forward_hook(record(name)) for name in _refittable(network, module)
        ]
        try:
            with torch.no_grad(), one_thread():
                module(images)
        finally:
            for handle in handles:
                handle.remove()
        for name, count in calls.items():
            if count > 1:  # weights that serve in two places have two sets of outputs
                del self._targets[name]

    @torch.no_grad()
    def fit(self, pruned: nn.Module, kept: Mapping[str, Sequence[int]]) -> None:
        """Refit the weights of `pruned`, cut from the module to the channels `kept` by group, and its batch norm, in place."""
        groups = {group.name: group.channels for group in self._network.network.groups}
        removed = {name: sorted(set(range(groups[name])) - set(indices)) for name, indices in kept.items()}
        gone = removed_indices(self._network.cuts, removed)

        def refit(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                target = self._targets[name]
                lost = gone.get(Place(name, Side.OUTPUT), set())
                stay = [index for index in range(target.outputs.shape[1]) if index not in lost]
                _solve(layer, _rows(layer, inputs[0], target), target.outputs[:, stay])

            return hook

        handles = []
        for name in self._targets:
            layer = pruned.get_submodule(name)
            if isinstance(layer, (nn.Conv2d, nn.Linear)):  # a dropped branch has none
                handles.append(layer.register_forward_pre_hook(refit(name)))
        norms = [each for each in pruned.modules() if isinstance(each, BatchNorm) and each.track_running_stats]
        momenta = [each.momentum for each in norms]
        pruned.eval()
        try:
            for each in norms:
                each.reset_running_stats()
                each.momentum = None  # torch: a cumulative average, here over the one batch
                each.train()
            with one_thread():
                pruned(self._images)
        finally:
            for each, momentum in zip(norms, momenta, strict=True):
                each.momentum = momentum
                each.eval()
            for handle in handles:
                handle.remove()

    def _target(self, layer: nn.Module, output: Tensor) -> _Target:
        if isinstance(layer, nn.Conv2d):
            count, channels, height, width = output.shape
            most = max(1, min(self._positions, MOST_FLOATS // (count * channels)))
            places = torch.randperm(height * width, generator=self._generator)[:most]
            rows, columns = places // width, places % width
            return _Target(rows=rows, columns=columns, outputs=_flat(output[:, :, rows, columns]))
        flat = output.reshape(-1, output.shape[-1])
        most = max(1, min(self._positions * len(output), MOST_FLOATS // flat.shape[1]))
        rows = torch.randperm(len(flat), generator=self._generator)[:most]
        return _Target(rows=rows, columns=None, outputs=flat[rows].clone())


def _refittable(network: PrunableNetwork, module: nn.Module) -> list[str]:
    """Return the layers that read a group, dense and with plain zero padding, and share their weights with none."""
    readers = dict.fromkeys(cut.module for cuts in network.cuts.values() for cut in cuts if cut.side is Side.INPUT)
    owners: dict[int, int] = {}
    for layer in module.modules():
        if isinstance(weight := getattr(layer, "weight", None), Tensor):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    found = []
    for name in readers:
        layer = module.get_submodule(name)
        dense = isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d)
            and layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
        if dense and owners[id(layer.weight)] == 1:
            found.append(name)
    return found


def _rows(layer: nn.Module, inputs: Tensor, target: _Target) -> Tensor:
    """Return what the layer sees where the target was taken, (rows, columns of its flat weight)."""
    if not isinstance(layer, nn.Conv2d):
        return inputs.reshape(-1, inputs.shape[-1])[target.rows]
    assert target.columns is not None
    high, wide = (int(each) for each in layer.padding)
    padded = F.pad(inputs, (wide, wide, high, high))
    taps = [
        padded[
            :,
            :,
            target.rows * layer.stride[0] + row * layer.dilation[0],
            target.columns * layer.stride[1] + column * layer.dilation[1],
        ]
        for row in range(layer.kernel_size[0])
        for column in range(layer.kernel_size[1])
    ]
    return _flat(torch.stack(taps, 2).flatten(1, 2))


def _flat(values: Tensor) -> Tensor:
    """(N, channels, positions) to (N * positions, channels)."""
    return values.permute(0, 2, 1).reshape(-1, values.shape[1])


def _solve(layer: nn.Module, seen: Tensor, wanted: Tensor) -> None:
    """Set the layer's weights to the ridge solution about its own. Means are left out: a bias or a batch norm brings them."""
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    mean_in, mean_out = seen.mean(0), wanted.mean(0)
    centred = seen - mean_in
    covariance = (centred.T @ centred / len(seen)).double()
    towards = (centred.T @ (wanted - mean_out) / len(seen)).double()
    ridge = RIDGE * covariance.diagonal().mean()
    if not ridge > 0:
        return
    former = layer.weight.double().flatten(1)
    system = covariance + ridge * torch.eye(len(covariance), dtype=torch.float64)
    solution = torch.linalg.solve(system, towards + ridge * former.T).T
    if not torch.isfinite(solution).all():
        return
    layer.weight.copy_(solution.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(mean_out - solution.to(mean_in.dtype) @ mean_in)
