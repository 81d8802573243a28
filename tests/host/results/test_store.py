"""The history: what goes in comes out, whole, and old or newer databases are dealt with."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import databases
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import KINDS, empty_database
from sqlalchemy import Connection, create_engine, text

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import Channel, DeviceInfo, Quantity, RuntimeInfo
from device_agent.contract.measurement import (
    ArtifactResult,
    ColdStart,
    Measurement,
    MeasureResult,
    MemoryPhases,
    NodeTime,
    Reading,
    Run,
    RunKind,
    Verdict,
    VerdictCode,
    Window,
    WindowKind,
)
from device_agent.contract.settings import (
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)
from device_agent.contract.statistics import median
from host.results.database import HistoryUnavailable
from host.results.derived import refresh
from host.results.environment import Environment, environment_difference
from host.results.lines import list_lines
from host.results.models import Base
from host.results.samples import SamplesCorrupt, pack_runs, unpack_readings, unpack_runs
from host.results.schema import HEAD, DatabaseTooNew, alembic_config
from host.results.store import NotInHistory, ResultStore

DEVICE = DeviceInfo(
    device_id="d-1",
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
    governor="ondemand",
    default_threads=4,
    runtimes=(
        RuntimeInfo(
            name="onnxruntime",
            version="1.32.0",
            formats=(ArtifactFormat.ONNX,),
            providers=("CPUExecutionProvider",),
            max_onnx_opset=25,
        ),
    ),
    channels=(Channel(name="cpu", quantity=Quantity.TEMPERATURE, site="cpu", source="thermal_zone0"),),
)


def measurement(*, artifacts: int = 2, runs: int = 500, seed: int = 0) -> Measurement:
    rng = random.Random(seed)
    hashes = tuple(f"{number:064x}" for number in range(1, artifacts + 1))
    clock = 10**15
    made = []
    for number in range(runs):
        clock += rng.randrange(10**6)
        made.append(
            Run(
                artifact=number // 5 % artifacts,
                kind=rng.choice(list(RunKind)),
                turn=number // 5,
                start_ns=clock,
                latency_ns=rng.randrange(1, 2**45),
                disturbed=rng.random() < 0.1,
            )
        )
    node = NodeTime(name="conv", op_type="Conv", median_ns=1.5, share=0.25, runs=9, input_shapes=((1, 3, 8, 8), ()))
    return Measurement(
        request=MeasureRequest(
            artifacts=hashes,
            settings=Settings(threads=2, cpus=(1, 3)),
            stopping=Stopping(precision=None),
            profile_nodes=True,
        ),
        result=MeasureResult(
            runtime="onnxruntime",
            runtime_version="1.32.0",
            threads=2,
            artifacts=tuple(
                ArtifactResult(
                    sha256=sha256,
                    load_ns=5,
                    provider="CPUExecutionProvider",
                    provider_share=1.0,
                    peak_memory_bytes=None,
                    peak_rss_bytes=None,
                    nodes=(node,) if position else None,
                    verdicts=(Verdict(code=VerdictCode.UNSTABLE, value=0.03, unit="1", hint="wait"),),
                )
                for position, sha256 in enumerate(hashes)
            ),
            device_time_ns=3 * 10**9,
            steal_fraction=None,
        ),
        runs=tuple(made),
        readings=tuple(
            Reading(channel=rng.choice("ab"), time_ns=clock + 7 * number, value=rng.random()) for number in range(40)
        ),
    )


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(request.param, tmp_path) as found:
        yield found


@contextmanager
def changed(url: str) -> Iterator[Connection]:
    """A transaction on a database past the history."""
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_a_measurement_comes_back_identical(url: str) -> None:
    given = measurement()
    before = datetime.now(timezone.utc)
    with ResultStore.open(url) as store:
        number = store.add_measurement(given, device=DEVICE, artifact_names=("base", "half"))
    with ResultStore.open(url) as store:
        found = store.get_measurement(number)
    assert found.measurement == given
    assert found.device == DEVICE
    assert found.artifact_names == ("base", "half")
    assert found.host["boardfit"] == "0.1.0"
    assert before - timedelta(seconds=1) <= found.created_at <= datetime.now(timezone.utc)


def test_raw_runs_take_little_space() -> None:
    runs = [
        Run(
            artifact=0,
            kind=RunKind.TIMED,
            turn=0,
            start_ns=10**15 + 5_000_000 * number,
            latency_ns=4_900_000 + number % 97 * 1000,
            disturbed=False,
        )
        for number in range(10_000)
    ]
    blob = pack_runs(runs)
    assert unpack_runs(blob) == tuple(runs)
    assert len(blob) < 3 * len(runs)


def test_samples_in_the_first_layouts_are_still_read() -> None:
    given = measurement()
    runs = given.runs
    starts = [run.start_ns for run in runs]
    columns = (
        array("H", [run.artifact for run in runs]),
        array("B", [1 + list(RunKind).index(run.kind) for run in runs]),
        array("I", [run.turn for run in runs]),
        array("q", [start - before for start, before in zip(starts, [0, *starts], strict=False)]),
        array("q", [run.latency_ns for run in runs]),
        array("B", [run.disturbed for run in runs]),
    )
    body = b"".join(column.tobytes() for column in columns)
    assert unpack_runs(b"BFR1" + struct.pack("<I", len(runs)) + zlib.compress(body)) == runs
    readings = (Reading(channel="b", time_ns=5, value=0.5), Reading(channel="a", time_ns=7, value=1.5))
    body = struct.pack("<2H2q2d", 1, 0, 5, 2, 0.5, 1.5)
    assert unpack_readings(["a", "b"], b"BFD1\2\0\0\0" + zlib.compress(body)) == readings
    with pytest.raises(SamplesCorrupt, match="beyond the 1"):
        unpack_readings(["a"], b"BFD1\2\0\0\0" + zlib.compress(body))


@pytest.mark.parametrize("blob", [b"", b"BFR2", b"BFR1\x01\0\0\0junk", pack_runs([])[:-3], b"XXXX" + pack_runs([])[4:]])
def test_damaged_samples_are_named(blob: bytes) -> None:
    with pytest.raises(SamplesCorrupt, match="stored samples"):
        unpack_runs(blob)


def test_listing_filters_and_goes_from_new_to_old(url: str) -> None:
    with ResultStore.open(url) as store:
        one = store.add_measurement(measurement(artifacts=1), device=DEVICE, artifact_names=("a",))
        two = store.add_measurement(measurement(artifacts=2), device=DEVICE, artifact_names=("b", "c"))
        other = replace(DEVICE, device_id="d-2", governor="performance")
        three = store.add_measurement(measurement(artifacts=1), device=other, artifact_names=("d",))
        assert [line.id for line in store.list_measurements()] == [three, two, one]
        assert [line.id for line in store.list_measurements(device_id="d-1")] == [two, one]
        assert [line.id for line in store.list_measurements(sha256=f"{2:064x}")] == [two]
        assert store.list_measurements(runtime="litert") == ()
        assert [line.id for line in store.list_measurements(limit=1)] == [three]
        assert store.list_measurements(since=datetime.now(timezone.utc) + timedelta(hours=1)) == ()
        (line,) = store.list_measurements(sha256=f"{2:064x}")
    assert line.artifact_names == ("b", "c")
    assert line.verdicts == (("unstable",), ("unstable",))
    assert line.profile == "pi4"


def test_equal_environments_are_stored_once(url: str) -> None:
    with ResultStore.open(url) as store:
        for _ in range(3):
            store.add_measurement(measurement(artifacts=1), device=DEVICE, artifact_names=("a",))
    counts = {"device_environments": 1, "host_environments": 1, "measurements": 3}
    with changed(url) as connection:
        for table, count in counts.items():
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == count


def test_a_failed_write_leaves_nothing(url: str) -> None:
    with ResultStore.open(url) as store:
        with pytest.raises(ValueError, match="1 names were given for 2 artifacts"):
            store.add_measurement(measurement(), device=DEVICE, artifact_names=("a",))
        short = measurement()
        short = replace(short, result=replace(short.result, artifacts=short.result.artifacts[:1]))
        with pytest.raises(ValueError):
            store.add_measurement(short, device=DEVICE, artifact_names=("a", "b"))
        assert store.list_measurements() == ()
        with pytest.raises(NotInHistory, match="no measurement 7"):
            store.get_measurement(7)


def test_device_facts_are_replaced(url: str) -> None:
    with ResultStore.open(url) as store:
        assert store.get_device_fact("d-1/onnxruntime", "granularity") is None
        store.put_device_fact("d-1/onnxruntime", "granularity", {"conv": [8, 16]})
        store.put_device_fact("d-1/onnxruntime", "granularity", {"conv": [4]})
        store.put_device_fact("d-1/onnxruntime", "other", {"x": None})
        assert store.get_device_fact("d-1/onnxruntime", "granularity") == {"conv": [4]}
        assert store.get_device_fact("d-1/litert", "granularity") is None


def test_compressions_are_kept(url: str) -> None:
    record = {"model": "m", "target": {"ratio": 0.5}, "met": False, "plan": {"g": 8}, "reason": "no width"}
    with ResultStore.open(url) as store:
        number = store.add_compression(record, device=DEVICE)
        (found,) = store.list_compressions()
        assert (found.id, found.met, found.plan, found.record) == (number, False, {"g": 8}, record)
        with pytest.raises(ValueError, match="lacks plan, met"):
            store.add_compression({"target": {}})


def test_a_result_that_was_acknowledged_survives_kill_minus_nine(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/history.sqlite"
    script = (
        "import os, signal, sys; sys.path[:0] = sys.argv[2:]; import test_store as t\n"
        "from host.results.store import ResultStore\n"
        "store = ResultStore.open(sys.argv[1])\n"
        "number = store.add_measurement(t.measurement(), device=t.DEVICE, artifact_names=('a', 'b'))\n"
        "print(number, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url, str(Path(__file__).parent), str(Path(databases.__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    with ResultStore.open(url) as store:
        assert store.get_measurement(int(done.stdout)).measurement == measurement()


def test_models_equal_the_migrated_schema(url: str) -> None:
    ResultStore.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD


def test_databases_of_every_version_migrate_to_the_newest(url: str) -> None:
    from alembic import command

    with ResultStore.open(url) as store:
        store.add_measurement(measurement(), device=DEVICE, artifact_names=("base", "half"), device_name="desk")
        store.add_compression({"target": {}, "met": True, "plan": {}}, device=DEVICE)
        lines = list_lines(store)
    for version in ("0002", "0001"):
        with changed(url) as connection:
            command.downgrade(alembic_config(connection), version)
        with ResultStore.open(url) as store:
            # An older version did not know what the host calls a device. All else is found, or made from the samples.
            assert list_lines(store) == tuple(replace(line, device_name=None) for line in lines)
            assert store.get_measurement(1).measurement == measurement()
    with changed(url) as connection:
        assert len({*connection.execute(text("SELECT uuid FROM measurements")).scalars()} - {None}) == 1


def test_derived_columns_are_made_anew(url: str) -> None:
    with ResultStore.open(url) as store:
        given = measurement(artifacts=1)
        store.add_measurement(given, device=DEVICE, artifact_names=("a",))
        (before,) = list_lines(store)
        assert before.p50_ns == median(given.latencies_ns())
        assert before.runs == len(given.latencies_ns())
        with changed(url) as connection:
            connection.execute(text("UPDATE measured_artifacts SET p50_ns = 1, runs = NULL, derived = 0"))
            assert refresh(connection) == 1
            assert refresh(connection) == 0
            assert refresh(connection, everything=True) == 1
        assert list_lines(store) == (before,)


def test_a_newer_database_is_left_alone(url: str) -> None:
    ResultStore.open(url).close()
    with changed(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match=r"schema 9999.*newer version.*pip install --upgrade"):
        ResultStore.open(url)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}") as store:
        with store._engine.connect() as connection:
            # As on a full disk: the file may not grow. The limit belongs to this connection, which the pool gives out again.
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(HistoryUnavailable, match=r"history\.sqlite: .*full"):
            store.put_device_fact("key", "kind", {"big": "x" * 1_000_000})


def test_a_damaged_or_unknown_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"this is no database at all, only text" * 100)
    with pytest.raises(HistoryUnavailable, match=r"history\.sqlite.*move it away"):
        ResultStore.open(f"sqlite:///{path}")
    with pytest.raises(HistoryUnavailable, match="database URL"):
        ResultStore.open("no such thing")


def test_differences_of_environments_are_listed() -> None:
    given = measurement()
    here = Environment.of(given, DEVICE)
    assert environment_difference(here, Environment.of(measurement(seed=5), DEVICE)) == ()
    faster = replace(DEVICE, governor="performance", kernel="6.6")
    threads = replace(given, result=replace(given.result, threads=4))
    assert environment_difference(here, Environment.of(threads, faster)) == ("kernel", "governor", "threads")


def test_every_setting_that_matters_decides_about_comparability() -> None:
    given = measurement(artifacts=1)
    alone = replace(given, request=replace(given.request, profile_nodes=False))
    here = Environment.of(alone, DEVICE)

    def differs(**changes: object) -> tuple[str, ...]:
        settings = replace(alone.request.settings, **changes)  # type: ignore[arg-type]
        other = replace(alone, request=replace(alone.request, settings=settings))
        return environment_difference(here, Environment.of(other, DEVICE))

    assert differs() == ()
    assert differs(provider_options=(("device_id", "1"),)) == ("provider_options",)
    assert differs(nice=0) == ("nice",)
    assert differs(batch=8) == ("batch",)
    assert differs(graph_optimization=GraphOptimization.BASIC) == ("graph_optimization",)
    assert differs(memory_arena=False) == ("memory_arena",)
    assert differs(inputs=InputKind.ZEROS) == ("inputs",)
    assert differs(inputs=InputKind.DATA, inputs_sha256="0" * 64) == ("inputs", "inputs_sha256")
    # A group of processors is what it came out as, so it equals the same processors by their numbers.
    pinned = replace(alone, result=replace(alone.result, cpus=(1, 3)))
    group = replace(alone.request.settings, cpus=None, cpu_group=CpuGroup.BIG)
    grouped = replace(pinned, request=replace(alone.request, settings=group))
    assert environment_difference(Environment.of(pinned, DEVICE), Environment.of(grouped, DEVICE)) == ()
    moved = replace(grouped, result=replace(alone.result, cpus=(0, 2)))
    assert environment_difference(here, Environment.of(moved, DEVICE)) == ("cpus",)
    assert environment_difference(here, Environment.of(given, DEVICE)) == ("alone",)
    soaked = replace(alone, request=replace(alone.request, soak_s=60.0))
    assert environment_difference(here, Environment.of(soaked, DEVICE)) == ("soak",)


def test_settings_and_new_results_come_back_as_they_were(url: str) -> None:
    given = measurement(artifacts=1)
    settings = Settings(
        provider="X",
        provider_options=(("a", "1"), ("b", "2")),
        nice=5,
        graph_optimization=GraphOptimization.BASIC,
        memory_arena=False,
        cpu_group=CpuGroup.LITTLE,
    )
    found = replace(
        given.result.artifacts[0],
        memory=MemoryPhases(runtime_bytes=1, load_bytes=2, first_run_bytes=3, steady_bytes=4),
        cold_starts=(ColdStart(import_ns=1, load_ns=2, first_run_ns=3),),
        unrecorded_runs=7,
    )
    windows = (Window(kind=WindowKind.TIMED, start_ns=1, end_ns=2),)
    whole = replace(
        given,
        request=replace(given.request, settings=settings, cold_starts=1),
        result=replace(given.result, artifacts=(found,), cpus=(0, 1), windows=windows),
    )
    with ResultStore.open(url) as store:
        number = store.add_measurement(whole, device=DEVICE, artifact_names=("one",))
        assert store.get_measurement(number).measurement == whole
