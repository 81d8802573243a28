"""Verdicts: each finding alone, with its figure, threshold and hint; stable stands alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading, Run, RunKind, Verdict, VerdictCode
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.contract.verdicts import judge
from device_agent.worker.result import WorkerArtifact, WorkerResult

REQUEST = MeasureRequest(artifacts=("a" * 64,))
CHANNELS = (
    Channel(name="thermal.cpu", quantity=Quantity.TEMPERATURE, site="cpu", source=""),
    Channel(name="thermal.wifi", quantity=Quantity.TEMPERATURE, site="board", source=""),
    Channel(name="cpufreq.policy0", quantity=Quantity.FREQUENCY, site="cpu", source=""),
    Channel(name="pi.throttled", quantity=Quantity.FLAGS, site="soc", source=""),
    Channel(name="cpu.pressure", quantity=Quantity.FRACTION, site="cpu", source=""),
    Channel(name="cgroup.cpu-throttled", quantity=Quantity.COUNT, site="cpu", source=""),
    Channel(name="soctherm.oc1", quantity=Quantity.COUNT, site="soc", source=""),
)


def result(
    provider: str = "CPUExecutionProvider", share: float | None = 1.0, steal: float | None = 0.0
) -> WorkerResult:
    artifact = WorkerArtifact(
        sha256="a" * 64,
        load_ns=1,
        provider=provider,
        provider_share=share,
        peak_memory_bytes=None,
        peak_rss_bytes=None,
        nodes=None,
    )
    return WorkerResult(
        runtime="onnxruntime",
        runtime_version="1",
        threads=1,
        artifacts=(artifact,),
        device_time_ns=1,
        steal_fraction=steal,
        clock_resolution_ns=1,
    )


def runs(
    count: int = 300, latency: Callable[[int, random.Random], float] = lambda _, rng: 1e6 + rng.gauss(0, 1e4)
) -> list[Run]:
    rng = random.Random(1)
    found, time_ns = [], 1000
    for number in range(count):
        taken = round(latency(number, rng))
        found.append(
            Run(artifact=0, kind=RunKind.TIMED, turn=number, start_ns=time_ns, latency_ns=taken, disturbed=False)
        )
        time_ns += taken
    return found


def readings(made: Sequence[Run], channel: str, values: Sequence[float]) -> list[Reading]:
    """Spread values over the timed window."""
    begin, end = made[0].start_ns, made[-1].start_ns
    step = (end - begin) // max(1, len(values))
    return [Reading(channel=channel, time_ns=begin + i * step, value=value) for i, value in enumerate(values)]


def check(
    made: Sequence[Run],
    read: Sequence[Reading] = (),
    facts: WorkerResult | None = None,
    request: MeasureRequest = REQUEST,
    throttle: float | None = 80.0,
) -> dict[VerdictCode, Verdict]:
    found = judge(request, 0, made, read, facts or result(), channels=CHANNELS, throttle_temperature_c=throttle)
    assert len({verdict.code for verdict in found}) == len(found)
    for verdict in found:
        if verdict.code is not VerdictCode.STABLE:
            assert verdict.unit
            assert verdict.hint
            assert verdict.threshold is not None
    return {verdict.code: verdict for verdict in found}


def test_quiet_runs_are_stable_and_nothing_else() -> None:
    assert list(check(runs())) == [VerdictCode.STABLE]


def test_runs_near_the_clock_are_too_short() -> None:
    found = check(runs(latency=lambda _, rng: 6_000 + rng.gauss(0, 50)))
    assert list(found) == [VerdictCode.TOO_SHORT]
    assert found[VerdictCode.TOO_SHORT].value == pytest.approx(6000, rel=0.01)
    coarse = replace(result(), clock_resolution_ns=100_000)
    assert VerdictCode.TOO_SHORT in check(runs(), facts=coarse)


def test_preempted_runs_are_contended() -> None:
    made = [replace(run, disturbed=number % 5 == 0) for number, run in enumerate(runs())]
    found = check(made)
    assert list(found) == [VerdictCode.CONTENDED]
    assert found[VerdictCode.CONTENDED].value == pytest.approx(0.2)
    rare = [replace(run, disturbed=number % 20 == 0) for number, run in enumerate(runs())]
    assert list(check(rare)) == [VerdictCode.STABLE]


def test_few_preempted_runs_that_wait_long_are_contended() -> None:
    """One run in fifty of a 65 us model meets a neighbour and waits 4 ms: the median stands, most of the time is lost."""
    made = [
        replace(run, disturbed=number % 50 == 0, latency_ns=4_065_000 if number % 50 == 0 else run.latency_ns)
        for number, run in enumerate(runs(600, lambda _, rng: 65e3 + rng.gauss(0, 500)))
    ]
    [found] = judge(REQUEST, 0, made, (), result())
    assert (found.code, found.unit) == (VerdictCode.CONTENDED, "share of the runs' time lost to preemption")
    assert found.value == pytest.approx(12 * 4e6 / (588 * 65e3 + 12 * 4.065e6), rel=0.02)


def test_stolen_time_is_contended() -> None:
    found = check(runs(), facts=result(steal=0.05))
    assert found[VerdictCode.CONTENDED].value == 0.05
    assert list(check(runs(), facts=result(steal=None))) == [VerdictCode.STABLE]


def long_runs(_: int, rng: random.Random) -> float:
    return 60e6 + rng.gauss(0, 1e5)


def test_marks_of_runs_longer_than_a_time_slice_are_void() -> None:
    made = [replace(run, disturbed=True) for run in runs(latency=long_runs)]
    assert list(check(made)) == [VerdictCode.STABLE]


def test_where_marks_are_void_the_pressure_tells() -> None:
    made = runs(latency=long_runs)
    assert list(check(made, readings(made, "cpu.pressure", [0.0, 0.04, 0.05]))) == [VerdictCode.STABLE]
    found = check(made, readings(made, "cpu.pressure", [0.0, 0.5, 0.7]))
    assert found[VerdictCode.CONTENDED].unit == "share of time that tasks waited for a processor"
    assert "--threads" in (found[VerdictCode.CONTENDED].hint or "")


def test_pressure_from_before_the_runs_is_taken_out() -> None:
    made = runs(latency=long_runs)
    earlier = Reading(channel="cpu.pressure", time_ns=0, value=0.9)
    # 18 s later the kernel's mean still holds a sixth of what was before: 0.15 without anybody waiting meanwhile.
    fading = readings(made, "cpu.pressure", [0.9, 0.5, 0.28, 0.15])
    assert list(check(made, [earlier, *fading])) == [VerdictCode.STABLE]
    assert VerdictCode.CONTENDED in check(made, [earlier, *readings(made, "cpu.pressure", [0.9, 0.8, 0.7, 0.6])])


def test_pressure_says_nothing_where_marks_do() -> None:
    made = runs(latency=lambda _, rng: 9e6 + rng.gauss(0, 1e4), count=2000)
    assert list(check(made, readings(made, "cpu.pressure", [0.9] * 20))) == [VerdictCode.STABLE]


def test_a_cpu_quota_that_stops_the_worker_is_contended() -> None:
    made = runs(latency=long_runs)
    assert list(check(made, readings(made, "cgroup.cpu-throttled", [7.0] * 5))) == [VerdictCode.STABLE]
    found = check(made, readings(made, "cgroup.cpu-throttled", [7.0, 20.0, 55.0]))
    contended = found[VerdictCode.CONTENDED]
    assert contended.unit == "share of time stopped by a CPU quota"
    assert contended.value == pytest.approx(48 * 0.1 / 18.0, rel=0.02)


def test_a_count_from_before_the_runs_is_where_the_rise_begins() -> None:
    made = runs(latency=long_runs)
    inside = readings(made, "soctherm.oc1", [3.0] * 4)
    assert list(check(made, inside)) == [VerdictCode.STABLE]
    found = check(made, [Reading(channel="soctherm.oc1", time_ns=1, value=1.0), *inside])
    assert found[VerdictCode.THROTTLED].value == 2.0
    assert found[VerdictCode.THROTTLED].unit == "over-current events"


def test_two_modes_are_unstable() -> None:
    flips = runs(count=600, latency=lambda _, rng: (1e6 if rng.random() < 0.6 else 1.2e6) + rng.gauss(0, 1e4))
    found = check(flips)[VerdictCode.UNSTABLE]
    assert found.unit == "relative distance of two modes"
    assert found.value == pytest.approx(0.2, abs=0.02)
    assert "of the runs in the slower one" in (found.hint or "")
    assert "--cpu-group" in (found.hint or "")


def test_a_long_tail_is_not_a_mode() -> None:
    tailed = runs(count=3000, latency=lambda _, rng: 1e6 + 2e4 * rng.paretovariate(1.2))
    assert list(check(tailed)) == [VerdictCode.STABLE]


def test_a_soak_may_drift_and_a_paired_job_hears_that_its_ratio_holds() -> None:
    warming = runs(count=900, latency=lambda i, rng: 1e6 * (1 + 0.0002 * i) + rng.gauss(0, 1e4))
    moved = check(warming)[VerdictCode.UNSTABLE]
    assert moved.unit == "relative drift of the median"
    assert moved.value == pytest.approx(0.12, abs=0.02)
    assert "--warmup-time" in (moved.hint or "")
    soak = replace(REQUEST, soak_s=600.0)
    assert list(check(warming, request=soak)) == [VerdictCode.STABLE]
    hot = check(warming, readings(warming, "pi.throttled", [4]), request=soak)
    assert list(hot) == [VerdictCode.THROTTLED], "what the sensors say holds for a soak too"
    paired = replace(REQUEST, artifacts=("a" * 64, "b" * 64))
    assert "ratios" in (check(warming, request=paired)[VerdictCode.UNSTABLE].hint or "")


def test_a_wide_interval_says_how_much_longer() -> None:
    wide = check(runs(count=200, latency=lambda _, rng: 1e6 * rng.lognormvariate(0, 0.2)))[VerdictCode.UNSTABLE]
    assert wide.value is not None
    assert f"some {math.ceil((wide.value / 0.01) ** 2)} times" in (wide.hint or "")


def test_a_wide_interval_is_unstable() -> None:
    found = check(runs(latency=lambda _, rng: 1e6 * rng.lognormvariate(0, 1)))
    assert list(found) == [VerdictCode.UNSTABLE]
    value = found[VerdictCode.UNSTABLE].value
    assert value is not None
    assert value > 0.01


def test_a_drift_is_unstable_even_where_the_precision_is_not_asked_for() -> None:
    loose = replace(REQUEST, stopping=replace(REQUEST.stopping, precision=0.9))
    drifting = runs(count=900, latency=lambda i, rng: 1e6 * (1 + 0.0001 * i) + rng.gauss(0, 1e5))
    found = check(drifting, request=loose)
    assert found[VerdictCode.UNSTABLE].unit in ("relative drift of the median", "relative half-width of the median")


def test_too_few_runs_are_unstable_not_stable() -> None:
    few = check(runs(count=5))[VerdictCode.UNSTABLE]
    assert (few.value, few.unit) == (5.0, "independent runs that these are worth")
    paired = replace(REQUEST, artifacts=("a" * 64, "b" * 64))
    assert "intervals of their own" in (check(runs(count=5), request=paired)[VerdictCode.UNSTABLE].hint or "")
    assert VerdictCode.UNSTABLE in check([replace(run, kind=RunKind.WARM_UP) for run in runs(count=5)])


@pytest.mark.parametrize("bits", [0x2, 0x4, 0x8])
def test_the_firmware_bits_of_the_moment_are_throttled(bits: int) -> None:
    made = runs()
    found = check(made, readings(made, "pi.throttled", [0, bits, 0]))
    assert list(found) == [VerdictCode.THROTTLED]
    assert found[VerdictCode.THROTTLED].value == bits


def test_bits_since_boot_and_readings_outside_the_runs_do_not_count() -> None:
    made = runs()
    assert list(check(made, readings(made, "pi.throttled", [0xF0000]))) == [VerdictCode.STABLE]
    before = [Reading(channel="pi.throttled", time_ns=1, value=4.0)]
    assert list(check(made, before)) == [VerdictCode.STABLE]


def test_under_voltage_is_its_own_finding() -> None:
    made = runs()
    assert list(check(made, readings(made, "pi.throttled", [1]))) == [VerdictCode.UNDER_VOLTAGE]


def test_a_falling_clock_is_throttled_and_a_rising_one_is_not() -> None:
    made = runs()
    fell = check(made, readings(made, "cpufreq.policy0", [1.5e9] * 10 + [1.2e9] * 10))
    assert fell[VerdictCode.THROTTLED].value == pytest.approx(0.2)
    assert list(check(made, readings(made, "cpufreq.policy0", [0.6e9] * 3 + [1.5e9] * 17))) == [VerdictCode.STABLE]


@pytest.mark.parametrize(
    ("clocks", "drop"),
    [
        ([1.5e9, 1.2e9] * 10, 0.2),  # falls and recovers
        ([1.5e9] * 2 + [1.2e9] * 18, 0.2),  # throttled nearly from the start
        ([1.5e9] * 19 + [1.0e9], None),  # one low sample
        ([1.5e9] * 10 + [1.9e9] + [1.5e9] * 9, None),  # one high sample
        ([0.6e9] * 10 + [1.5e9] * 10, None),  # a slow ramp
        ([3.9e9, 3.8e9, 3.85e9, 3.75e9] * 5, None),  # a turbo that wanders
        ([1.5e9, 1.0e9], None),  # too few samples
    ],
)
def test_the_shapes_of_a_falling_clock(clocks: list[float], drop: float | None) -> None:
    made = runs()
    found = check(made, readings(made, "cpufreq.policy0", clocks))
    if drop is None:
        assert list(found) == [VerdictCode.STABLE]
    else:
        assert found[VerdictCode.THROTTLED].value == pytest.approx(drop)


def test_the_clocks_of_idle_processors_say_nothing() -> None:
    made = runs()
    channels = (*CHANNELS, replace(CHANNELS[2], name="cpufreq.policy1"))
    idle = readings(made, "cpufreq.policy1", [2.0e9] * 10 + [0.6e9] * 10)

    def judged(busy: Sequence[float]) -> list[VerdictCode]:
        read = [*readings(made, "cpufreq.policy0", busy), *idle]
        return [verdict.code for verdict in judge(REQUEST, 0, made, read, result(), channels=channels)]

    assert judged([2.0e9] * 20) == [VerdictCode.STABLE]
    assert judged([2.0e9] * 10 + [1.5e9] * 10) == [VerdictCode.THROTTLED]


def test_the_clock_of_a_gpu_that_falls_asleep_says_nothing() -> None:
    gpu = replace(CHANNELS[2], name="jetson-gpu.clock", site="gpu")
    made = runs()
    read = readings(made, gpu.name, [1e9] * 5 + [1e8] * 5)
    found = judge(REQUEST, 0, made, read, result(), channels=(*CHANNELS, gpu))
    assert VerdictCode.THROTTLED not in {verdict.code for verdict in found}


def test_hot_needs_a_profile_and_a_zone_of_the_chip() -> None:
    made = runs()
    near = readings(made, "thermal.cpu", [60, 75.5])
    found = check(made, near)
    assert list(found) == [VerdictCode.HOT]
    assert (found[VerdictCode.HOT].value, found[VerdictCode.HOT].threshold) == (75.5, 75.0)
    assert list(check(made, near, throttle=None)) == [VerdictCode.STABLE]
    assert list(check(made, readings(made, "thermal.wifi", [90]))) == [VerdictCode.STABLE]
    assert list(check(made, readings(made, "thermal.cpu", [74.9]))) == [VerdictCode.STABLE]


def test_another_provider_or_a_share_of_nodes_is_fell_back() -> None:
    asked = replace(REQUEST, settings=Settings(provider="CUDAExecutionProvider"))
    other = check(runs(), request=asked)
    assert other[VerdictCode.FELL_BACK].value == 0.0
    part = check(runs(), facts=result("CUDAExecutionProvider", 0.7), request=asked)
    assert part[VerdictCode.FELL_BACK].value == 0.7
    assert list(check(runs(), facts=result("CUDAExecutionProvider", 1.0), request=asked)) == [VerdictCode.STABLE]
    assert list(check(runs(), facts=result("CUDAExecutionProvider", None), request=asked)) == [VerdictCode.STABLE]


def test_findings_add_up() -> None:
    made = runs()
    read = [*readings(made, "pi.throttled", [5]), *readings(made, "thermal.cpu", [84])]
    assert set(check(made, read)) == {VerdictCode.THROTTLED, VerdictCode.UNDER_VOLTAGE, VerdictCode.HOT}
