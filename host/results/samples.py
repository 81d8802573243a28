"""Raw samples as compact columns.

A blob is a header of 8 bytes (4 bytes of magic, the number of rows as a little-endian u32) and one zlib stream of little-endian
columns, one after the other, each of as many items as there are rows. A column of the layouts that end in 2 is turned on its
side: first the lowest bytes of all items, then their second bytes, and so on, since the high bytes hardly change.

    runs, magic BFR2:      artifact u2, kind u1 (1 warm-up, 2 timed, 3 settling, 4 profiled), turn i4 as differences to the row
                           before, start_ns i8 as differences to the end of the run before, latency_ns i8, disturbed u1
    served, magic BFS2:    trial u4, stream u2, arrival_ns i8 as differences to the row before, start_ns i8 as differences to the
                           same row's arrival, end_ns i8 as differences to the same row's start
    readings, magic BFD2:  channel u2 (index into a list of names stored beside), time_ns i8 as differences, value f8

BFR1, BFS1 and BFD1 are read, and not written any more: as above, but not turned, and in BFR1 the turn u4 as it is and start_ns
as differences to the row before. A run takes 4 to 6 bytes, two thirds of what it took in BFR1.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import add, sub
from typing import Any

from device_agent.contract.errors import StableError
from device_agent.contract.load import ServedRequest
from device_agent.contract.measurement import Measurement, MeasureResult, Reading, Run, RunKind
from device_agent.contract.plain_json import from_json
from device_agent.contract.served import ServedLog
from device_agent.contract.settings import MeasureRequest

_HEADER = struct.Struct("<4sI")
_KINDS = {RunKind.WARM_UP: 1, RunKind.TIMED: 2, RunKind.SETTLING: 3, RunKind.PROFILED: 4}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}


class SamplesCorrupt(StableError):
    """A stored blob is not one of the layouts that this version knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunColumns:
    """Runs as columns of one length; `kind` holds the numbers of the layout."""

    artifact: Sequence[int]
    kind: Sequence[int]
    turn: Sequence[int]
    start_ns: Sequence[int]
    latency_ns: Sequence[int]
    disturbed: Sequence[int]

    def runs(self) -> tuple[Run, ...]:
        """Return the runs. Raises SamplesCorrupt for an unknown kind."""
        rows = zip(self.artifact, self.kind, self.turn, self.start_ns, self.latency_ns, self.disturbed, strict=True)
        try:
            return tuple(
                Run(
                    artifact=artifact,
                    kind=_KIND_OF[kind],
                    turn=turn,
                    start_ns=start_ns,
                    latency_ns=latency_ns,
                    disturbed=bool(disturbed),
                )
                for artifact, kind, turn, start_ns, latency_ns, disturbed in rows
            )
        except KeyError as error:
            raise SamplesCorrupt(f"stored samples have a run of the unknown kind {error}") from error


def pack_runs(runs: Sequence[Run]) -> bytes:
    """Return the blob of `runs`, in their order."""
    return pack_run_columns(
        RunColumns(
            artifact=[run.artifact for run in runs],
            kind=[_KINDS[run.kind] for run in runs],
            turn=[run.turn for run in runs],
            start_ns=[run.start_ns for run in runs],
            latency_ns=[run.latency_ns for run in runs],
            disturbed=[run.disturbed for run in runs],
        )
    )


def pack_run_columns(columns: RunColumns) -> bytes:
    """Return the blob of runs given as columns."""
    ends = map(add, columns.start_ns, columns.latency_ns)
    return _pack(
        b"BFR2",
        len(columns.kind),
        ("H", columns.artifact),
        ("B", columns.kind),
        ("i", _differences(columns.turn)),
        ("q", [start - end for start, end in zip(columns.start_ns, chain((0,), ends), strict=False)]),
        ("q", columns.latency_ns),
        ("B", columns.disturbed),
    )


def unpack_run_columns(blob: bytes) -> RunColumns:
    """Return the runs of a blob as columns. Raises SamplesCorrupt."""
    if blob[:4] == b"BFR1":
        artifact, kind, turn, differences, latency, disturbed = _unpack(b"BFR1", "HBIqqB", blob)
        start = list(accumulate(differences))
    else:
        artifact, kind, turns, gaps, latency, disturbed = _unpack(b"BFR2", "HBiqqB", blob)
        turn = list(accumulate(turns))
        # A run starts a gap after the end of the one before it: all gaps and latencies up to there.
        start = list(map(add, accumulate(gaps), chain((0,), accumulate(latency))))
    return RunColumns(artifact=artifact, kind=kind, turn=turn, start_ns=start, latency_ns=latency, disturbed=disturbed)


def unpack_runs(blob: bytes) -> tuple[Run, ...]:
    """Return the runs of a blob. Raises SamplesCorrupt."""
    return unpack_run_columns(blob).runs()


def pack_served(served: Sequence[ServedRequest]) -> bytes:
    """Return the blob of `served`, in their order."""
    return _pack(
        b"BFS2",
        len(served),
        ("I", [one.trial for one in served]),
        ("H", [one.stream for one in served]),
        ("q", _differences([one.arrival_ns for one in served])),
        ("q", [one.start_ns - one.arrival_ns for one in served]),
        ("q", [one.end_ns - one.start_ns for one in served]),
    )


def unpack_served(blob: bytes) -> ServedLog:
    """Return the requests of a blob. Raises SamplesCorrupt."""
    magic = b"BFS1" if blob[:4] == b"BFS1" else b"BFS2"
    trials, streams, arrivals, waits, services = _unpack(magic, "IHqqq", blob)
    log = ServedLog()
    for trial, stream, arrival_ns, wait, service in zip(
        trials, streams, accumulate(arrivals), waits, services, strict=True
    ):
        log.add(trial, stream, arrival_ns, arrival_ns + wait, arrival_ns + wait + service)
    return log


def pack_readings(readings: Sequence[Reading]) -> tuple[list[str], bytes]:
    """Return the names of the channels and the blob of `readings`, in their order."""
    names = sorted({reading.channel for reading in readings})
    index = {name: number for number, name in enumerate(names)}
    return names, _pack(
        b"BFD2",
        len(readings),
        ("H", [index[reading.channel] for reading in readings]),
        ("q", _differences([reading.time_ns for reading in readings])),
        ("d", [reading.value for reading in readings]),
    )


def unpack_readings(names: Sequence[str], blob: bytes) -> tuple[Reading, ...]:
    """Return the readings of a blob. Raises SamplesCorrupt."""
    magic = b"BFD1" if blob[:4] == b"BFD1" else b"BFD2"
    channels, times, values = _unpack(magic, "Hqd", blob)
    try:
        return tuple(
            Reading(channel=names[channel], time_ns=time_ns, value=value)
            for channel, time_ns, value in zip(channels, accumulate(times), values, strict=True)
        )
    except IndexError as error:
        raise SamplesCorrupt(f"stored readings name a channel beyond the {len(names)} that there are") from error


def _differences(values: Sequence[int]) -> list[int]:
    return list(map(sub, values, chain((0,), values)))


def _pack(magic: bytes, rows: int, *columns: tuple[str, Sequence[float]]) -> bytes:
    parts: list[bytes] = []
    for code, values in columns:
        column: array[Any] = array(code, values)
        if sys.byteorder == "big":
            column.byteswap()
        plain = column.tobytes()
        parts.extend(plain[place :: column.itemsize] for place in range(column.itemsize))
    return _HEADER.pack(magic, rows) + zlib.compress(b"".join(parts))


def _unpack(magic: bytes, codes: str, blob: bytes) -> list[Sequence[Any]]:
    try:
        found, rows = _HEADER.unpack_from(blob)
        body = zlib.decompress(blob[_HEADER.size :])
    except (struct.error, zlib.error) as error:
        raise SamplesCorrupt(f"stored samples of {len(blob)} bytes are damaged: {error}") from error
    sizes = [array(code).itemsize for code in codes]
    if found != magic or len(body) != rows * sum(sizes):
        raise SamplesCorrupt(
            f"stored samples begin with {found!r} and hold {len(body)} bytes; expected {magic!r} and "
            f"{rows * sum(sizes)}"
        )
    columns: list[Sequence[Any]] = []
    position = 0
    for code, size in zip(codes, sizes, strict=True):
        column: array[Any] = array(code)
        column.frombytes(_upright(body, position, rows, size, turned=magic.endswith(b"2")))
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
        position += rows * size
    return columns


def _upright(body: bytes, position: int, rows: int, size: int, *, turned: bool) -> bytes:
    if not turned:
        return body[position : position + rows * size]
    plain = bytearray(rows * size)
    for place in range(size):
        plain[place::size] = body[position + place * rows : position + (place + 1) * rows]
    return bytes(plain)


def measurement_of(row: Any) -> Measurement:
    """Return the measurement in a stored row: `request`, `result`, `runs`, `reading_names` and `readings`."""
    return Measurement(
        request=from_json(MeasureRequest, row.request),
        result=from_json(MeasureResult, row.result),
        runs=unpack_runs(row.runs),
        readings=unpack_readings(row.reading_names, row.readings),
    )
