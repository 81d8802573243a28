"""Raw samples as compact columns.

A blob is a header of 8 bytes (4 bytes of magic, the number of rows as a little-endian u32) and one zlib
stream of little-endian columns, one after the other, each of as many items as there are rows:

    runs, magic BFR1:      artifact u2, kind u1 (1 warm-up, 2 timed, 3 settling, 4 profiled), turn u4,
                           start_ns i8 as differences to the row before, latency_ns i8, disturbed u1
    served, magic BFS1:    trial u4, stream u2, arrival_ns i8 as differences to the row before, start_ns i8 as differences to the
                           same row's arrival, end_ns i8 as differences to the same row's start
    readings, magic BFD1:  channel u2 (index into a list of names stored beside), time_ns i8 as differences,
    value f8
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from device_agent.contract.errors import StableError
from device_agent.contract.load import ServedRequest
from device_agent.contract.measurement import Reading, Run, RunKind
from device_agent.contract.served import ServedLog

_HEADER = struct.Struct("<4sI")
_KINDS = {RunKind.WARM_UP: 1, RunKind.TIMED: 2, RunKind.SETTLING: 3, RunKind.PROFILED: 4}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}


class SamplesCorrupt(StableError):
    """A stored blob is not one of the layouts that this version knows."""


def pack_runs(runs: Sequence[Run]) -> bytes:
    """Return the blob of `runs`, in their order."""
    return _pack(
        b"BFR1",
        len(runs),
        ("H", (run.artifact for run in runs)),
        ("B", (_KINDS[run.kind] for run in runs)),
        ("I", (run.turn for run in runs)),
        ("q", _differences([run.start_ns for run in runs])),
        ("q", (run.latency_ns for run in runs)),
        ("B", (run.disturbed for run in runs)),
    )


def unpack_runs(blob: bytes) -> tuple[Run, ...]:
    """Return the runs of a blob. Raises SamplesCorrupt."""
    columns = _unpack(b"BFR1", "HBIqqB", blob)
    columns[3] = accumulate(columns[3])
    return tuple(
        Run(
            artifact=artifact,
            kind=_KIND_OF[kind],
            turn=turn,
            start_ns=start_ns,
            latency_ns=latency_ns,
            disturbed=bool(disturbed),
        )
        for artifact, kind, turn, start_ns, latency_ns, disturbed in zip(*columns, strict=True)
    )


def pack_served(served: Sequence[ServedRequest]) -> bytes:
    """Return the blob of `served`, in their order."""
    return _pack(
        b"BFS1",
        len(served),
        ("I", (one.trial for one in served)),
        ("H", (one.stream for one in served)),
        ("q", _differences([one.arrival_ns for one in served])),
        ("q", (one.start_ns - one.arrival_ns for one in served)),
        ("q", (one.end_ns - one.start_ns for one in served)),
    )


def unpack_served(blob: bytes) -> ServedLog:
    """Return the requests of a blob. Raises SamplesCorrupt."""
    trials, streams, arrivals, waits, services = _unpack(b"BFS1", "IHqqq", blob)
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
        b"BFD1",
        len(readings),
        ("H", (index[reading.channel] for reading in readings)),
        ("q", _differences([reading.time_ns for reading in readings])),
        ("d", (reading.value for reading in readings)),
    )


def unpack_readings(names: Sequence[str], blob: bytes) -> tuple[Reading, ...]:
    """Return the readings of a blob. Raises SamplesCorrupt."""
    channels, times, values = _unpack(b"BFD1", "Hqd", blob)
    return tuple(
        Reading(channel=names[channel], time_ns=time_ns, value=value)
        for channel, time_ns, value in zip(channels, accumulate(times), values, strict=True)
    )


def _differences(values: Sequence[int]) -> list[int]:
    return [value - before for before, value in zip([0, *values], values, strict=False)]


def _pack(magic: bytes, rows: int, *columns: tuple[str, Iterable[float]]) -> bytes:
    body = b""
    for code, values in columns:
        column: array[Any] = array(code, values)
        if sys.byteorder == "big":
            column.byteswap()
        body += column.tobytes()
    return _HEADER.pack(magic, rows) + zlib.compress(body)


def _unpack(magic: bytes, codes: str, blob: bytes) -> list[Iterable[Any]]:
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
    columns: list[Iterable[Any]] = []
    position = 0
    for code, size in zip(codes, sizes, strict=True):
        column: array[Any] = array(code)
        column.frombytes(body[position : position + rows * size])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
        position += rows * size
    return columns
