"""`device-agent info` and `device-agent bench`: what the agent would say, without a host and without a server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from device_agent.agent import default_threads, device_info
from device_agent.board import describe_board
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import SCHEMA, bench_document
from device_agent.contract.errors import InvalidRequest, JobAborted
from device_agent.contract.measurement import (
    Measurement,
    MeasureResult,
    Progress,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
    Verdict,
)
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.durable import make_folder
from device_agent.jobs import measure, measure_limits
from device_agent.profiles import Profile
from device_agent.sensors import discover
from device_agent.store import device_id
from device_agent.worker.launch import ArtifactFile, probe_runtimes

_DASH = "–"


def artifact_at(path: Path) -> Artifact:
    """Return the artifact of a model file. InvalidRequest for an unknown suffix or an empty file, OSError by the disk."""
    kind = ArtifactFormat.of_suffix(path.suffix)
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Artifact(sha256=digest.hexdigest(), format=kind, size_bytes=size, name=path.name)


async def describe(store: Path, profile: Profile | None) -> DeviceInfo:
    """Return what Describe would say of this device. OSError if the store's folder cannot be made."""
    make_folder(store)
    return device_info(device_id(store), describe_board(), profile, runtimes=await probe_runtimes(), sensors=discover())


async def measure_file(
    path: Path, *, settings: Settings, stopping: Stopping, nodes: bool, profile: Profile | None
) -> tuple[Artifact, Measurement]:
    """Measure one file as the agent does; progress goes to stderr if that is a terminal. Errors are those of a job."""
    artifact = artifact_at(path)
    request = MeasureRequest(artifacts=(artifact.sha256,), settings=settings, stopping=stopping, profile_nodes=nodes)
    runs: list[Run] = []
    readings: list[Reading] = []
    result: MeasureResult | None = None
    job = measure(
        request,
        [ArtifactFile(path=path, artifact=artifact)],
        limits=measure_limits(request),
        sensors=discover(),
        profile=profile,
    )
    async with aclosing(job) as events:
        async for event in events:
            if isinstance(event, RunBatch):
                runs.extend(event.runs)
            elif isinstance(event, ReadingBatch):
                readings.extend(event.readings)
            elif isinstance(event, MeasureResult):
                result = event
            else:
                _show(event)
    if result is None:
        raise JobAborted(f"the measurement of {path.name} ended without a result; try again")
    return artifact, Measurement(request=request, result=result, runs=tuple(runs), readings=tuple(readings))


def info(store: Path, *, profile: Profile | None, as_json: bool) -> None:
    """Print what this device is."""
    found = asyncio.run(describe(store, profile))
    if as_json:
        _print(json.dumps({"schema": SCHEMA, **asdict(found)}, indent=2))
        return
    rows = [
        ("board", found.board),
        ("profile", found.profile or _DASH),
        ("processor", f"{found.cpu}, {found.cores} usable cores, {found.architecture}"),
        ("memory", f"{found.memory_bytes / 2**20:.0f} MiB"),
        ("governor", found.governor or _DASH),
        ("system", f"{found.operating_system}, Linux {found.kernel}, Python {found.python}"),
        ("agent", f"{found.agent_version}, device {found.device_id}"),
    ]
    for runtime in found.runtimes:
        state = f"not available: {runtime.unavailable}" if runtime.unavailable else str(runtime.version)
        rows.append((runtime.name, state))
    rows += [(channel.name, f"{channel.quantity.value} of {channel.site}") for channel in found.channels]
    _print_rows(rows)


def bench(
    path: Path,
    *,
    store: Path,
    runtime: str | None,
    threads: int | None,
    provider: str | None,
    cpus: tuple[int, ...] | None,
    stopping: Stopping,
    nodes: bool,
    profile: Profile | None,
    as_json: bool,
) -> None:
    """Measure a model file and print the figures of `host bench`."""
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file; give an .onnx or .tflite file")
    kind = ArtifactFormat.of_suffix(path.suffix)
    settings = Settings(
        runtime=runtime or ("onnxruntime" if kind is ArtifactFormat.ONNX else "litert"),
        threads=default_threads(describe_board(), profile, cpus) if threads is None else threads,
        provider=provider,
        cpus=cpus,
    )
    device = asyncio.run(describe(store, profile))
    artifact, measurement = asyncio.run(
        measure_file(path, settings=settings, stopping=stopping, nodes=nodes, profile=profile)
    )
    document = bench_document(measurement, artifact=artifact, device_name="local", device=device, measurement_id=None)
    if as_json:
        _print(json.dumps(document, indent=2))
    else:
        _print_bench(document, measurement.result.artifacts[0].verdicts)


def _print_bench(document: dict[str, Any], verdicts: Sequence[Verdict]) -> None:
    latency, undisturbed = document["latency_ns"], document["latency_undisturbed_ns"]
    memory = document["peak_memory_bytes"]
    runtime = document["runtime"]
    rows = [
        ("model", f"{document['artifact']['name']}, {document['artifact']['size_bytes'] / 1e6:.2f} MB"),
        ("runtime", f"{runtime['name']} {runtime['version']}, {runtime['provider']}"),
        ("threads", str(document["threads"])),
        ("latency", _latency(latency)),
        ("undisturbed", _latency(undisturbed)),
        ("runs", f"{document['runs']}, {document['runs_undisturbed']} undisturbed"),
        ("peak memory", _DASH if memory is None else f"{memory / 2**20:.1f} MiB above the runtime's import"),
    ]
    for verdict in verdicts:
        figure = "" if verdict.value is None else f" ({verdict.value:.3g} {verdict.unit or ''})"
        rows.append(("verdict", f"{verdict.code.value}{figure}{': ' + verdict.hint if verdict.hint else ''}"))
    for layer in document.get("layers") or ():
        times = f"{layer['median_ns'] / 1e6:8.3f} ms {layer['share']:6.1%}"
        rows.append((f"  {layer['op_type']}", f"{times}  {layer['name']}"))
    _print_rows(rows)


def _latency(found: dict[str, float] | None) -> str:
    if found is None:
        return _DASH
    return ", ".join(f"{name} {found[name] / 1e6:.3f}" for name in ("p50", "p90", "p99", "min")) + " ms"


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        line = f"\r{progress.phase.value} {progress.fraction:4.0%}, {progress.runs} runs "
        print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - a command speaks to its user


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        _print(f"{name:<{width}}  {value}")


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's result goes to stdout
