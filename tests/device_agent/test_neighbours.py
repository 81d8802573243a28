"""What is said of other work that ran beside a job."""

from __future__ import annotations

from device_agent.contract.measurement import Reading
from device_agent.contract.neighbours import others_cpus, others_note


def readings(*values: float, step_ns: int = 500_000_000) -> list[Reading]:
    return [Reading(channel="cpu.others", time_ns=number * step_ns, value=value) for number, value in enumerate(values)]


def test_only_the_timed_part_counts() -> None:
    assert others_cpus(readings(5.0, 1.0, 2.0, 5.0), 500_000_000, 1_000_000_000) == 1.5
    assert others_cpus(readings(5.0), 1, 2) is None


def test_a_busy_neighbour_is_worth_a_note_and_a_quiet_one_is_not() -> None:
    note = others_note(readings(1.6, 1.8), 0, 10**9, cores=2)
    assert note is not None
    assert note.startswith("other work kept 1.7 of 2 processors busy")
    assert others_note(readings(0.1, 0.2), 0, 10**9, cores=2) is None
    assert others_note([], 0, 10**9, cores=2) is None
