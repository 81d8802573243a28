"""What other work did of the processors while a job ran, in words for whoever reads its figures. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from device_agent.contract.measurement import Reading, Verdict, VerdictCode

#: The channel of device_agent/sensors/others.py: processors that all but the worker kept busy.
CHANNEL = "cpu.others"
#: Processors. An agent and a host on the same machine take some 0.1; less than this is not worth a word.
WORTH_A_NOTE = 0.3


def others_cpus(readings: Iterable[Reading], start_ns: int, end_ns: int) -> float | None:
    """Return how many processors other work kept busy in a stretch of time, None if nobody looked."""
    values = [one.value for one in readings if one.channel == CHANNEL and start_ns <= one.time_ns <= end_ns]
    return sum(values) / len(values) if values else None


def others_note(readings: Sequence[Reading], start_ns: int, end_ns: int, *, cores: int) -> str | None:
    """Return a remark on other work, None where there was too little of it to matter."""
    busy = others_cpus(readings, start_ns, end_ns)
    if busy is None or busy < WORTH_A_NOTE:
        return None
    return (
        f"other work kept {busy:.1f} of {cores} processors busy meanwhile: means, tails and energy have their part of it, and a"
        " neighbour that shares caches or memory slows every run without preempting any"
    )


def is_contended(verdicts: Iterable[Verdict]) -> bool:
    """Say whether other work is among the findings."""
    return any(verdict.code is VerdictCode.CONTENDED for verdict in verdicts)
