"""When the sampler benchmark says yes, no, or that it can't tell."""

from __future__ import annotations

import pytest

from benchmarks.sampler import judge

QUIET = [1.0, 1.001, 0.999, 1.0005, 0.9995, 1.002, 0.998, 1.0, 1.001, 0.999]
NOISY = [1.0, 1.3, 0.7, 1.2, 0.8, 1.4, 0.75, 1.1, 0.9, 1.25]


def verdict(slower: float, noise: list[float], others: str | None = None) -> tuple[bool | None, str | None]:
    """Judge a sampler with which a run takes `slower` times as long, under this noise."""
    found = [(1e6 * slower * one, 1e6, 1e6 * other) for one, other in zip(noise, reversed(noise), strict=True)]
    row = judge("board", found, others=others)[1]
    return row.met, row.reason


def test_a_sampler_that_disturbs_nothing() -> None:
    assert verdict(1.0, QUIET) == (True, None)
    assert verdict(1.0, QUIET, "others took a core") == (True, None)


def test_a_sampler_that_costs_two_percent() -> None:
    assert verdict(1.02, QUIET) == (False, None)
    assert verdict(1.02, QUIET, "others took a core") == (False, None), "noise does not explain it"


@pytest.mark.parametrize("others", [None, "others took a core"])
def test_noise_leaves_it_open(others: str | None) -> None:
    met, reason = verdict(1.0, NOISY, others)
    assert met is None
    assert reason is not None
    assert "two stretches without it" in reason


def test_two_rounds_prove_nothing() -> None:
    met, reason = verdict(1.0, QUIET[:2])
    assert met is None
    assert reason is not None
    assert "--quick" in reason
