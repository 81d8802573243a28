"""What an examination of a board finds: one line each, with the way to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """`fail`: the agent cannot work, or its figures would be wrong. `warn`: figures are worse or fewer than they could be."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`words` give the fact and its size; `mend` is what to do about it, a command where there is one, None if all is well."""

    check: str
    outcome: Outcome
    words: str
    mend: str | None = None


def ok(check: str, words: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, outcome=Outcome.OK, words=words)


def warn(check: str, words: str, mend: str | None = None) -> Finding:
    """Return a finding that figures are worse or fewer than they could be."""
    return Finding(check=check, outcome=Outcome.WARN, words=words, mend=mend)


def fail(check: str, words: str, mend: str | None = None) -> Finding:
    """Return a finding that the agent cannot work, or its figures would be wrong."""
    return Finding(check=check, outcome=Outcome.FAIL, words=words, mend=mend)
