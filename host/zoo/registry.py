"""Models by name. The list of names is plain data: torch is imported when a model is built, not before."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent.contract.errors import StableError
from host.user_code import is_factory, resolve

if TYPE_CHECKING:
    from torch import nn

    from host.datasets.dataset import Normalisation
    from host.zoo.checkpoint import Checkpoint

WEIGHTS = Path(__file__).parent / "weights"


class ModelError(StableError):
    """The model cannot be had; the message says what is wrong and what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A net of the zoo: what it is, and the size it is built with when nothing else is asked for."""

    name: str
    summary: str
    source: str
    input_size: int
    num_classes: int
    in_channels: int = 3
    width: float = 1.0


ENTRIES = (
    Entry(
        name="mobilenet_v2",
        summary="MobileNetV2; images up to 64 pixels get the small-image form (first two strides 1)",
        source="Sandler et al. 2018, arXiv 1801.04381",
        input_size=224,
        num_classes=1000,
    ),
    Entry(
        name="resnet20",
        summary="CIFAR ResNet-20, parameter-free shortcuts",
        source="He et al. 2016, arXiv 1512.03385",
        input_size=32,
        num_classes=10,
    ),
    Entry(
        name="resnet56",
        summary="CIFAR ResNet-56, parameter-free shortcuts",
        source="He et al. 2016, arXiv 1512.03385",
        input_size=32,
        num_classes=10,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """A built model. `preprocess` is the normalisation its weights were trained with; None where unknown.

    `arguments` rebuild it: `load_model(name, **arguments)` for the zoo's own.
    """

    name: str
    module: nn.Module = field(repr=False)
    input_shape: tuple[int, int, int]
    num_classes: int
    checkpoint: Path | None = None
    preprocess: Normalisation | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """The zoo's names, in alphabetical order."""
    return tuple(sorted(entry.name for entry in ENTRIES))


def entry(name: str) -> Entry:
    """Raises ModelError for an unknown name, with the nearest one."""
    for known in ENTRIES:
        if known.name == name:
            return known
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ModelError(
        f"there is no model '{name}' in the zoo.{hint} It has {', '.join(names())}; "
        f"a model of your own is given as package.module:factory."
    )


def find_checkpoint(name: str, data_name: str) -> Path | None:
    """The packaged weights of the zoo model `name` trained on `data_name`, or None.

    Files are named NAME-wWIDTH-DATA.pt; of several widths the first in the alphabet is taken.
    """
    wanted = re.compile(rf"{re.escape(name)}-w[0-9.]+-{re.escape(data_name)}\.pt")
    found = sorted(path for path in WEIGHTS.iterdir() if wanted.fullmatch(path.name))
    return found[0] if found else None


def load_model(
    spec: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_size: int | None = None,
    width: float | None = None,
    checkpoint: Path | None = None,
) -> ZooModel:
    """Build `spec`, a zoo name or `package.module:factory`, and load `checkpoint` into it; in evaluation
    mode.

    What is not given comes from the checkpoint, else from the zoo's entry. A factory of the user's is called
    with those of the four arguments that it names; it returns an nn.Module, or (module, (C, H, W)), or a
    module with an attribute `input_shape`; without either, the shape is (in_channels, input_size, input_size)
    as given.

    Raises ModelError (also for arguments that contradict the checkpoint), CheckpointError, UserCodeError.
    """
    from host.zoo.checkpoint import CheckpointError, load_checkpoint, load_state

    given = {"num_classes": num_classes, "in_channels": in_channels, "input_size": input_size, "width": width}
    given = {key: value for key, value in given.items() if value is not None}
    loaded = None if checkpoint is None else load_checkpoint(checkpoint)
    if loaded is not None and loaded.architecture is not None:
        if loaded.architecture != spec:
            raise CheckpointError(f"{checkpoint} holds a {loaded.architecture}, not a {spec}")
        for key, value in given.items():
            if key in loaded.arguments and loaded.arguments[key] != value:
                raise ModelError(
                    f"{checkpoint} was made with {key}={loaded.arguments[key]}, "
                    f"but {key}={value} is asked for. Leave {key} out, or train a checkpoint with it."
                )
        given = {**given, **loaded.arguments}
    own = not is_factory(spec)
    built = _build_own(spec, given) if own else _build_theirs(spec, given)
    if loaded is not None:
        load_state(built.module, loaded, source=str(checkpoint))
    built.module.eval()
    return ZooModel(
        name=spec,
        module=built.module,
        input_shape=built.input_shape,
        num_classes=built.num_classes,
        checkpoint=checkpoint,
        preprocess=None if loaded is None else _preprocess(loaded),
        arguments=built.arguments,
    )


def _build_own(name: str, given: dict[str, Any]) -> ZooModel:
    known = entry(name)
    arguments = {
        "width": known.width,
        "input_size": known.input_size,
        "in_channels": known.in_channels,
        "num_classes": known.num_classes,
        **given,
    }
    for key, value in arguments.items():
        if not value > 0:
            raise ModelError(f"{name}: {key} must be positive, got {value}")
    try:
        module = _constructor(name)(**arguments)
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from error
    size = arguments["input_size"]
    return ZooModel(
        name=name,
        module=module,
        input_shape=(arguments["in_channels"], size, size),
        num_classes=arguments["num_classes"],
        arguments=arguments,
    )


def _constructor(name: str) -> Callable[..., nn.Module]:
    if name == "mobilenet_v2":
        from host.zoo.mobilenet_v2 import MobileNetV2

        return MobileNetV2
    from functools import partial

    from host.zoo.cifar_resnet import CifarResNet

    return partial(CifarResNet, depth=int(name.removeprefix("resnet")))


def _build_theirs(spec: str, given: dict[str, Any]) -> ZooModel:
    import torch
    from torch import nn

    factory = resolve(spec)
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = {key: value for key, value in given.items() if open_ended or key in parameters}
    if "width" in given and "width" not in arguments:
        raise ModelError(f"'{spec}' takes no width; leave it out, or give the factory a parameter of that name")
    try:
        made = factory(**arguments)
    except Exception as error:
        raise ModelError(f"'{spec}' failed when called with {arguments}: {type(error).__name__}: {error}") from error
    module, shape = made if isinstance(made, tuple) and len(made) == 2 else (made, getattr(made, "input_shape", None))
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"'{spec}' returned {type(module).__name__}; it must return a torch.nn.Module, or (module, (C, H, W))"
        )
    if shape is None:
        if "in_channels" not in given or "input_size" not in given:
            raise ModelError(
                f"'{spec}' doesn't say its input shape. Return (module, (C, H, W)) or set module.input_shape."
            )
        shape = (given["in_channels"], given["input_size"], given["input_size"])
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ModelError(f"'{spec}' gave the input shape {shape!r}; it must be (C, H, W), three positive integers")
    module.eval()
    try:
        with torch.no_grad():
            logits = module(torch.zeros(1, *shape))
    except Exception as error:
        raise ModelError(
            f"'{spec}' fails on one image of {'x'.join(map(str, shape))} (C x H x W): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"'{spec}' must return class scores of shape (N, classes), got {got}")
    return ZooModel(
        name=spec,
        module=module,
        input_shape=(shape[0], shape[1], shape[2]),
        num_classes=logits.shape[1],
        arguments=arguments,
    )


def _preprocess(checkpoint: Checkpoint) -> Normalisation | None:
    from host.datasets.dataset import Normalisation

    saved = checkpoint.metadata.get("normalisation")
    return None if saved is None else Normalisation(mean=tuple(saved["mean"]), std=tuple(saved["std"]))
