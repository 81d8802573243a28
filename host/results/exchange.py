"""What leaves a history and comes into another: records, the same whatever the file's format is.

A record is a plain JSON value, all keys of `KEYS` in it. Raw samples are columns, so that a data frame or a database can use them
as they are. What begins with `derived_` can be made from the rest, and is not read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from sqlalchemy import select

from device_agent.contract.errors import StableError
from host.results import models
from host.results.lines import LineFilter, stream_lines
from host.results.samples import unpack_readings, unpack_run_columns, unpack_served
from host.results.store import ResultStore

FORMAT = "boardfit-history"
VERSION = 1
KINDS = ("measurement", "load", "compression")
RUNS = ("artifact", "kind", "turn", "start_ns", "latency_ns", "disturbed")
SERVED = ("trial", "stream", "arrival_ns", "start_ns", "end_ns")
READINGS = ("channel", "time_ns", "value")
DERIVED = (
    "runs", "runs_undisturbed", "p50_ns", "p90_ns", "p99_ns", "min_ns", "mean_ns", "undisturbed_p50_ns", "peak_memory_bytes",
    "peak_rss_bytes", "energy_gross_j", "energy_net_j",
)  # fmt: skip
#: `kind`, `uuid`, `created_at` (ISO 8601, UTC) are there in every record, all else where it belongs to the kind, or is None.
PLAIN = ("kind", "uuid", "created_at", "device_id", "device_name", "runtime", "runtime_version", "threads")
#: One item per artifact.
LISTS = ("sha256", "names", *(f"derived_{name}" for name in DERIVED))
#: JSON objects: request and result as in the contract; sweep and job where the measurement was made for one.
OBJECTS = ("device", "host", "request", "result", "sweep", "job", "compression")
SAMPLES = (
    *(f"run_{name}" for name in RUNS),
    *(f"served_{name}" for name in SERVED),
    *(f"reading_{name}" for name in READINGS),
)
KEYS = (*PLAIN, *LISTS, *OBJECTS, *SAMPLES)
_BATCH = 200


class ExportUnusable(StableError):
    """A file is no export of a history, is damaged, or is of a version that this one does not know. Nothing was imported."""


def records(store: ResultStore, wanted: LineFilter) -> Iterator[dict[str, Any]]:
    """Yield measurements, the newest first, a few in memory at a time; with a filter of nothing, then loads and compressions.

    Raises HistoryUnavailable, SamplesCorrupt.
    """
    numbers = _measurements(store, wanted)
    while batch := list(islice(numbers, _BATCH)):
        yield from _measurement_records(store, batch)
    if wanted == LineFilter():
        yield from _load_records(store)
        yield from _compression_records(store)


def moment_text(moment: datetime) -> str:
    """Return a moment as it stands in a record."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def check_version(header: Mapping[str, Any], path: object) -> None:
    """Raise ExportUnusable unless a file's header names a format and version that can be read."""
    if header.get("format") != FORMAT:
        raise ExportUnusable(f"{path} is no export of a history; `host store export FILE` makes one")
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ExportUnusable(
            f"{path} has version {version} of the export's format, and this boardfit knows {VERSION} at most: a newer one wrote "
            "it. Upgrade this host with `pip install --upgrade boardfit`"
        )


def _measurements(store: ResultStore, lines: LineFilter) -> Iterator[int]:
    last = None
    for line in stream_lines(store, lines):
        # The lines of one measurement follow each other.
        if line.measurement_id != last:
            last = line.measurement_id
            yield last


def _record(kind: str, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(KEYS), "kind": kind, **values}


def _measurement_records(store: ResultStore, numbers: list[int]) -> Iterator[dict[str, Any]]:
    whole, line, job, sweep = models.Measurement, models.MeasuredArtifact, models.SweepJob, models.Sweep
    with store.reading() as session:
        found = {row.id: row for row in session.scalars(select(whole).where(whole.id.in_(numbers)))}
        lines: dict[int, list[models.MeasuredArtifact]] = {number: [] for number in numbers}
        for each in session.scalars(select(line).where(line.measurement_id.in_(numbers)).order_by(line.position)):
            lines[each.measurement_id].append(each)
        jobs = {row.measurement_id: row for row in session.scalars(select(job).where(job.measurement_id.in_(numbers)))}
        swept = {each.sweep_id for parts in lines.values() for each in parts} - {None}
        sweeps = {row.id: row for row in session.scalars(select(sweep).where(sweep.id.in_(swept)))}
        for number in numbers:
            row, parts = found[number], lines[number]
            columns = unpack_run_columns(row.runs)
            yield _record(
                "measurement",
                uuid=row.uuid,
                created_at=moment_text(row.created_at),
                device_id=parts[0].device_id,
                device_name=parts[0].device_name,
                runtime=row.runtime,
                runtime_version=row.runtime_version,
                threads=row.threads,
                sha256=[part.sha256 for part in parts],
                names=[part.name for part in parts],
                **{f"derived_{name}": [getattr(part, name) for part in parts] for name in DERIVED},
                device=row.device.info,
                host=row.host.info,
                request=row.request,
                result=row.result,
                sweep=None if parts[0].sweep_id is None else _sweep_object(sweeps[parts[0].sweep_id]),
                job=_job_object(jobs.get(number)),
                **{f"run_{name}": list(getattr(columns, name)) for name in RUNS},
                **_reading_columns(row.reading_names, row.readings),
            )


def _load_records(store: ResultStore) -> Iterator[dict[str, Any]]:
    load = models.LoadMeasurement
    with store.reading() as session:
        numbers = iter(session.scalars(select(load.id).order_by(load.id.desc())).all())
        while batch := list(islice(numbers, _BATCH)):
            for row in session.scalars(select(load).where(load.id.in_(batch)).order_by(load.id.desc())):
                served = unpack_served(row.served)
                yield _record(
                    "load",
                    uuid=row.uuid,
                    created_at=moment_text(row.created_at),
                    device_id=row.device.device_id,
                    runtime=row.runtime,
                    runtime_version=row.runtime_version,
                    threads=row.threads,
                    sha256=[row.sha256],
                    names=[row.name],
                    device=row.device.info,
                    host=row.host.info,
                    request=row.request,
                    result=row.result,
                    **{f"served_{name}": [getattr(one, name) for one in served] for name in SERVED},
                    **_reading_columns(row.reading_names, row.readings),
                )
            session.expunge_all()


def _compression_records(store: ResultStore) -> Iterator[dict[str, Any]]:
    compression, environment = models.Compression, models.DeviceEnvironment
    with store.reading() as session:
        query = select(compression, environment.info).outerjoin(
            environment, environment.id == compression.device_environment_id
        )
        for row, info in session.execute(query.order_by(compression.id.desc())):
            yield _record(
                "compression",
                uuid=row.uuid,
                created_at=moment_text(row.created_at),
                device_id=None if info is None else info["device_id"],
                device=info,
                compression=row.record,
            )


def _reading_columns(names: list[Any], blob: bytes) -> dict[str, list[Any]]:
    readings = unpack_readings(names, blob)
    return {f"reading_{name}": [getattr(reading, name) for reading in readings] for name in READINGS}


def _sweep_object(sweep: models.Sweep) -> dict[str, Any]:
    return {
        "uuid": sweep.uuid,
        "name": sweep.name,
        "created_at": moment_text(sweep.created_at),
        "seed": sweep.seed,
        "document": sweep.document,
    }


_JOB = (
    "key", "position", "artifact_name", "artifact_path", "sha256", "wanted_device", "options", "repeat", "movable_to", "device",
    "attempts", "finished_s",
)  # fmt: skip


def _job_object(job: models.SweepJob | None) -> dict[str, Any] | None:
    return None if job is None else {name: getattr(job, name) for name in _JOB}
