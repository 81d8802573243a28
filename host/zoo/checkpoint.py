"""Checkpoints: a state dict and what rebuilds the net around it. Read without unpickling code."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from device_agent.contract.errors import StableError
from host.files import write_whole

FORMAT = 1


class CheckpointError(StableError):
    """The file is no checkpoint, is damaged, or belongs to another net."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`architecture` is a zoo name or `package.module:factory`, `arguments` what it is called with; None if
    unknown.
    """

    state: dict[str, Tensor] = field(repr=False)
    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def write_atomically(path: Path, value: object) -> None:
    """Write what torch.save makes of `value`; a kill leaves the old file or the new one. Raises CannotWrite."""
    # Not straight into a file: on a full disk torch hides the system's error behind one of its own.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_whole(path, buffer.getvalue())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write; `arguments` and `metadata` must hold plain numbers, strings, lists and dicts only. Raises CannotWrite."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.state.items()}
    write_atomically(
        path,
        {
            "format": FORMAT,
            "architecture": checkpoint.architecture,
            "arguments": checkpoint.arguments,
            "metadata": checkpoint.metadata,
            "state": state,
        },
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read our own format, or a bare state dict (also below `state_dict`, also with the `module.` of
    DataParallel).

    Raises CheckpointError for anything else, with the path.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: {reason}. "
            f"It may be cut short, or hold more than tensors and plain values, which are all that is read. "
            f"Copy it or train it again."
        ) from error
    if isinstance(content, dict) and "format" in content:
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has checkpoint format {content['format']}, this version reads format {FORMAT}: "
                f"use the boardfit version that wrote it, or a newer one"
            )
        try:
            return Checkpoint(
                state=_state(content["state"], path),
                architecture=content["architecture"],
                arguments=dict(content["arguments"]),
                metadata=dict(content["metadata"]),
            )
        except KeyError as error:
            raise CheckpointError(f"{path} lacks the entry {error}, so it is no complete checkpoint") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return Checkpoint(state=_state(content, path))


def load_state(module: nn.Module, checkpoint: Checkpoint, *, source: str) -> None:
    """Put the weights into `module`. Raises CheckpointError naming what doesn't fit."""
    own = module.state_dict()
    missing = [key for key in own if key not in checkpoint.state and not key.endswith("num_batches_tracked")]
    surplus = [key for key in checkpoint.state if key not in own]
    shapes = [
        f"{key} is {tuple(value.shape)} in the file and {tuple(own[key].shape)} in the model"
        for key, value in checkpoint.state.items()
        if key in own and own[key].shape != value.shape
    ]
    problems = [f"missing {', '.join(missing[:3])}"] if missing else []
    problems += [f"unknown {', '.join(surplus[:3])}"] if surplus else []
    problems += shapes[:3]
    if problems:
        count = len(missing) + len(surplus) + len(shapes)
        raise CheckpointError(
            f"{source} does not fit this model ({count} entries differ): {'; '.join(problems)}. "
            f"Build the model with the width, channels and classes that the checkpoint was made with."
        )
    module.load_state_dict(checkpoint.state, strict=False)


def _state(value: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, dict) or not value or not all(isinstance(item, Tensor) for item in value.values()):
        raise CheckpointError(f"{path} holds no state dict (names to tensors): save `module.state_dict()`")
    return {str(key).removeprefix("module."): item for key, item in value.items()}
