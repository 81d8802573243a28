"""Measurements that no test board can make: with sensors, with known ratios, with verdicts of every kind."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import Channel, DeviceInfo, Quantity
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

MS, S = 10**6, 10**9
DEVICE = DeviceInfo(
    device_id="d",
    agent_version="0.1.0",
    contract_version=1,
    profile="pi4",
    board="Raspberry Pi 4 Model B Rev 1.4",
    architecture="aarch64",
    cpu="Cortex-A72",
    cores=4,
    memory_bytes=4 * 2**30,
    operating_system="Debian 12",
    kernel="6.1",
    python="3.11.2",
    governor="ondemand",
    default_threads=4,
    runtimes=(),
    channels=(
        Channel(name="soc", quantity=Quantity.TEMPERATURE, site="soc", source="thermal_zone0"),
        Channel(name="cpu0", quantity=Quantity.FREQUENCY, site="cpu", source="cpufreq"),
        Channel(name="throttled", quantity=Quantity.FLAGS, site="soc", source="get_throttled"),
    ),
)
CONTENDED = Verdict(
    code=VerdictCode.CONTENDED, value=0.25, unit="share of runs preempted", threshold=0.1, hint="stop the other work"
)


def result_of(place: int, **more: Any) -> ArtifactResult:
    given: dict[str, Any] = {
        "sha256": f"{place + 1:064x}",
        "load_ns": 5 * MS,
        "provider": "CPUExecutionProvider",
        "provider_share": 1.0,
        "peak_memory_bytes": 9_000_000,
        "peak_rss_bytes": 50_000_000,
        "nodes": None,
        "verdicts": (Verdict(code=VerdictCode.STABLE),),
    }
    return ArtifactResult(**{**given, **more})


def measured(*ratios: float, blocks: int = 40, **request: Any) -> Measurement:
    """Balanced turns of as many artifacts as ratios; each takes its ratio of 5 ms, with a spread of 0.2 %."""
    rng = random.Random(1)
    runs = []
    clock = turn = 0
    for _ in range(blocks):
        for place in [*range(len(ratios)), *reversed(range(len(ratios)))]:
            for number in range(5):
                latency = round(5 * MS * ratios[place] * rng.gauss(1, 0.002))
                kind = RunKind.SETTLING if number == 0 and len(ratios) > 1 else RunKind.TIMED
                runs.append(
                    Run(artifact=place, kind=kind, turn=turn, start_ns=clock, latency_ns=latency, disturbed=False)
                )
                clock += latency
            turn += 1
    readings = tuple(
        Reading(channel=name, time_ns=time, value=value)
        for time in range(0, clock, S)
        for name, value in (("soc", 61.5), ("cpu0", 1.5e9), ("throttled", 4.0))
    )
    return Measurement(
        request=MeasureRequest(artifacts=tuple(f"{place + 1:064x}" for place in range(len(ratios))), **request),
        result=MeasureResult(
            runtime="onnxruntime",
            runtime_version="1.32.0",
            threads=4,
            artifacts=tuple(map(result_of, range(len(ratios)))),
            device_time_ns=clock,
            steal_fraction=None,
            windows=(Window(kind=WindowKind.TIMED, start_ns=0, end_ns=clock),),
        ),
        runs=tuple(runs),
        readings=readings,
    )


def with_first(measurement: Measurement, **more: Any) -> Measurement:
    """The same, with more known of the first artifact."""
    first, *others = measurement.result.artifacts
    artifacts = (replace(first, **more), *others)
    return replace(measurement, result=replace(measurement.result, artifacts=artifacts))


def artifact_of(place: int) -> Artifact:
    return Artifact(
        sha256=f"{place + 1:064x}", format=ArtifactFormat.ONNX, size_bytes=3_510_000, name=f"{'abc'[place]}.onnx"
    )
