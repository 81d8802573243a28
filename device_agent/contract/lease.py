"""Exclusive use of a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A promise of exclusive use. `token` is the fencing token that every call carries; a restart of the agent voids it."""

    token: str
    holder: str
    reason: str
    remaining_s: float
