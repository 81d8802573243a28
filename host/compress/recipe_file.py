"""Recipes in TOML files: read, checked key by key, and laid over the defaults of a command (docs/training.md)."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agent.contract.errors import InvalidRequest
from host.compress.recipe import Distillation, EarlyStop, Ema, Recipe
from host.datasets.augment import Augmentation

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

#: The fields that are tables in the file.
TABLES: dict[str, type[Any]] = {
    "augmentation": Augmentation,
    "distillation": Distillation,
    "ema": Ema,
    "early_stop": EarlyStop,
}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class RecipeInvalid(InvalidRequest):
    """The recipe file cannot be used; the message names the file, the key and what is allowed."""


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a TOML file: only what it says, each key known and each value of the right kind. Raises RecipeInvalid."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeInvalid(f"the recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeInvalid(f"the recipe {path} is not a TOML file: {error}") from error
    _check(values, Recipe, f"the recipe {path}", "")
    laid_over(Recipe(distillation=Distillation()), values, source=f"the recipe {path}")
    return values


def laid_over(base: Recipe, values: Mapping[str, Any], *, source: str) -> Recipe:
    """`base` with what a file says in the place of its fields; a table keeps what it doesn't name. Raises RecipeInvalid."""
    changes = dict(values)
    for name, table in TABLES.items():
        if name in changes:
            changes[name] = _table(getattr(base, name) or table(), changes[name], source, name)
    recipe: Recipe = _replaced(base, changes, source, "")
    return recipe


def over_file(values: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """Options of a command line, None where not given, with what the file says in the place of those."""
    said = {key: values[key] for key in given if key in values}
    return {**said, **{key: value for key, value in given.items() if value is not None}}


def _table(start: Any, value: bool | Mapping[str, Any], source: str, name: str) -> Any:
    if isinstance(value, bool):
        return start if value else None
    return _replaced(start, value, source, f"[{name}] ")


def _replaced(start: Any, changes: Mapping[str, Any], source: str, where: str) -> Any:
    try:
        return dataclasses.replace(start, **changes)
    except ValueError as error:
        raise RecipeInvalid(f"{source}: {where}{error}") from error


def _check(values: Mapping[str, Any], kind: type[Any], source: str, table: str) -> None:
    hints = typing.get_type_hints(kind)
    where, has = (f"[{table}] ", f"{source}: [{table}] has") if table else ("", f"{source} has")
    for key, value in values.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            meant = f", did you mean {close[0]}?" if close else "."
            raise RecipeInvalid(f"{has} no key {key}{meant} Allowed are {', '.join(hints)}")
        if not table and key in TABLES:
            if isinstance(value, Mapping):
                _check(value, TABLES[key], source, key)
            elif not isinstance(value, bool):
                raise RecipeInvalid(f"{source}: {key} must be a table [{key}], true or false, got {value!r}")
            continue
        wanted = next(each for each in (typing.get_args(hints[key]) or (hints[key],)) if each is not types.NoneType)
        fits = type(value) in (int, float) if wanted is float else type(value) is wanted
        if not fits:
            raise RecipeInvalid(f"{source}: {where}{key} must be {_KINDS[wanted]}, got {value!r}")
