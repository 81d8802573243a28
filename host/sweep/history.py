"""What the history says about jobs like those of a sweep: how long they held their device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import BoardfitError
from device_agent.contract.plain_json import to_json
from device_agent.contract.statistics import median
from device_agent.runtime_choice import choose_runtime
from host.results import models
from host.results.store import ResultStore
from host.sweep.estimate import History
from host.sweep.job import NewJob
from host.sweep.limits import Limits
from host.sweep.options import options_from_json

#: Older results than these say little about today.
_NEWEST = 20_000
_OF_A_KIND = 5


def history_of(
    store: ResultStore, jobs: Sequence[NewJob], devices: Mapping[str, DeviceInfo], limits: Limits
) -> History:
    """Return what looks up the median time of the newest measurements that asked for the same on the same device.

    `devices` are what the devices said of themselves, by their names in the jobs. Jobs with input files are not looked up.
    """
    line, measurement = models.MeasuredArtifact, models.Measurement
    query = (
        select(line.device_id, measurement.request, measurement.result["device_time_ns"].as_float().label("ns"))
        .join(measurement, measurement.id == line.measurement_id)
        .where(
            line.device_id.in_([info.device_id for info in devices.values()]),
            line.sha256.in_(list({job.artifact.sha256 for job in jobs})),
            line.together == 1,
        )
        .order_by(line.created_at.desc())
        .limit(_NEWEST)
    )
    times: dict[tuple[str, str], list[float]] = {}
    with store.reading() as session:
        for row in session.execute(query):
            found = times.setdefault((row.device_id, _text(row.request)), [])
            if len(found) < _OF_A_KIND:
                found.append(row.ns / 1e9)

    def seconds(job: NewJob) -> float | None:
        info = devices.get(job.device)
        asked = None if info is None else _request(job, info, limits)
        found = None if info is None or asked is None else times.get((info.device_id, asked))
        return median(found) if found else None

    return seconds


def _request(job: NewJob, info: DeviceInfo, limits: Limits) -> str | None:
    options = options_from_json(job.options)
    if options.inputs_file is not None:
        return None
    if options.timeout is None:
        options = replace(options, timeout=limits.per_job_s)
    format_ = ArtifactFormat.of_suffix(job.artifact.path.suffix)
    try:
        runtime = choose_runtime(info, format_, options.runtime, device=job.device)
    except BoardfitError:
        return None
    return _text(to_json(options.request((job.artifact.sha256,), runtime=runtime)))


def _text(request: Any) -> str:
    return json.dumps(request, sort_keys=True)
