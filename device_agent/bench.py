"""`device-agent bench`: the measurements of `host bench` without a host and without a server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from device_agent import bench_report
from device_agent.agent import complete_settings
from device_agent.bench_options import in_option_words
from device_agent.bench_request import BenchOptions, one_format
from device_agent.board import describe_board
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.compare_document import compare_document
from device_agent.contract.decision import DIFFERENCE
from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import bench_document
from device_agent.contract.errors import InvalidRequest, JobAborted
from device_agent.contract.measurement import (
    Measurement,
    MeasureResult,
    Progress,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
)
from device_agent.contract.settings import MeasureRequest
from device_agent.jobs import measure, measure_limits
from device_agent.profiles import Profile
from device_agent.report import describe
from device_agent.runtime_choice import choose_runtime
from device_agent.sensors import Sensor, survey
from device_agent.sensors.external_meter import with_meter
from device_agent.sensors.survey import Survey
from device_agent.worker.launch import ArtifactFile

#: The name of this device in documents; a host has names of its own.
LOCAL = "local"


def bench(
    models: Sequence[Path],
    options: BenchOptions,
    *,
    store: Path,
    profile: Profile | None,
    as_json: bool,
    meter: str | None = None,
) -> None:
    """Measure model files and print the figures of `host bench`. Errors are those of a job, in the words of the options.

    `meter` says where an external power meter is (`sensors.external_meter`).
    """
    for path in models:
        check_file(path)
    format_ = one_format([path.name for path in models])
    sensors = with_meter(survey(expected=None if profile is None else profile.sensors), meter)
    device, files, measurement = asyncio.run(_describe_and_measure(models, format_, options, store, profile, sensors))
    if len(files) == 1:
        document = bench_document(
            measurement, artifact=files[0].artifact, device_name=LOCAL, device=device, measurement_id=None
        )
        lines = bench_report.bench_lines
    else:
        document = compare_document(
            measurement,
            artifacts=[file.artifact for file in files],
            device_name=LOCAL,
            device=device,
            measurement_id=None,
            difference=DIFFERENCE if options.difference is None else options.difference,
        )
        lines = bench_report.compare_lines
    print(json.dumps(document, indent=2) if as_json else "\n".join(lines(document)))  # noqa: T201 - a command's result


async def _describe_and_measure(
    models: Sequence[Path],
    format_: ArtifactFormat,
    options: BenchOptions,
    store: Path,
    profile: Profile | None,
    sensors: Survey,
) -> tuple[DeviceInfo, list[ArtifactFile], Measurement]:
    """Return the device, the files and their measurement.

    All in one event loop: a Ctrl-C that comes just as a loop's task ends is lost (asyncio.run of Python 3.11 and newer).
    """
    device = await describe(store, profile, sensors)
    runtime = choose_runtime(device, format_, options.runtime, device=LOCAL)
    files = [ArtifactFile(path=path, artifact=artifact_at(path, _name(path, models))) for path in models]
    data = data_file(options.inputs_file)
    request = options.request(
        [file.artifact.sha256 for file in files],
        runtime=runtime,
        inputs_sha256=None if data is None else data.artifact.sha256,
    )
    with in_option_words():
        return device, files, await _measured(request, files, data, profile, sensors.sensors)


def artifact_at(path: Path, name: str) -> Artifact:
    """Return the artifact of a file. InvalidRequest for an unknown suffix or an empty file, OSError by the disk."""
    kind = ArtifactFormat.of_suffix(path.suffix)
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Artifact(sha256=digest.hexdigest(), format=kind, size_bytes=size, name=name)


def data_file(path: Path | None) -> ArtifactFile | None:
    """Return the file of DATA inputs, None without one. Errors are those of `artifact_at`."""
    return None if path is None else ArtifactFile(path=path, artifact=artifact_at(path, path.name))


def check_file(path: Path) -> None:
    """Raise InvalidRequest, with what to do, if there is no such file."""
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; give an .onnx or .tflite file in it")
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file; give an .onnx or .tflite file")


def _name(path: Path, models: Sequence[Path]) -> str:
    """Return the file's name, with its folder where another file is called the same."""
    alike = {each.resolve() for each in models if each.name == path.name}
    return path.name if len(alike) == 1 else f"{path.resolve().parent.name}/{path.name}"


async def _measured(
    request: MeasureRequest,
    files: Sequence[ArtifactFile],
    data: ArtifactFile | None,
    profile: Profile | None,
    sensors: Sequence[Sensor],
) -> Measurement:
    """Measure as the agent does; progress goes to stderr if that is a terminal."""
    runs: list[Run] = []
    readings: list[Reading] = []
    result: MeasureResult | None = None
    complete = replace(request, settings=complete_settings(request.settings, describe_board(), profile))
    job = measure(complete, files, limits=measure_limits(complete), sensors=sensors, profile=profile, data=data)
    async with aclosing(job) as events:
        async for event in events:
            if isinstance(event, RunBatch):
                runs.extend(event.runs)
            elif isinstance(event, ReadingBatch):
                readings.extend(event.readings)
            elif isinstance(event, MeasureResult):
                result = event
            else:
                show_progress(event)
    clear_progress()
    if result is None:
        names = " and ".join(file.artifact.name for file in files)
        raise JobAborted(f"the measurement of {names} ended without a result; try again")
    return Measurement(request=request, result=result, runs=tuple(runs), readings=tuple(readings))


def show_progress(progress: Progress) -> None:
    """Show where a job is, on stderr if that is a terminal."""
    if sys.stderr.isatty():
        line = f"{progress.phase.value} {progress.fraction:4.0%}, {progress.runs} runs"
        print(f"\r{line:<40}", end="", file=sys.stderr, flush=True)  # noqa: T201 - a command speaks to its user


def clear_progress() -> None:
    """Take that line away."""
    if sys.stderr.isatty():
        print(f"\r{'':<40}\r", end="", file=sys.stderr, flush=True)  # noqa: T201 - a command speaks to its user
