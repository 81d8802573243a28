"""A network at another input resolution than the one it was trained at.

The network of a smaller resolution is the same module behind a hook that shrinks images, so training, ranking and evaluation
go on with the data as they are; exported files take the small images.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.cuts import PrunableNetwork
from host.compress.formats import Format, format_for
from host.compress.groups import ModelNotPrunable, analyse
from host.compress.pricing import Pricing
from host.compress.variants import VARIANTS_FOLDER

if TYPE_CHECKING:
    from host.compress.session import Session
    from host.datasets.dataset import Images

#: (height, width) of images.
Size = tuple[int, int]


def shrink(images: Tensor, size: Size) -> Tensor:
    """Return images (N, C, H, W) at another size: bilinear with antialiasing, as Pillow's BILINEAR does it."""
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


class Shrinking:
    """A forward pre-hook that brings images to the size that the network is meant for. Images of that size pass as they are."""

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        images, *rest = inputs
        if tuple(images.shape[-2:]) == self.size:
            return None
        return (shrink(images, self.size), *rest)


def seen_at(module: nn.Module, size: Size | None) -> nn.Module:
    """Return a copy of `module` that shrinks what it is given to `size`; the module itself for None."""
    if size is None:
        return module
    behind = copy.deepcopy(module)
    behind.register_forward_pre_hook(Shrinking(size))
    return behind


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The network at one resolution: `size` of its images, None for the baseline's own, its analysis and its files' format.

    `pricing` is the one of float32 files of this size.
    """

    size: Size | None
    example: Tensor
    analysed: PrunableNetwork
    format: Format
    pricing: Pricing


def first_view(session: Session, example: Tensor) -> View:
    """Return the network at its own resolution; the baseline's file is the whole network's. ModelNotPrunable."""
    analysed, form = analyse(session.original, example), _format(session, None)
    if not analysed.network.groups:
        reasons = "; ".join(f"{each.layer}: {each.reason}" for each in analysed.network.left_alone[:5])
        raise ModelNotPrunable(f"{session.options.model} has no channels that can be removed ({reasons})")
    baseline = form.export(session.original, session.out / f"baseline{form.suffix}")
    form.begin(session.original, analysed, baseline)
    return View(
        size=None,
        example=example,
        analysed=analysed,
        format=form,
        pricing=Pricing(files=form, whole=baseline),
    )


def view_at(session: Session, size: Size) -> View:
    """Return the network at another resolution, its whole width measured in turns with the baseline.

    ModelNotPrunable if the network does not run on such images.
    """
    example = shrink(session.own.example, size)
    analysed, form = analyse(session.original, example), _format(session, size)
    own = {group.name: group.channels for group in session.own.analysed.network.groups}
    if {group.name: group.channels for group in analysed.network.groups} != own:
        raise ModelNotPrunable(f"at {named(size)} the network has other groups of channels")
    folder = session.out / VARIANTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    whole = form.export(session.original, folder / f"whole-{named(size)}{form.suffix}")
    form.begin(session.original, analysed, whole)
    found: float = session.once(
        f"{named(size)} whole network",
        lambda: session.measuring.compare(session.baseline, whole, f"at {named(size)}").ratio.ratio,
    )
    session.observer.note(f"at {named(size)} the whole network takes {found:.3f}x of the baseline's latency")
    return View(
        size=size,
        example=example,
        analysed=analysed,
        format=form,
        pricing=Pricing(files=form, whole=whole, full_ratio=found, size=size),
    )


def named(size: Size) -> str:
    """Return a size in words, height first."""
    return f"{size[0]}x{size[1]}"


def for_files(session: Session, images: Images) -> Images:
    """Return images (N, C, H, W) of the data as the files of the session's resolution take them."""
    if session.view.size is None:
        return images
    made: Images = shrink(torch.from_numpy(images), session.view.size).numpy()
    return made


def _format(session: Session, size: Size | None) -> Format:
    runtime = session.measuring.device.info.runtime(session.measuring.settings.runtime)
    assert runtime is not None
    channels, height, width = session.subject.model.input_shape
    folder = session.out / VARIANTS_FOLDER
    if size is not None:
        (height, width), folder = size, folder / named(size)
    return format_for(runtime, (channels, height, width), folder, session.observer.note)
