"""Exports as files: Parquet and JSON lines hold everything, CSV a line of figures per measured artifact."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from host.results.database import HistoryUnavailable
from host.results.exchange import (
    FORMAT,
    KEYS,
    VERSION,
    ExportUnusable,
    check_version,
    records,
)
from host.results.lines import LineFilter, stream_lines
from host.results.store import ResultStore

#: Column of the CSV -> its meaning; docs/store.md says the same.
CSV_COLUMNS = (
    "measurement", "artifact", "created_at", "name", "sha256", "device_name", "device_id", "profile", "runtime",
    "runtime_version", "threads", "artifacts_together", "verdicts", "runs", "runs_undisturbed", "p50_ns", "p90_ns", "p99_ns",
    "min_ns", "mean_ns", "undisturbed_p50_ns", "peak_memory_bytes", "peak_rss_bytes", "energy_gross_j", "energy_net_j", "sweep",
    "repeat", "options",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format. `write` fills an open binary file and returns how many records or lines it has; `read` is None where not
    everything is in the file."""

    write: Callable[[IO[bytes], ResultStore, LineFilter], int]
    read: Callable[[Path], Iterator[Mapping[str, Any]]] | None


def export_file(store: ResultStore, path: Path, wanted: LineFilter, name: str | None = None) -> int:
    """Write an export and return how many records it has. `name` is a format, by default that of the suffix.

    The file appears under its name once it is whole. Raises ExportUnusable, HistoryUnavailable.
    """
    chosen = _format_of(path, name)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                count = chosen.write(file, store, wanted)
                file.flush()
                os.fsync(file.fileno())
                umask = os.umask(0)
                os.umask(umask)
                Path(file.name).chmod(0o666 & ~umask)
                Path(file.name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise HistoryUnavailable(f"cannot write the export to {path}: {error.strerror or error}") from error
    return count


def read_export(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of an export of any format that holds everything. Raises ExportUnusable."""
    chosen = _format_of(path, None)
    if chosen.read is None:
        raise ExportUnusable(
            f"{path} is a CSV export, which has no raw samples, so it cannot be imported. Export to .parquet or .jsonl instead"
        )
    try:
        yield from chosen.read(path)
    except OSError as error:
        raise ExportUnusable(f"cannot read {path}: {error.strerror or error}") from error


def _format_of(path: Path, name: str | None) -> Format:
    wanted = name or path.suffix.removeprefix(".").lower()
    if wanted not in FORMATS:
        raise ExportUnusable(f"{path} has no known format; name it .parquet, .jsonl or .csv, or give --format")
    return FORMATS[wanted]


def _write_jsonl(file: IO[bytes], store: ResultStore, wanted: LineFilter) -> int:
    def put(value: Any) -> None:
        file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    count = 0
    put({"format": FORMAT, "version": VERSION})
    for record in records(store, wanted):
        put({key: value for key, value in record.items() if value is not None})
        count += 1
    put({"end": True, "records": count})
    return count


def _read_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    count, ended = 0, False
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
            except (ValueError, UnicodeDecodeError) as error:
                raise ExportUnusable(f"line {number} of {path} is damaged: {error}. Nothing was imported") from error
            if not isinstance(value, dict) or ended:
                raise ExportUnusable(f"line {number} of {path} is no record. Nothing was imported")
            if number == 1:
                check_version(value, path)
            elif value.get("end"):
                ended = value.get("records") == count
                if not ended:
                    raise ExportUnusable(f"{path} has {count} records of {value.get('records')}. Nothing was imported")
            else:
                count += 1
                yield {**dict.fromkeys(KEYS), **value}
    if not ended:
        raise ExportUnusable(f"{path} was cut off after {count} records. Nothing was imported; copy or export it again")


def _write_parquet(file: IO[bytes], store: ResultStore, wanted: LineFilter) -> int:
    from host.results.parquet import write_parquet

    return write_parquet(file, records(store, wanted))


def _read_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    from host.results.parquet import read_parquet

    return read_parquet(path)


def _write_csv(file: IO[bytes], store: ResultStore, wanted: LineFilter) -> int:
    from sqlalchemy import select

    from host.results import models

    with store.reading() as session:
        rows = session.execute(select(models.Sweep.id, models.Sweep.name))
        sweeps = {row.id: row.name for row in rows}
    text = _Text(file)
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    count = 0
    for line in stream_lines(store, wanted):
        special = {
            "measurement": line.measurement_id,
            "artifact": line.position + 1,
            "created_at": line.created_at.isoformat(timespec="seconds"),
            "artifacts_together": line.together,
            "verdicts": " ".join(line.verdicts),
            "sweep": None if line.sweep_id is None else sweeps[line.sweep_id],
            "options": None if line.job_options is None else json.dumps(dict(line.job_options), sort_keys=True),
        }
        writer.writerow(special[name] if name in special else getattr(line, name) for name in CSV_COLUMNS)
        count += 1
    return count


class _Text:
    """A binary file for text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write text as UTF-8."""
        return self._file.write(text.encode())


FORMATS: Mapping[str, Format] = {
    "parquet": Format(write=_write_parquet, read=_read_parquet),
    "jsonl": Format(write=_write_jsonl, read=_read_jsonl),
    "csv": Format(write=_write_csv, read=None),
}
