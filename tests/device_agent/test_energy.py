"""Energy per run: exact on simple powers, refused where readings don't carry it, and as uncertain as it says, by simulation."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from benchmarks.power_trace import EPOCH_NS, PowerTrace, Watcher, record
from device_agent.contract.alignment import ARRIVAL_S, Edge, align
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import EXTERNAL, EnergyEstimate, energy_document, energy_of
from device_agent.contract.integrate import NoFigure, Series, _student_95, counter_integral, power_integral
from device_agent.contract.measurement import Measurement, Run, RunKind

Samples = Sequence[tuple[float, float]]

#: 2 W at rest, 3 W more from 2 s to 12 s, then rest again; steps take no time.
STEADY = PowerTrace(idle_w=2.0, drift_w_per_s=0.0, load_w=3.0, start_s=2.0, end_s=12.0, rise_s=1e-9)


def channel(
    name: str,
    *,
    quantity: Quantity = Quantity.POWER,
    site: str = "board",
    meter: str | None = None,
    part_of: str | None = None,
    interval_s: float | None = None,
    resolution: float | None = None,
    note: str | None = None,
) -> Channel:
    return Channel(
        name=name,
        quantity=quantity,
        site=site,
        source=f"/sys/{name}",
        meter=meter or name,
        part_of=part_of,
        interval_s=interval_s,
        resolution=resolution,
        note=note,
    )


def every(
    step_s: float, trace: PowerTrace = STEADY, *, first_s: float = 0.03, scale: float = 1.0
) -> list[tuple[float, float]]:
    """Samples of power at even times, from before the first rest to after the last."""
    count = int((trace.end_s + trace.start_s) / step_s)
    times = [first_s + number * step_s for number in range(count)]
    return [(time, scale * trace.power_w(time)) for time in times]


def counted(step_s: float, trace: PowerTrace = STEADY, *, first_s: float = 0.03) -> list[tuple[float, float]]:
    return [(time, 500 + trace.energy_j(time)) for time, _ in every(step_s, trace, first_s=first_s)]


def measured(samples: Mapping[str, Samples], *, trace: PowerTrace = STEADY, runs: int = 100) -> Measurement:
    return record(trace, samples, runs=runs)


def only(measurement: Measurement, *channels: Channel) -> EnergyEstimate:
    (estimate,) = energy_of(measurement, channels).estimates
    return estimate


def reason(measurement: Measurement, *channels: Channel) -> str:
    energy = energy_of(measurement, channels)
    assert energy.estimates == ()
    assert energy.unavailable is not None
    return energy.unavailable


@pytest.mark.parametrize("step_s", [0.01, 0.05, 0.1, 0.3])
def test_a_steady_load_gives_its_joules_exactly(step_s: float) -> None:
    """What lies outside of the window, such as the sample just before the load, must not leak into it."""
    estimate = only(measured({"board": every(step_s)}), channel("board"))
    assert estimate.gross_j == pytest.approx(0.5)  # 5 W for 10 s, 100 runs
    assert estimate.net_j == pytest.approx(0.3)
    assert estimate.mean_power_w == pytest.approx(5.0)
    assert estimate.idle_power_w == pytest.approx(2.0)
    assert (estimate.meter, estimate.runs, estimate.note, estimate.alignment_error_s) == ("board", 100, None, None)
    assert estimate.gross_uncertainty_j < 0.001


@pytest.mark.parametrize("step_s", [0.01, 0.05, 0.3])
def test_a_counter_gives_the_same(step_s: float) -> None:
    rapl = channel("package-0", quantity=Quantity.ENERGY, site="cpu", resolution=2**-14, interval_s=0.001)
    estimate = only(measured({"package-0": counted(step_s)}), rapl)
    assert estimate.gross_j == pytest.approx(0.5)
    assert estimate.net_j == pytest.approx(0.3)


def test_a_drift_of_the_idle_power_is_interpolated() -> None:
    trace = replace(STEADY, drift_w_per_s=0.05)
    for samples, one in (
        (every(0.05, trace), channel("p")),
        (counted(0.05, trace), channel("p", quantity=Quantity.ENERGY)),
    ):
        estimate = only(measured({"p": samples}, trace=trace), one)
        assert estimate.net_j == pytest.approx(0.3, rel=1e-3)
        assert estimate.gross_j == pytest.approx(0.5 + 0.05 * 7 * 10 / 100, rel=1e-3)


def test_irregular_times_are_weighed_by_themselves() -> None:
    """A mean of samples would be wrong here: the second half is sampled ten times as often."""
    trace = replace(STEADY, wave=0.5, wave_s=10.0)  # one period: the first half is above, the second below
    dense = [sample for sample in every(0.01, trace) if sample[0] >= 7]
    sparse = [sample for sample in every(0.1, trace) if sample[0] < 7]
    estimate = only(measured({"p": sparse + dense}, trace=trace), channel("p"))
    assert estimate.gross_j == pytest.approx(0.5, rel=2e-3)
    inside = [watts for time, watts in sparse + dense if 2 <= time <= 12]
    assert sum(inside) / len(inside) < 4.5


def test_a_value_that_is_kept_counts_where_it_was_made() -> None:
    """Read at 20 Hz, renewed once a second: for up to a second the readings are those of before."""
    watcher = Watcher(interval_s=0.05, jitter=0.0, missing=0.0, late=0.0, held_s=1.0)
    for seed in range(20):
        samples = watcher.watts(STEADY, random.Random(seed), 14.0)
        estimate = only(measured({"p": samples}), channel("p", interval_s=1.0))
        assert estimate.gross_j == pytest.approx(0.5)


def test_rails_are_added_and_parts_are_not() -> None:
    rails = {"a": every(0.05, scale=0.5), "b": every(0.05, scale=0.3)}
    total = {"in": every(0.05)}
    a, b = channel("a", meter="ina", site="cpu"), channel("b", meter="ina", site="gpu")
    assert only(measured(rails), a, b).gross_j == pytest.approx(0.4)
    assert only(measured(rails), a, b).channels == ("a", "b")
    parts = (replace(a, part_of="in"), replace(b, part_of="in"))
    whole = only(measured({**rails, **total}), *parts, channel("in", meter="ina"))
    assert (whole.gross_j, whole.channels) == (pytest.approx(0.5), ("in",))
    assert only(measured(rails), *parts).channels == ("a", "b"), "the total that they are part of is not there"


def test_rails_that_are_read_at_different_times_are_added_too() -> None:
    rails = {"a": every(0.05, scale=0.5), "b": every(0.07, first_s=0.01, scale=0.3)}
    estimate = only(measured(rails), channel("a", meter="ina"), channel("b", meter="ina"))
    assert estimate.gross_j == pytest.approx(0.4)
    assert estimate.net_j == pytest.approx(0.24)


def test_a_reading_that_one_rail_lacks_is_left_out_of_the_sum() -> None:
    a, b = every(0.05, scale=0.5), every(0.05, scale=0.3)
    estimate = only(measured({"a": a, "b": b[::2] + b[1:200:2]}), channel("a", meter="ina"), channel("b", meter="ina"))
    assert estimate.gross_j == pytest.approx(0.4)


def test_meters_are_never_added_and_ordered_by_what_they_see() -> None:
    samples = {
        "external.power": every(0.01),
        "VDD_IN": every(0.05, scale=0.9),
        "pmic": every(0.1, scale=0.8),
        "cpu": counted(0.05),
    }
    channels = (
        channel("cpu", quantity=Quantity.ENERGY, site="cpu", meter="rapl"),
        channel("pmic", meter="pmic", note="a lower bound: without USB"),
        channel("VDD_IN", meter="ina3221"),
        channel("external.power", meter=EXTERNAL),
        channel("cpu.load", quantity=Quantity.FRACTION),
    )
    energy = energy_of(measured(samples), channels)
    assert [one.meter for one in energy.estimates] == [EXTERNAL, "ina3221", "pmic", "rapl"]
    assert [one.gross_j for one in energy.estimates] == pytest.approx([0.5, 0.45, 0.4, 0.5], rel=2e-3)
    assert energy.estimates[2].note == "a lower bound: without USB"
    assert energy.unavailable is None
    del samples["external.power"]
    assert energy_of(measured(samples), channels).estimates[0].meter == "ina3221", "a silent meter steps aside"


def test_a_meter_with_a_counter_is_not_asked_twice() -> None:
    both = (channel("e", quantity=Quantity.ENERGY, meter="ina228"), channel("p", meter="ina228"))
    assert only(measured({"e": counted(0.05), "p": every(0.05)}), *both).channels == ("e",)


def test_one_rest_or_none() -> None:
    samples = {"p": every(0.05)}
    one = only(record(STEADY, samples, runs=100, rests=(True, False)), channel("p"))
    assert one.net_j == pytest.approx(0.3)
    assert one.note == "idle power from one rest: the worker did not rest after the timed part"
    none = only(record(STEADY, samples, runs=100, rests=(False, False)), channel("p"))
    assert (none.net_j, none.net_uncertainty_j, none.idle_power_w) == (None, None, None)
    assert none.gross_j == pytest.approx(0.5)
    assert none.net_unavailable is not None
    assert "did not rest before the timed part; the worker did not rest after" in none.net_unavailable
    silent = only(measured({"p": [sample for sample in samples["p"] if 2 <= sample[0] <= 12]}), channel("p"))
    assert silent.net_j is None
    assert silent.net_unavailable is not None
    assert "in the rest before the timed part it could not be read once" in silent.net_unavailable


def test_runs_that_a_soak_only_counted_count() -> None:
    soak = measured({"p": every(0.05)})
    artifact = replace(soak.result.artifacts[0], unrecorded_runs=900)
    soak = replace(soak, result=replace(soak.result, artifacts=(artifact,)))
    estimate = only(soak, channel("p"))
    assert (estimate.runs, estimate.gross_j) == (1000, pytest.approx(0.05))


def test_the_time_of_profiled_runs_is_left_out() -> None:
    """For the first four seconds, twins that take more power take turns with the plain session."""
    trace = replace(STEADY, end_s=12.0)
    rng = random.Random(6)
    samples = [(time, watts + rng.gauss(0, 0.01) + (2.0 if 2 <= time < 5.65 else 0.0)) for time, watts in every(0.05)]
    plain = measured({"p": samples}, trace=trace)
    twins = tuple(
        Run(artifact=0, kind=RunKind.PROFILED, turn=0, start_ns=start, latency_ns=50_000_000, disturbed=False)
        for start in range(EPOCH_NS + 2_000_000_000, EPOCH_NS + 5_900_000_000, 300_000_000)
    )
    estimate = only(replace(plain, runs=(*plain.runs, *twins)), channel("p"))
    assert estimate.gross_j == pytest.approx(0.5, rel=0.02)
    assert 55 <= estimate.runs <= 65
    assert estimate.note is not None
    assert "without the first part, in which layers were timed" in estimate.note


def test_what_gives_no_figure_says_why() -> None:
    p = channel("p", interval_s=0.1)
    fine = measured({"p": every(0.1)})
    assert "no power sensor" in reason(fine, channel("t", quantity=Quantity.TEMPERATURE))
    assert reason(measured({}), p) == "p: every read of p failed"
    assert "failed, without which the others are no total" in reason(
        fine, channel("p", meter="m"), channel("q", meter="m")
    )
    two = replace(fine, request=replace(fine.request, artifacts=("0" * 64, "1" * 64)))
    assert "2 artifacts ran in turns" in reason(two, p)
    assert "no plain run" in reason(replace(fine, runs=()), p)
    assert "0 timed windows" in reason(replace(fine, result=replace(fine.result, windows=())), p)
    sparse = [sample for sample in every(0.1) if not 3 < sample[0] < 11]
    assert "its readings leave out 8 of 10 s" in reason(measured({"p": sparse}), p)
    back = [(time, joules - (400 if time > 8 else 0)) for time, joules in counted(0.1)]
    assert "went back" in reason(measured({"c": back}), channel("c", quantity=Quantity.ENERGY))


@pytest.mark.parametrize("interval_s", [0.1, None])
def test_a_window_shorter_than_five_updates_says_so(interval_s: float | None) -> None:
    short = replace(STEADY, end_s=2.35)
    watcher = Watcher(interval_s=0.02, jitter=0.0, missing=0.0, late=0.0, held_s=0.1, noise_w=0.01)
    said = reason(
        measured({"p": watcher.watts(short, random.Random(1), 4.3)}, trace=short), channel("p", interval_s=interval_s)
    )
    assert "new values in 0.35 s, and 5 are needed; ask for a longer measurement (--min-time)" in said
    long = replace(STEADY, end_s=2.8)
    only(measured({"p": watcher.watts(long, random.Random(1), 4.8)}, trace=long), channel("p", interval_s=interval_s))


def test_a_coarse_sensor_that_repeats_itself_is_still_read() -> None:
    """Its steps are known, so equal values are no sign that it was not renewed."""
    coarse = Watcher(interval_s=0.1, jitter=0.0, missing=0.0, late=0.0, resolution=0.5)
    samples = coarse.watts(replace(STEADY, load_w=3.1), random.Random(1), 14.0)
    assert len({watts for time, watts in samples if 3 < time < 11}) == 1
    estimate = only(measured({"p": samples}), channel("p", resolution=0.5))
    assert abs(estimate.gross_j - 0.51) < estimate.gross_uncertainty_j < 0.04


def test_integrals_refuse_nothing_and_one_sample() -> None:
    for integral in (power_integral, counter_integral):
        with pytest.raises(NoFigure, match="could not be read once"):
            integral(Series(times_s=[], values=[]), 0.0, 1.0)
        with pytest.raises(NoFigure, match="1 new value in"):
            integral(Series(times_s=[0.5], values=[1.0]), 0.0, 1.0)


def test_quantiles_of_student() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (2, 2.67, 3, 5, 10, 100):
        assert _student_95(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), rel=0.032)


def simulated(
    watcher: Watcher,
    *,
    seed: int,
    count: int = 300,
    load_s: float | None = None,
    quantity: Quantity = Quantity.POWER,
    interval_s: float | None = None,
) -> tuple[float, float, list[float], list[float]]:
    """Return the shares of gross and net intervals that hold the truth, and the relative errors. `noise_w` is per watt."""
    rng = random.Random(seed)
    held = [0, 0]
    errors: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        trace = PowerTrace.drawn(rng, idle_s=2.0, load_s=load_s or rng.uniform(6, 12), ripple=0.03)
        look = replace(watcher, noise_w=watcher.noise_w * trace.load_w)
        samples = (look.watts if quantity is Quantity.POWER else look.joules)(trace, rng, trace.end_s + 2.0)
        one = channel("p", quantity=quantity, interval_s=interval_s, resolution=watcher.resolution)
        estimate = only(measured({"p": samples}, trace=trace, runs=50), one)
        gross = trace.energy_j(trace.end_s) - trace.energy_j(trace.start_s)
        net = gross - trace.idle_j(trace.end_s) + trace.idle_j(trace.start_s)
        assert estimate.net_j is not None
        assert estimate.net_uncertainty_j is not None
        errors[0].append(abs(estimate.gross_j * 50 / gross - 1))
        errors[1].append(abs(estimate.net_j * 50 / net - 1))
        held[0] += abs(estimate.gross_j - gross / 50) <= estimate.gross_uncertainty_j
        held[1] += abs(estimate.net_j - net / 50) <= estimate.net_uncertainty_j
    return held[0] / count, held[1] / count, *errors


@pytest.mark.parametrize(
    ("watcher", "load_s", "interval_s"),
    [
        (Watcher(interval_s=0.1, noise_w=0.01), None, None),
        (Watcher(interval_s=0.05, noise_w=0.03), None, None),
        (Watcher(interval_s=0.1, noise_w=0.02, missing=0.2, late=0.05), None, None),
        (Watcher(interval_s=0.05, noise_w=0.02, held_s=0.1), None, 0.1),
        (Watcher(interval_s=0.1, noise_w=0.02), 1.0, None),
        (Watcher(interval_s=0.05, noise_w=0.0, resolution=0.05), None, None),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    watcher: Watcher, load_s: float | None, interval_s: float | None
) -> None:
    """95 %, give or take 2.5 standard errors. Net holds more: how far idle power bends is a bound, and it doesn't bend here."""
    gross, net, _, _ = simulated(watcher, seed=11, load_s=load_s, interval_s=interval_s)
    assert 0.918 <= gross <= 0.99
    assert net >= 0.93


def test_the_interval_of_a_counter_holds_the_truth() -> None:
    """Its bounds are for clocks and capacitors worse than these, so it holds more than it says."""
    rapl = Watcher(interval_s=0.05, held_s=0.001, resolution=2**-14)
    gross, net, errors, _ = simulated(rapl, seed=5, quantity=Quantity.ENERGY, interval_s=0.001)
    assert gross >= 0.95
    assert net >= 0.95
    assert max(errors) < 0.005


def test_the_uncertainty_shrinks_with_time_and_grows_with_noise() -> None:
    def uncertainty(load_s: float, noise_w: float, **watch: float) -> float:
        trace = replace(STEADY, end_s=2.0 + load_s)
        samples = Watcher(interval_s=0.05, noise_w=noise_w, **watch).watts(trace, random.Random(2), trace.end_s + 2)
        return only(measured({"p": samples}, trace=trace, runs=round(10 * load_s)), channel("p")).gross_uncertainty_j

    assert uncertainty(40, 0.1) < 0.7 * uncertainty(10, 0.1)
    assert uncertainty(10, 0.4) > 3 * uncertainty(10, 0.1)
    assert uncertainty(10, 0.1, missing=0.6) > 1.3 * uncertainty(10, 0.1, missing=0.0)


def stepped(offset_s: float, rng: random.Random, *, every_s: float, noise: float, rise_s: float = 0.003) -> Series:
    trace = PowerTrace(idle_w=2, drift_w_per_s=0.02, load_w=1, start_s=3, end_s=9, rise_s=rise_s)
    samples = Watcher(interval_s=every_s, noise_w=noise, missing=0.02).watts(trace, rng, 12.0)
    return Series(times_s=[time + offset_s for time, _ in samples], values=[watts for _, watts in samples])


EDGES = (
    Edge(time_s=3.0, rising=True, before_s=3.0, after_s=6.0),
    Edge(time_s=9.0, rising=False, before_s=6.0, after_s=3.0),
)


@pytest.mark.parametrize(("every_s", "noise"), [(0.01, 0.05), (0.01, 0.3), (0.05, 0.1), (0.2, 0.1)])
@pytest.mark.parametrize("edges", [EDGES, EDGES[:1], EDGES[1:]])
def test_the_step_tells_the_offset_of_a_clock(every_s: float, noise: float, edges: tuple[Edge, ...]) -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(60):
        offset_s = rng.uniform(-1.0, 1.0)
        found = align(stepped(offset_s, rng, every_s=every_s, noise=noise), edges)
        assert found.steps == len(edges)
        assert found.error_s < 0.02 + 2 * every_s
        held += abs(found.shift_s - offset_s) <= found.error_s
    assert held >= 57


def test_without_a_clear_step_nothing_is_shifted() -> None:
    rng = random.Random(4)
    for _ in range(100):
        found = align(stepped(0.2, rng, every_s=0.02, noise=3.0), EDGES)
        assert (found.shift_s, found.steps) == (0.0, 0)
        assert found.error_s > ARRIVAL_S
    falling = Series(times_s=[0.02 * n for n in range(600)], values=[3.0 if n < 150 else 2.0 for n in range(600)])
    assert align(falling, EDGES[:1]).steps == 0, "a step the other way is somebody else's"
    assert align(Series(times_s=[], values=[]), EDGES).steps == 0


def test_edges_that_disagree_widen_the_error() -> None:
    late_fall = PowerTrace(idle_w=2, drift_w_per_s=0.0, load_w=1, start_s=3, end_s=9.4, rise_s=1e-9)
    samples = [(0.01 * n, late_fall.power_w(0.01 * n)) for n in range(1200)]
    found = align(Series(times_s=[time for time, _ in samples], values=[watts for _, watts in samples]), EDGES)
    assert found.shift_s == pytest.approx(0.2, abs=0.01)
    assert found.error_s > 0.2


def test_an_external_meter_is_aligned_before_it_is_integrated() -> None:
    samples = [(time + 0.8, watts) for time, watts in every(0.02)]
    device = only(measured({"p": samples}), channel("p", interval_s=0.02))
    assert device.gross_j < 0.48, "the shift costs energy where it is not known"
    external = only(measured({"p": samples}), channel("p", meter=EXTERNAL))
    assert external.gross_j == pytest.approx(0.5, rel=1e-3)
    assert external.net_j == pytest.approx(0.3, rel=1e-3)
    assert external.alignment_error_s is not None
    assert external.alignment_error_s < 0.05
    flat = only(measured({"p": [(time, 4.0) for time, _ in samples]}), channel("p", meter=EXTERNAL))
    assert flat.alignment_error_s is not None
    assert flat.alignment_error_s > ARRIVAL_S
    assert flat.note is not None
    assert "no clear step" in flat.note


def test_the_document_keeps_to_the_schema() -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs/schemas/bench.schema.json").read_text())
    found = energy_document(measured({"p": every(0.05)}), [channel("p"), channel("q")])
    for key, value in found.items():
        jsonschema.validate(value, {**schema["properties"][key], "$defs": schema["$defs"]})
    assert found["energy_j_per_run"] == {"gross": pytest.approx(0.5), "net": pytest.approx(0.3)}
    assert found["energy_unavailable"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    nothing = energy_document(measured({}), [])
    assert (nothing["energy_j_per_run"], nothing["energy"]) == (None, [])
    assert nothing["energy_unavailable"]


def test_a_day_of_readings_is_no_problem() -> None:
    trace = replace(STEADY, end_s=10_002.0)
    samples = [(0.1 * n, trace.power_w(0.1 * n) + 0.01 * math.sin(n)) for n in range(100_040)]
    estimate = only(measured({"p": samples}, trace=trace, runs=1000), channel("p", meter=EXTERNAL))
    assert estimate.samples > 99_000
    assert estimate.gross_j == pytest.approx(50.0, rel=1e-3)
