"""Presence and enums, the same way in every message."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from device_agent.contract.errors import InvalidRequest

E = TypeVar("E", bound=Enum)


def enum_from_pb(table: Mapping[E, int], number: int, what: str) -> E:
    """Return the member for a number; raise InvalidRequest for 0 and for numbers of a newer contract."""
    for member, known in table.items():
        if known == number:
            return member
    raise InvalidRequest(f"{what} has the number {number}, which this version does not know; update the older side")


def optional(message: Any, field: str) -> Any:
    """Return an `optional` field's value, None where it was not set."""
    return getattr(message, field) if message.HasField(field) else None


def required(message: Any, field: str) -> Any:
    """Return a message field; raise InvalidRequest if it was not set."""
    if not message.HasField(field):
        raise InvalidRequest(f"{message.DESCRIPTOR.name} lacks its field {field!r}")
    return getattr(message, field)


def equal_lengths(message: Any, *columns: str) -> None:
    """Raise InvalidRequest unless the repeated fields `columns` have the same length."""
    lengths = {name: len(getattr(message, name)) for name in columns}
    if len(set(lengths.values())) > 1:
        raise InvalidRequest(f"columns of {message.DESCRIPTOR.name} differ in length: {lengths}")
