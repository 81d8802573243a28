"""The most that a measurement may take, for those who must end it at some time: the agent, and the host that waits for it."""

from __future__ import annotations

from device_agent.contract.settings import MeasureRequest

#: Loading a large model from an SD card, with the runtime's own optimisation of its graph, can take minutes on a small board.
LOAD_S = 120.0
#: A cold start: a process that begins, imports a runtime, loads and runs once.
COLD_START_S = LOAD_S
#: What a device with a power sensor rests before and after the timed part where the request leaves it to the device.
IDLE_S = 2.0


def longest_measurement_s(request: MeasureRequest) -> float:
    """Return the request's deadline, else a bound far above the time of all its parts (seconds)."""
    if request.deadline_s is not None:
        return request.deadline_s
    stopping = request.stopping
    # A profiled twin repeats the timed part, slower by the profiler's cost.
    passes = 3.0 if request.profile_nodes else 1.0
    timed_s = stopping.max_time_s * passes if request.soak_s is None else request.soak_s
    one = LOAD_S + 2 * stopping.warmup_time_s + 2 * timed_s + COLD_START_S * request.cold_starts
    idle_s = IDLE_S if request.idle_s is None else request.idle_s
    return LOAD_S + 2 * (1 + idle_s) + one * len(request.artifacts)
