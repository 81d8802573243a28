"""A synthetic board with known joules: power over time in closed form, and the sensors that look at it. Seeded; no clock.

The board rests, computes, and rests again. Power while idle drifts in a line; computing adds a step that rises and falls with a
time constant (the capacitors of the board), a ripple of the inference's frequency, and a slow wave. All has an exact integral.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """Power in watts at any time in seconds. The load lasts from `start_s` to `end_s`."""

    idle_w: float
    drift_w_per_s: float
    load_w: float
    start_s: float
    end_s: float
    rise_s: float = 0.003
    ripple: float = 0.0  # of the load
    ripple_hz: float = 33.0
    wave: float = 0.0  # of the load
    wave_s: float = 7.0
    phase: float = 0.0

    @classmethod
    def drawn(cls, rng: random.Random, *, idle_s: float, load_s: float, ripple: float) -> PowerTrace:
        """Return a board drawn at random, which rests for `idle_s` before and after."""
        load_w = rng.uniform(0.5, 8.0)
        return cls(
            idle_w=rng.uniform(1.0, 4.0),
            drift_w_per_s=rng.uniform(-0.005, 0.01),
            load_w=load_w,
            start_s=idle_s,
            end_s=idle_s + load_s,
            rise_s=rng.uniform(0.0005, 0.005),
            ripple=ripple * rng.uniform(0.5, 1.5),
            ripple_hz=rng.uniform(5, 200),
            wave=rng.uniform(0.0, 0.1),
            wave_s=rng.uniform(3, 10),
            phase=rng.uniform(0, 2 * math.pi),
        )

    def power_w(self, time_s: float) -> float:
        """Return the power at a time."""
        power = self.idle_w + self.drift_w_per_s * time_s
        if time_s < self.start_s:
            return power
        since = min(time_s, self.end_s) - self.start_s
        risen = 1 - math.exp(-since / self.rise_s)
        if time_s > self.end_s:
            return power + self.load_w * risen * math.exp(-(time_s - self.end_s) / self.rise_s)
        swing = self.ripple * math.sin(2 * math.pi * self.ripple_hz * since + self.phase)
        swing += self.wave * math.sin(2 * math.pi * since / self.wave_s + self.phase)
        return power + self.load_w * (risen + swing)

    def energy_j(self, until_s: float) -> float:
        """Return the energy from time zero to a time."""
        return self.idle_j(until_s) + self._load_j(until_s)

    def idle_j(self, until_s: float) -> float:
        """Return the energy from time zero to a time of a board that never computed."""
        return self.idle_w * until_s + self.drift_w_per_s * until_s**2 / 2

    def _load_j(self, until_s: float) -> float:
        since = min(until_s, self.end_s) - self.start_s
        if since <= 0:
            return 0.0
        left = math.exp(-since / self.rise_s)
        energy = since - self.rise_s * (1 - left)
        energy += self.ripple * _sine_integral(self.ripple_hz, self.phase, since)
        energy += self.wave * _sine_integral(1 / self.wave_s, self.phase, since)
        if until_s > self.end_s:
            energy += (1 - left) * self.rise_s * (1 - math.exp(-(until_s - self.end_s) / self.rise_s))
        return self.load_w * energy


def _sine_integral(frequency_hz: float, phase: float, until_s: float) -> float:
    turn = 2 * math.pi * frequency_hz
    return (math.cos(phase) - math.cos(turn * until_s + phase)) / turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """How a trace is sampled: read every `interval_s` with jitter, some reads missing, some late by up to three intervals.

    Times are those of the reads, so a late one says that it was late. `held_s` is how long the sensor keeps a value (0: fresh at
    each read), `noise_w` the standard deviation, `resolution` the step of its values in their unit.
    """

    interval_s: float
    jitter: float = 0.1  # of the interval, standard deviation
    missing: float = 0.05
    late: float = 0.02
    held_s: float = 0.0
    noise_w: float = 0.0
    resolution: float | None = None

    def times(self, rng: random.Random, until_s: float) -> list[float]:
        """Return the times of the reads that worked, in order."""
        due, now, found = rng.uniform(0, self.interval_s), -1.0, []
        while due < until_s:
            delay = (
                rng.uniform(0, 3) * self.interval_s
                if rng.random() < self.late
                else abs(rng.gauss(0, self.jitter)) * self.interval_s
            )
            now = max(now + 1e-6, due + delay)
            if rng.random() >= self.missing:
                found.append(now)
            due = max(due + self.interval_s, now)  # a late read is not made up for
        return found

    def watts(self, trace: PowerTrace, rng: random.Random, until_s: float) -> list[tuple[float, float]]:
        """Return (time, watts) of a power sensor. A held value has its noise held too."""
        phase = rng.uniform(0, self.held_s)
        taken: dict[float, float] = {}
        found = []
        for time in self.times(rng, until_s):
            made = time if not self.held_s else phase + math.floor((time - phase) / self.held_s) * self.held_s
            if made not in taken:
                taken[made] = self._rounded(trace.power_w(max(0.0, made)) + rng.gauss(0, self.noise_w))
            found.append((time, taken[made]))
        return found

    def joules(self, trace: PowerTrace, rng: random.Random, until_s: float) -> list[tuple[float, float]]:
        """Return (time, joules) of a counter."""
        phase = rng.uniform(0, self.held_s)
        found = []
        for time in self.times(rng, until_s):
            made = time if not self.held_s else phase + math.floor((time - phase) / self.held_s) * self.held_s
            found.append((time, self._rounded(1e4 + trace.energy_j(max(0.0, made)))))
        return found

    def _rounded(self, value: float) -> float:
        return value if not self.resolution else round(value / self.resolution) * self.resolution


#: What the device's monotonic clock says at the trace's time zero.
EPOCH_NS = 987_654_321_000_000
#: What the worker lets pass between its work and the rest that counts.
_SETTLE_S = 0.2


def record(
    trace: PowerTrace,
    samples: Mapping[str, Sequence[tuple[float, float]]],
    *,
    runs: int,
    rests: tuple[bool, bool] = (True, True),
    until_s: float | None = None,
) -> Measurement:
    """Return the measurement of an artifact that kept the board busy for the trace's load.

    `samples` are (seconds, value) by channel, `rests` says whether the worker rested before and after, until `until_s`.
    """

    def at(seconds: float) -> int:
        return EPOCH_NS + round(seconds * 1e9)

    end_s = trace.end_s + trace.start_s if until_s is None else until_s
    spans = [(WindowKind.TIMED, trace.start_s, trace.end_s)]
    if rests[0]:
        spans.insert(0, (WindowKind.IDLE_BEFORE, 0.0, trace.start_s))
    if rests[1]:
        spans.append((WindowKind.IDLE_AFTER, trace.end_s + _SETTLE_S, end_s))
    each_s = (trace.end_s - trace.start_s) / runs
    artifact = ArtifactResult(
        sha256="0" * 64,
        load_ns=1,
        provider="CPUExecutionProvider",
        provider_share=1.0,
        peak_memory_bytes=None,
        peak_rss_bytes=None,
        nodes=None,
        verdicts=(Verdict(code=VerdictCode.STABLE),),
    )
    return Measurement(
        request=MeasureRequest(artifacts=("0" * 64,)),
        result=MeasureResult(
            runtime="onnxruntime",
            runtime_version="1",
            threads=1,
            artifacts=(artifact,),
            device_time_ns=at(end_s) - EPOCH_NS,
            steal_fraction=None,
            windows=tuple(Window(kind=kind, start_ns=at(start), end_ns=at(end)) for kind, start, end in spans),
        ),
        runs=tuple(
            Run(
                artifact=0,
                kind=RunKind.TIMED,
                turn=number // 5,
                start_ns=at(trace.start_s + number * each_s),
                latency_ns=round(each_s * 1e9),
                disturbed=False,
            )
            for number in range(runs)
        ),
        readings=tuple(
            sorted(
                (
                    Reading(channel=name, time_ns=at(time), value=value)
                    for name, found in samples.items()
                    for time, value in found
                ),
                key=lambda reading: reading.time_ns,
            )
        ),
    )
