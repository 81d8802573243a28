"""When the fidelity benchmark says yes, no, or that it can't tell."""

from __future__ import annotations

from benchmarks.fidelity import judge

QUIET = [1.0, 1.001, 0.999, 1.0005, 0.9995, 1.002, 0.998, 1.0, 1.001, 0.999]
NOISY = [1.0, 1.3, 0.7, 1.2, 0.8, 1.4, 0.75, 1.1, 0.9, 1.25]


def _verdict(agent: float, noise: list[float], others: str | None = None) -> tuple[bool | None, str | None]:
    """Judge an agent that takes `agent` times as long as a bare loop under this noise."""
    found = [(1e6 * agent * one, 1e6, 1e6 * other) for one, other in zip(noise, reversed(noise), strict=True)]
    row = judge("net", found, others=others)[2]
    return row.met, row.reason


def test_an_agent_that_tells_the_truth() -> None:
    assert _verdict(1.0, QUIET) == (True, None)


def test_an_agent_that_adds_five_percent() -> None:
    assert _verdict(1.05, QUIET) == (False, None)


def test_neighbours_are_no_excuse_for_what_noise_does_not_explain() -> None:
    assert _verdict(1.05, QUIET, "others took a core") == (False, None)


def test_noise_leaves_it_open() -> None:
    met, reason = _verdict(1.0, NOISY)
    assert met is None
    assert reason is not None
    assert "two bare loops" in reason


def test_noise_does_not_excuse_an_agent_that_is_twice_as_slow() -> None:
    assert _verdict(3.0, NOISY) == (False, None)
