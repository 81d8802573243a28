"""A made-up fleet for the pages: devices of two profiles, a front, threads, repeats with a step, sensors, verdicts, failures."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

from device_agent.contract.measurement import Verdict, VerdictCode
from host.report.fleet.data import (
    ArtifactFacts,
    Change,
    Course,
    DeviceFacts,
    Failure,
    FleetData,
    LayerTimes,
    Line,
    Result,
    Setup,
    Spread,
    SweepFacts,
)

MS = 1e6
START = datetime(2026, 11, 20, 8, 0, tzinfo=timezone.utc)
STABLE = Verdict(code=VerdictCode.STABLE)
HOT = Verdict(
    code=VerdictCode.HOT,
    value=78.5,
    unit="degrees Celsius",
    threshold=75.0,
    hint="the board throttles at 80 degrees; add cooling",
)
CONTENDED = Verdict(
    code=VerdictCode.CONTENDED, value=0.25, unit="share of runs preempted", threshold=0.1, hint="stop the other work"
)
#: Name, latency on one thread in ms, memory, size, accuracy, energy.
ARTIFACTS = (
    ("mobilenet_v2.onnx", 31.0, 21e6, 14e6, 0.912, 0.120),
    ("mobilenet_v2-0.7x.onnx", 21.5, 17e6, 9.4e6, 0.909, 0.086),
    ("mobilenet_v2-0.5x.onnx", 15.2, 14e6, 6.1e6, 0.897, 0.061),
    ("mobilenet_v2-0.5x-int8.onnx", 16.4, 9e6, 1.8e6, 0.891, 0.066),
)


def setup_of(artifact: int, device: str, threads: int = 1, **more: str) -> Setup:
    profile = device.rpartition("-")[0]
    given = {"runtime": "onnxruntime", "runtime_version": "1.32.0", "provider": "CPUExecutionProvider", **more}
    return Setup(
        artifact=f"{artifact + 1:064x}",
        artifact_name=ARTIFACTS[artifact % len(ARTIFACTS)][0],
        device=device,
        device_id=f"id-{device}",
        profile=profile,
        threads=threads,
        **given,
    )


def result_of(number: int, setup: Setup, p50_ms: float, *, at: datetime = START, bad: Verdict | None = None) -> Result:
    facts = next(each for each in ARTIFACTS if each[0] == setup.artifact_name)
    return Result(
        measurement_id=number,
        created_at=at,
        setup=setup,
        runs=800,
        p50_ns=p50_ms * MS,
        p90_ns=p50_ms * 1.04 * MS,
        p99_ns=p50_ms * 1.2 * MS,
        undisturbed_p50_ns=p50_ms * 0.999 * MS,
        peak_memory_bytes=int(facts[2]),
        energy_j=facts[5] * p50_ms / facts[1] if setup.profile == "pi5" else None,
        verdicts=(bad or STABLE,),
    )


def made_up_fleet(devices: tuple[str, ...] = ("pi4-1", "pi4-2", "pi5-1"), repeats: int = 9) -> FleetData:
    """Everything that a page can show, with a fixed seed."""
    rng = random.Random(7)
    results: list[Result] = []
    spreads: list[Spread] = []
    changes: list[Change] = []
    for device in devices:
        factor = 0.45 if device.startswith("pi5") else 1.0 + 0.01 * devices.index(device)
        for artifact, (_, one, *_) in enumerate(ARTIFACTS):
            for threads in (1, 2, 4) if artifact == 0 else (1,):
                setup = setup_of(artifact, device, threads)
                base = one * factor / threads**0.8
                for repeat in range(repeats if artifact < 2 else 1):
                    step = 1.03 if repeat >= 6 and artifact == 1 else 1.0
                    bad = HOT if device == "pi4-2" and repeat == 0 else CONTENDED if repeat == 4 else None
                    at = START + timedelta(hours=14 * repeat, minutes=len(results) % 50)
                    p50 = base * step * rng.gauss(1, 0.004)
                    results.append(result_of(len(results) + 1, setup, p50, at=at, bad=bad))
                if artifact == 1:
                    changes.append(Change(setup=setup, at=START + timedelta(hours=84), ratio=1.03))
                bad_runs = tuple(rng.random() < 0.06 for _ in range(600))
                mode = 1.08 if device == "pi4-2" else 1.0
                latencies = tuple(
                    round(base * MS * (mode if rng.random() < 0.3 else 1) * rng.gauss(1, 0.006) * (1.15 if bad else 1))
                    for bad in bad_runs
                )
                spreads.append(
                    Spread(setup=setup, measurement_id=len(results), latencies_ns=latencies, disturbed=bad_runs)
                )
    return FleetData(
        title="nightly",
        made_at=START + timedelta(days=4, hours=1),
        boardfit="0.1.0",
        command="host report --sweep nightly",
        chosen=f"The sweep nightly (#3): {len(results)} results on {len(devices)} devices.",
        results=tuple(results),
        spreads=tuple(spreads),
        courses=tuple(_course(device, place) for place, device in enumerate(devices)),
        layers=(_layers(devices[0]),),
        changes=tuple(changes),
        artifacts={
            f"{place + 1:064x}": ArtifactFacts(accuracy=each[4], size_bytes=int(each[3]))
            for place, each in enumerate(ARTIFACTS)
        },
        devices=tuple(
            DeviceFacts(
                name=device,
                profile=device.rpartition("-")[0],
                board="Raspberry Pi 4 Model B Rev 1.4",
                cpu="Cortex-A72",
                cores=4,
                memory_bytes=4 * 2**30,
                governor="ondemand",
                system="Debian 12, kernel 6.1, Python 3.11.2",
                agent_version="0.1.0",
            )
            for device in devices
        ),
        sweep=SweepFacts(
            id=3,
            name="nightly",
            created_at=START,
            seed=42,
            states={"done": len(results), "failed": 1, "skipped": 2},
            failures=(
                Failure(
                    artifact_name="big.onnx",
                    device=devices[0],
                    state="failed",
                    attempts=1,
                    error="the worker ran out of memory",
                ),
                *(
                    Failure(
                        artifact_name="big.onnx",
                        device=device,
                        state="skipped",
                        attempts=0,
                        error="big.onnx failed elsewhere",
                    )
                    for device in devices[1:3]
                ),
            ),
        ),
        left_out=("raw samples of older repeats: they are in the history",),
    )


def _course(device: str, number: int) -> Course:
    rng = random.Random(number)
    seconds = [each * 0.25 for each in range(60)]
    heat = [48 + 20 * (1 - 0.85 ** (at * 2)) + rng.gauss(0, 0.15) for at in seconds]
    clock = [1.8e9 if value < 64 or rng.random() < 0.6 else 1.5e9 for value in heat]
    lines = [
        Line(quantity="temperature", name="soc", points=tuple(zip(seconds, heat, strict=True))),
        Line(quantity="frequency", name="fastest of 4 processors", points=tuple(zip(seconds, clock, strict=True))),
    ]
    if device.startswith("pi5"):
        power = [3.1 + (4.2 if 2 < at < 13 else 0) + rng.gauss(0, 0.08) for at in seconds]
        lines.append(Line(quantity="power", name="pmic", points=tuple(zip(seconds, power, strict=True))))
    return Course(
        device=device,
        artifact_name=ARTIFACTS[0][0],
        measurement_id=number + 1,
        created_at=START,
        why="its verdict is hot" if device == "pi4-2" else "its timed part is the longest",
        lines=tuple(lines),
        timed=((2.0, 13.0),),
    )


def _layers(device: str) -> LayerTimes:
    rng = random.Random(5)
    return LayerTimes(
        device=device,
        measurement_id=1,
        baseline=ARTIFACTS[0][0],
        compressed=ARTIFACTS[2][0],
        layers=tuple(
            (f"features.{place}.conv.{place % 3}.Conv", 1e5 * rng.uniform(2, 9), 1e5 * rng.uniform(0.5, 4))
            for place in range(24)
        ),
    )
