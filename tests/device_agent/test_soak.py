"""A soak as a table over time, on made-up series."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import (
    ArtifactResult,
    Measurement,
    MeasureResult,
    Reading,
    Run,
    RunKind,
    Verdict,
    VerdictCode,
    Window,
    WindowKind,
)
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.soak import soak_windows, throttle_words

S = 10**9
START = 5 * S


def channel(name: str, quantity: Quantity, site: str, **more: str) -> Channel:
    return Channel(name=name, quantity=quantity, site=site, source="made up", **more)  # type: ignore[arg-type]


CLOCKS = tuple(channel(f"cpu{number}", Quantity.FREQUENCY, "cpu") for number in (0, 1))
GPU = channel("gpu-clock", Quantity.FREQUENCY, "gpu")
HEAT = channel("soc", Quantity.TEMPERATURE, "soc")
ROOM = channel("room", Quantity.TEMPERATURE, "board")
FLAGS = channel("throttled", Quantity.FLAGS, "soc")
TOTAL = channel("in", Quantity.POWER, "board", meter="ina")
PART = channel("cpu-rail", Quantity.POWER, "cpu", meter="ina", part_of="in")
OTHER = channel("plug", Quantity.POWER, "board", meter="plug")


def soak(*, seconds: int = 100, readings: tuple[Reading, ...] = (), windows: tuple[Window, ...] = ()) -> Measurement:
    """Ten runs a second; each takes 1 ms in the first half and 2 ms in the second."""
    runs = tuple(
        Run(
            artifact=0,
            kind=RunKind.TIMED,
            turn=number,
            start_ns=START + number * S // 10,
            latency_ns=1_000_000 if number < 5 * seconds else 2_000_000,
            disturbed=False,
        )
        for number in range(10 * seconds)
    )
    warm = replace(runs[0], kind=RunKind.WARM_UP, start_ns=0, latency_ns=9 * S)
    result = ArtifactResult(
        sha256="0" * 64,
        load_ns=1,
        provider="CPU",
        provider_share=None,
        peak_memory_bytes=None,
        peak_rss_bytes=None,
        nodes=None,
        verdicts=(Verdict(code=VerdictCode.STABLE),),
    )
    return Measurement(
        request=MeasureRequest(artifacts=("0" * 64,), soak_s=float(seconds)),
        result=MeasureResult(
            runtime="litert",
            runtime_version="1",
            threads=1,
            artifacts=(result,),
            device_time_ns=1,
            steal_fraction=None,
            windows=windows,
        ),
        runs=(warm, *runs),
        readings=readings,
    )


def reading(name: str, second: float, value: float) -> Reading:
    return Reading(channel=name, time_ns=START + round(second * S), value=value)


def test_every_run_is_in_the_window_in_which_it_began() -> None:
    found = soak_windows(soak(), (), 4)
    assert [window.runs for window in found] == [250, 250, 250, 250]
    assert [window.p50_ns for window in found] == [1e6, 1e6, 2e6, 2e6]
    assert found[0].start_s == 0
    assert [window.end_s for window in found[:-1]] == [window.start_s for window in found[1:]]
    assert found[-1].end_s == pytest.approx(99.902)
    none = (found[0].clock_hz, found[0].temperature_c, found[0].flags, found[0].power_w)
    assert none == (None, None, None, None)


def test_the_workers_own_window_counts_where_it_is_known() -> None:
    timed = Window(kind=WindowKind.TIMED, start_ns=START - 100 * S, end_ns=START + 100 * S)
    idle = Window(kind=WindowKind.IDLE_BEFORE, start_ns=0, end_ns=1)
    found = soak_windows(soak(windows=(idle, timed)), (), 2)
    assert [window.runs for window in found] == [0, 1000]
    assert found[0].p50_ns is found[0].p90_ns is None
    assert [window.end_s for window in found] == [100, 200]


def test_the_fastest_clock_and_the_hottest_sensor_of_the_chip() -> None:
    readings = tuple(
        each
        for second in range(100)
        for each in (
            reading("cpu0", second, 1.8e9 if second < 50 else 1.2e9),
            reading("cpu1", second, 0.6e9),
            reading("gpu-clock", second, 9e9),
            reading("soc", second, 40 + second / 2),
            reading("room", second, 99),
        )
    )
    found = soak_windows(soak(readings=readings), (*CLOCKS, GPU, HEAT, ROOM), 2)
    assert [window.clock_hz for window in found] == [1.8e9, 1.2e9]
    assert [window.temperature_c for window in found] == [64.5, 89.5]


def test_flags_of_a_window_are_all_that_were_seen_in_it() -> None:
    readings = (reading("throttled", 10, 0), reading("throttled", 60, 0x50002), reading("throttled", 70, 4))
    found = soak_windows(soak(readings=readings), (FLAGS,), 4)
    assert [window.flags for window in found] == [0, None, 0x50006, None]
    assert throttle_words(0x50006, {}) == ("capped", "throttled")
    assert throttle_words(0, {}) == ()
    assert throttle_words(None, {}) is None


def test_a_counter_of_events_counts_where_it_was_seen_to_rise() -> None:
    counter = channel("oc1", Quantity.COUNT, "soc")
    readings = tuple(reading("oc1", second, value) for second, value in ((-5, 3), (10, 4), (40, 4), (55, 9), (80, 9)))
    found = soak_windows(soak(readings=readings), (counter,), 2)
    assert [dict(window.counts) for window in found] == [{"oc1": 1}, {"oc1": 5}]
    assert throttle_words(None, dict(found[1].counts)) == ("oc1 +5",)
    assert throttle_words(None, {"oc1": 0.0}) == ()


def test_a_total_is_not_added_to_its_parts_nor_a_meter_to_another() -> None:
    readings = tuple(
        each
        for second in range(100)
        for each in (reading("in", second, 5), reading("cpu-rail", second, 3), reading("plug", second, 7))
    )
    (window,) = soak_windows(soak(readings=readings), (PART, TOTAL, OTHER), 1)
    assert window.power_w == pytest.approx(5)
    (window,) = soak_windows(soak(readings=readings), (PART, OTHER), 1)
    assert window.power_w == pytest.approx(7)  # the whole board rather than a rail of it
    rails = (replace(PART, part_of=None), replace(TOTAL, name="plug", part_of=None))
    (window,) = soak_windows(soak(readings=readings), rails, 1)
    assert window.power_w == pytest.approx(10)


def test_a_counter_gives_its_rise_over_time() -> None:
    counter = channel("package", Quantity.ENERGY, "cpu", meter="rapl")
    readings = tuple(reading("package", second, 100 + 4 * second) for second in range(0, 100, 10))
    found = soak_windows(soak(readings=readings), (counter,), 2)
    assert [window.power_w for window in found] == [pytest.approx(4), pytest.approx(4)]
    reset = (*readings[:3], reading("package", 30, 0))
    assert soak_windows(soak(readings=reset), (counter,), 1)[0].power_w is None


def test_nothing_timed_and_no_windows() -> None:
    whole = soak()
    assert soak_windows(replace(whole, runs=whole.runs[:1]), ()) == ()
    with pytest.raises(ValueError, match="count=0"):
        soak_windows(whole, (), 0)
