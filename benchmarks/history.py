"""How long a look into a history of a million results takes.

Compares: nothing; each question has a second.
On: this machine, SQLite in a temporary folder; with BOARDFIT_TEST_POSTGRES=URL, that database instead, which must be empty.
    Six gigabytes in full, which are removed again from SQLite.
Fair because: the results are those of the store itself, a few of them repeated under other names, days, devices and sweeps by
    SQL, with their raw samples (60 runs each; more runs make the file larger, and no list slower, since lists read none), over a
    year of nights: 200 devices, 500 artifacts, sweeps of 3,000. Every question is asked three times, the answers as the
    commands make them, and the slowest counts.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress
from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import (
    ArtifactResult,
    Measurement,
    MeasureResult,
    Run,
    RunKind,
    Verdict,
    VerdictCode,
)
from device_agent.contract.settings import MeasureRequest
from host.results.compare_run import CompareOptions, compare
from host.results.courses import CourseOptions, courses_of
from host.results.lines import LineFilter, count_lines, list_lines
from host.results.overview import overview
from host.results.queue import StoreQueue
from host.results.store import ResultStore

_FULL, _QUICK = 1_000_000, 20_000
_DEVICES, _ARTIFACTS, _SWEEP = 200, 500, 3000
_STEP_S = 30
_BEGIN = datetime(2025, 11, 1, tzinfo=timezone.utc)
_ASKED = 3
_PART = 100_000


def measure(quick: bool) -> list[Row]:
    """Fill a history, then ask it what commands ask."""
    count = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        path = Path(name) / "history.sqlite"
        given = os.environ.get("BOARDFIT_TEST_POSTGRES")
        with ResultStore.open(given or f"sqlite:///{path}") as store:
            start = time.perf_counter()
            _fill(store, count)
            filled_s = time.perf_counter() - start
            size = overview(store).size_bytes
            rows = [
                Row(metric=f"filling: {count:,} results by SQL", value=filled_s, unit="s"),
                Row(metric="size of a result in the database", value=size / count, unit="bytes"),
            ]
            return rows + [_asked(store, what, ask) for what, ask in _questions(count).items()]


def _asked(store: ResultStore, what: str, ask: Callable[[ResultStore], Any]) -> Row:
    """Return the slowest answer. On a busy machine the processor time says whether the goal could be met on a quiet one."""
    times, busy = [], []
    for number in range(_ASKED):
        progress(f"{what}, {number + 1} of {_ASKED}")
        start, start_busy = time.perf_counter(), time.process_time()
        if not ask(store):
            raise CannotMeasure(f"{what}: nothing was found")
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    doubt = None
    if max(times) > 1 > max(busy):
        doubt = f"the machine is busy: {1000 * max(busy):.0f} ms of processor time, the rest was waiting"
    return judged(what, 1000 * max(times), "ms", Goal(below=1000), doubt=doubt)


def _questions(count: int) -> dict[str, Callable[[ResultStore], Any]]:
    device, artifact = "device-007", f"{8:064x}"
    last = _BEGIN + timedelta(seconds=_STEP_S * count)
    night = LineFilter(since=last - timedelta(days=1), until=last)
    week = LineFilter(device_names=("device-007", "device-008"), since=last - timedelta(days=7))
    sweep = max(1, count // _SWEEP // 2)

    def summary(store: ResultStore) -> Any:
        with StoreQueue(store) as queue:
            found = queue.find(f"#{sweep}")
            return queue.progress(found.id) and list_lines(store, LineFilter(sweep_id=found.id))

    # The nets of the device's first two results.
    other, one = f"{245:064x}", CompareOptions(devices=(device,))
    return {
        "list: the newest 100": lambda store: list_lines(store, limit=100),
        "list: the newest 100 of a device": lambda store: list_lines(store, LineFilter(devices=(device,)), limit=100),
        "list: the newest 100 of an artifact": lambda store: list_lines(
            store, LineFilter(sha256=(artifact,)), limit=100
        ),
        "list: an artifact on a device": lambda store: list_lines(
            store, LineFilter(sha256=(artifact,), devices=(device,)), limit=100
        ),
        "list: all of a night, 2,880 results": lambda store: list_lines(store, night),
        "list: two devices by name, a week": lambda store: list_lines(store, week),
        "summary of a sweep, 3,000 results": summary,
        "count: of a device": lambda store: count_lines(store, LineFilter(devices=(device,))),
        "count: everything": count_lines,
        "host store info": overview,
        "compare: two artifacts on a device": lambda store: compare(store, artifact, other, one).rows,
        "compare: two artifacts on all devices": lambda store: compare(store, artifact, other, None).rows,
        "history: the course of a model on a device": lambda store: courses_of(
            store, "net-007.onnx", CourseOptions(devices=(device,))
        ),
    }


def _fill(store: ResultStore, count: int) -> None:
    """Store one result per device, then repeat them by SQL."""
    rng = random.Random(1)
    for number in range(_DEVICES):
        store.add_measurement(
            _measurement(rng),
            device=_device(number),
            artifact_names=(_name(0),),
            device_name=_device(number).device_id,
        )
    sweeps = -(-count // _SWEEP)
    with StoreQueue(store) as queue:
        for number in range(sweeps):
            queue.create(f"night-{number}", [], seed=number, document={"artifacts": ["*.onnx"], "repeats": 2})
    sqlite = store.engine.dialect.name == "sqlite"
    with store.writing() as session:
        connection = session.connection()
        connection.execute(text("CREATE TEMPORARY TABLE nets (number INTEGER PRIMARY KEY, sha256 TEXT, name TEXT)"))
        connection.execute(
            text("INSERT INTO nets VALUES (:number, :sha256, :name)"),
            [{"number": n, "sha256": f"{n + 1:064x}", "name": _name(n)} for n in range(_ARTIFACTS)],
        )
        connection.execute(text("INSERT INTO artifacts (sha256, name) SELECT sha256, name FROM nets WHERE number > 0"))
        for first in range(0, count, _PART):
            progress(f"filling: {first:,} of {count:,}")
            values = {"first": first, "end": min(count, first + _PART), "old": f"{1:064x}"}
            for statement in _statements(sqlite):
                connection.execute(text(statement), values)
        connection.execute(text("DROP TABLE nets"))
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _statements(sqlite: bool) -> tuple[str, ...]:
    begin = _BEGIN.strftime("%Y-%m-%d %H:%M:%S")
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end), "
        # Neighbours in time are of different devices and artifacts, as in a shuffled sweep.
        f"r AS (SELECT i, i + {_DEVICES + 1} AS id, i % {_DEVICES} AS device, (i / {_DEVICES} * 37 + i) % {_ARTIFACTS} AS net, "
        f"i / {_SWEEP} + 1 AS sweep FROM n) "
    )
    if sqlite:
        moment = f"strftime('%Y-%m-%d %H:%M:%f000', '{begin}', '+' || (r.i * {_STEP_S}) || ' seconds')"
        name, json = "lower(hex(randomblob(16)))", "replace(m.{0}, :old, nets.sha256)"
    else:
        moment = f"timestamp '{begin}' + r.i * interval '{_STEP_S} seconds'"
        name, json = "md5(random()::text || r.i)", "replace(m.{0}::text, :old, nets.sha256)::json"
    wide = "runtime, runtime_version, threads"
    statistics = "derived, runs, runs_undisturbed, p90_ns, p99_ns, min_ns, mean_ns, undisturbed_p50_ns"
    derived = f"{statistics}, peak_memory_bytes, peak_rss_bytes"
    return (
        f"INSERT INTO measurements (id, created_at, device_environment_id, host_environment_id, {wide}, request, result, runs, "
        f"reading_names, readings, uuid) {numbers} SELECT r.id, {moment}, m.device_environment_id, m.host_environment_id, "
        f"m.runtime, m.runtime_version, m.threads, {json.format('request')}, {json.format('result')}, m.runs, m.reading_names, "
        f"m.readings, {name} FROM r JOIN nets ON nets.number = r.net JOIN measurements m ON m.id = r.device + 1",
        "INSERT INTO measured_artifacts (measurement_id, position, sha256, name, verdicts, created_at, device_environment_id, "
        f"device_id, device_name, {wide}, together, sweep_id, p50_ns, {derived}) {numbers} SELECT r.id, 0, nets.sha256, "
        f"nets.name, a.verdicts, {moment}, a.device_environment_id, a.device_id, a.device_name, a.runtime, a.runtime_version, "
        "a.threads, 1, r.sweep, a.p50_ns + 100 * r.net, "
        + ", ".join(f"a.{column.strip()}" for column in derived.split(","))
        + " FROM r JOIN nets ON nets.number = r.net JOIN measured_artifacts a ON a.measurement_id = r.device + 1",
        "INSERT INTO sweep_jobs (id, sweep_id, key, position, artifact_name, artifact_path, sha256, wanted_device, options, "
        "repeat, movable_to, state, device, attempts, token, not_before_s, measurement_id, finished_s) "
        f"{numbers} SELECT r.i + 1, r.sweep, 'job-' || r.i, r.i, nets.name, '/models/' || nets.name, nets.sha256, a.device_id, "
        "'{\"threads\": 4, \"runtime\": \"onnxruntime\"}', 1, '[]', 'done', a.device_id, 1, 1, 0, r.id, 1760000000 + r.i FROM r "
        "JOIN nets ON nets.number = r.net JOIN measured_artifacts a ON a.measurement_id = r.device + 1",
    )


def _name(number: int) -> str:
    return f"net-{number % 100:03d}.onnx"


def _measurement(rng: random.Random) -> Measurement:
    runs, clock = [], 10**12
    for number in range(65):
        latency = int(5e6 * rng.lognormvariate(0, 0.02))
        kind = RunKind.WARM_UP if number < 5 else RunKind.TIMED
        runs.append(
            Run(
                artifact=0,
                kind=kind,
                turn=number // 5,
                start_ns=clock,
                latency_ns=latency,
                disturbed=rng.random() < 0.05,
            )
        )
        clock += latency + rng.randrange(2000, 4000)
    result = ArtifactResult(
        sha256=f"{1:064x}",
        load_ns=10**7,
        provider="CPUExecutionProvider",
        provider_share=1.0,
        peak_memory_bytes=9_000_000,
        peak_rss_bytes=60_000_000,
        nodes=None,
        verdicts=(Verdict(code=VerdictCode.STABLE),),
    )
    return Measurement(
        request=MeasureRequest(artifacts=(f"{1:064x}",)),
        result=MeasureResult(
            runtime="onnxruntime",
            runtime_version="1.32.0",
            threads=4,
            artifacts=(result,),
            device_time_ns=2 * 10**9,
            steal_fraction=None,
        ),
        runs=tuple(runs),
        readings=(),
    )


def _device(number: int) -> DeviceInfo:
    return replace(_BOARD, device_id=f"device-{number:03d}")


_BOARD = DeviceInfo(
    device_id="",
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
    governor="performance",
    default_threads=4,
    runtimes=(),
    channels=(),
)

BENCHMARK = Benchmark(name="history", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
