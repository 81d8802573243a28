"""`device-agent load`: the figures of `host load` without a host and without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from device_agent.agent import complete_settings
from device_agent.bench import LOCAL, artifact_at, check_file, clear_progress, data_file, show_progress
from device_agent.bench_options import in_option_words
from device_agent.bench_request import one_format
from device_agent.board import describe_board
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import JobAborted
from device_agent.contract.load import LoadMeasurement, LoadRequest, LoadResult, ServedBatch
from device_agent.contract.load_document import load_document
from device_agent.contract.measurement import Progress, Reading, ReadingBatch
from device_agent.contract.served import ServedLog
from device_agent.load_job import load, load_limits, share_threads
from device_agent.load_options import LoadOptions
from device_agent.load_words import answer, is_within, percentiles
from device_agent.profiles import Profile
from device_agent.report import describe
from device_agent.runtime_choice import choose_runtime
from device_agent.sensors import Sensor, survey
from device_agent.sensors.survey import Survey
from device_agent.terminal import DASH, facts, table, width, wrapped
from device_agent.worker.launch import ArtifactFile


def load_model(path: Path, options: LoadOptions, *, store: Path, profile: Profile | None, as_json: bool) -> bool:
    """Put load on a model file, print the figures, and say whether the bound is kept, if there is one.

    Errors are those of a job, in the words of the options.
    """
    check_file(path)
    format_ = one_format([path.name])
    sensors = survey(expected=None if profile is None else profile.sensors)
    device, artifact, measurement = asyncio.run(_describe_and_load(path, format_, options, store, profile, sensors))
    document = load_document(measurement, artifact=artifact, device_name=LOCAL, device=device, load_id=None)
    print(json.dumps(document, indent=2) if as_json else "\n".join(lines(document)))  # noqa: T201 - a command's result
    return is_within(document) is not False


async def _describe_and_load(
    path: Path,
    format_: ArtifactFormat,
    options: LoadOptions,
    store: Path,
    profile: Profile | None,
    sensors: Survey,
) -> tuple[DeviceInfo, Artifact, LoadMeasurement]:
    """Return the device, the artifact and its measurement, from one event loop as `device_agent.bench` does."""
    device = await describe(store, profile, sensors)
    runtime = choose_runtime(device, format_, options.model.runtime, device=LOCAL)
    file = ArtifactFile(path=path, artifact=artifact_at(path, path.name))
    data = data_file(options.inputs_file)
    request = options.request(
        file.artifact.sha256, runtime=runtime, inputs_sha256=None if data is None else data.artifact.sha256
    )
    with in_option_words():
        return device, file.artifact, await _loaded(request, file, data, profile, sensors.sensors)


async def _loaded(
    request: LoadRequest,
    file: ArtifactFile,
    data: ArtifactFile | None,
    profile: Profile | None,
    sensors: Sequence[Sensor],
) -> LoadMeasurement:
    """Put load on the model as the agent does; progress goes to stderr if that is a terminal."""
    served = ServedLog()
    readings: list[Reading] = []
    result: LoadResult | None = None
    complete = share_threads(request, lambda settings: complete_settings(settings, describe_board(), profile))
    job = load(complete, file, limits=load_limits(complete), sensors=sensors, profile=profile, data=data)
    async with aclosing(job) as events:
        async for event in events:
            if isinstance(event, ServedBatch):
                served.extend(event.requests)
            elif isinstance(event, ReadingBatch):
                readings.extend(event.readings)
            elif isinstance(event, Progress):
                show_progress(event)
            else:
                result = event
    clear_progress()
    if result is None:
        raise JobAborted(f"the load on {file.artifact.name} ended without a result; try again")
    return LoadMeasurement(request=request, result=result, served=served, readings=tuple(readings))


def lines(document: dict[str, Any]) -> list[str]:
    """Return the document as text for people."""
    columns = width()
    runtime, bound = document["runtime"], document["bound"]
    found = facts(
        [
            ("model", document["artifact"]["name"]),
            ("runtime", f"{runtime['name']} {runtime['version']}, {runtime['provider']}"),
            ("streams", f"{document['streams']}, {document['threads']} thread{'s' * (document['threads'] != 1)} each"),
        ],
        columns,
    )
    shown = {**percentiles(document), "max": "max"}
    header = ["asked/s", "served/s", *shown, "requests", "unserved"]
    if bound is not None:
        header += ["over", "within"]
    found += [
        "",
        *table(header, [_row(trial, list(shown.values()), bound is not None) for trial in document["trials"]], columns),
        "",
    ]
    for sentence in answer(document, rate_text=_rate, time_text=_time):
        found += wrapped(sentence, columns)
    rows = []
    late = document["dispatch_late_ns"]
    if late is not None:
        rows.append(("begun late", f"{_time(late['p50'])} (p99 {_time(late['p99'])}) where a stream was idle"))
    for verdict in document["verdict"]:
        figure = "" if verdict["value"] is None else f" ({verdict['value']:.3g} {verdict['unit'] or ''})"
        rows.append(("verdict", f"{verdict['code']}{figure}{': ' + verdict['hint'] if verdict['hint'] else ''}"))
    return [*found, *facts([*rows, *(("note", note) for note in document["notes"])], columns)]


def _row(trial: dict[str, Any], keys: Sequence[str], judged: bool) -> list[str]:
    latency, rate = trial["latency_ns"], trial["rate_per_s"]
    row = ["closed" if rate is None else _rate(rate), _rate(trial["served_per_s"])]
    row += [DASH if latency is None else _time(latency[key]) for key in keys]
    row += [str(trial["requests"]), str(trial["unserved"])]
    if judged:
        over, within = trial["over_bound"], trial["within_bound"]
        row.append(DASH if over is None else f"{over * 100:.2f} %")
        row.append(DASH if rate is None else {True: "yes", False: "no", None: "open"}[within])
    return row


def _rate(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def _time(value_ns: float) -> str:
    unit, scale = next((row for row in (("s", 1e9), ("ms", 1e6), ("us", 1e3)) if value_ns >= row[1]), ("ns", 1.0))
    return f"{value_ns / scale:#.3g}".rstrip(".") + f" {unit}"
