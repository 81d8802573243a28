"""The file that a training goes on from, and the proof that it is of the same training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from host.compress.history import EpochRecord, TrainingError
from host.compress.recipe import Recipe
from host.zoo.checkpoint import write_atomically


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """What the epochs so far have left. `layout` names the memory layout of the weights, None for that of the module as it came.

    `average` and `average_steps` are of the moving average, None and 0 without one.
    """

    module: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    best: Mapping[str, Tensor]
    records: tuple[EpochRecord, ...]
    spent_s: float
    layout: str | None
    average: Mapping[str, Tensor] | None = None
    average_steps: int = 0


def fingerprint(
    recipe: Recipe, *, data_name: str, images: int, shapes: Mapping[str, list[int]], workers: int
) -> dict[str, Any]:
    """What must be equal for a training to go on from a state. Threads only change how fast it is."""
    values = dataclasses.asdict(recipe)
    del values["threads"]
    return {"recipe": values, "data": [data_name, images], "shapes": dict(shapes), "workers": workers}


def store_state(path: Path, state: TrainingState, marks: Mapping[str, Any]) -> None:
    """Write the state of the training that `marks`, its fingerprint, tell from others. Raises CannotWrite."""
    parts = {each.name: getattr(state, each.name) for each in dataclasses.fields(state)}
    parts["records"] = [dataclasses.asdict(record) for record in state.records]
    write_atomically(path, {"training_state": 1, "fingerprint": dict(marks), **parts})


def load_state_file(path: Path, marks: Mapping[str, Any]) -> TrainingState:
    """Read a state, its tensors on the CPU. Raises TrainingError for a damaged file and for one of another training."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = _completed(content.pop("fingerprint"))
        del content["training_state"]
        content["records"] = tuple(EpochRecord(**row) for row in content["records"])
        state = TrainingState(**content)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path} cannot be resumed from: {reason}. Delete it to start over.") from error
    for part, value in marks.items():
        if found.get(part) != value:
            raise TrainingError(
                f"{path} is of another training: other {part} ({_difference(found.get(part), value)}). "
                f"Repeat the options it was begun with, or delete it to start over."
            )
    return state


def _completed(found: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint of an older version with the defaults of what that version did not have."""
    defaults = dataclasses.asdict(Recipe())
    recipe = {**{key: value for key, value in defaults.items() if key != "threads"}, **found["recipe"]}
    if recipe["augmentation"] is not None:
        recipe["augmentation"] = {**defaults["augmentation"], **recipe["augmentation"]}
    return {"workers": 1, **found, "recipe": recipe}


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        return ", ".join(f"{key}: {theirs.get(key)} there, {mine.get(key)} here" for key in keys[:3])
    return f"{theirs} there, {mine} here"
