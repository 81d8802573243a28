"""Contract values <-> plain JSON values, by their annotations. What a newer version wrote beyond them is left out."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Return `value` (a contract dataclass, or anything in one) as dicts, lists, texts, numbers, None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Return the `kind` that `to_json` made `value` from. Raises ValueError, KeyError or TypeError for another form."""
    result: T = _build(kind, value)
    return result


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (option for option in typing.get_args(kind) if option is not type(None))
        return _build(inner, value)
    if origin is tuple:
        item, _ = typing.get_args(kind)  # the contract has tuples of one kind of item only
        return tuple(_build(item, part) for part in value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: _build(hints[name], part) for name, part in value.items() if name in hints})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return kind(value)
