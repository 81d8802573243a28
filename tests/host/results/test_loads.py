"""Load jobs in the history: whole, found by filters, and in databases of the version before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.migration import MigrationContext
from databases import KINDS, empty_database
from sqlalchemy import create_engine, inspect, text

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import DeviceInfo, RuntimeInfo
from device_agent.contract.load import LoadMeasurement, LoadRequest, LoadResult, LoadTrial, ServedRequest
from device_agent.contract.measurement import Reading, Verdict, VerdictCode
from device_agent.contract.settings import Settings
from host.results.loads import add_load, get_load, list_loads
from host.results.samples import SamplesCorrupt, pack_served, unpack_served
from host.results.schema import alembic_config
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
    runtimes=(RuntimeInfo(name="onnxruntime", version="1.32.0", formats=(ArtifactFormat.ONNX,), providers=()),),
    channels=(),
)


def load_measurement(*, sha256: str = "a" * 64, count: int = 300, highest: float | None = 41.25) -> LoadMeasurement:
    rng = random.Random(count)
    clock = 10**15
    served = []
    for number in range(count):
        clock += rng.randrange(10**7)
        start = clock + rng.randrange(10**6)
        served.append(
            ServedRequest(
                trial=number // 100,
                stream=number % 3,
                arrival_ns=clock,
                start_ns=start,
                end_ns=start + rng.randrange(2**40),
            )
        )
    trials = (
        LoadTrial(rate_per_s=None, start_ns=1, end_ns=2, requests=100, unserved=0, within_bound=None),
        LoadTrial(rate_per_s=41.25, start_ns=3, end_ns=4, requests=100, unserved=0, within_bound=True),
        LoadTrial(rate_per_s=60.5, start_ns=5, end_ns=6, requests=100, unserved=7, within_bound=False),
    )
    return LoadMeasurement(
        request=LoadRequest(artifact=sha256, settings=Settings(cpus=(0, 1)), streams=3, bound_ns=2e7, seed=2**63),
        result=LoadResult(
            runtime="onnxruntime",
            runtime_version="1.32.0",
            provider="CPUExecutionProvider",
            threads=1,
            streams=3,
            cpus=(0, 1),
            load_ns=12,
            trials=trials,
            highest_rate_per_s=highest,
            device_time_ns=99,
            steal_fraction=None,
            verdicts=(Verdict(code=VerdictCode.HOT, value=80.5, unit="degrees Celsius", threshold=75.0, hint="cool"),),
        ),
        served=served,
        readings=tuple(Reading(channel="cpu", time_ns=clock + number, value=50.5) for number in range(9)),
    )


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(request.param, tmp_path) as found:
        yield found


def test_a_load_comes_back_identical(url: str) -> None:
    given = load_measurement()
    with ResultStore.open(url) as store:
        number = add_load(store, given, device=DEVICE, artifact_name="net.onnx")
    with ResultStore.open(url) as store:
        found = get_load(store, number)
        with pytest.raises(NotInHistory, match="no load 8"):
            get_load(store, 8)
    assert found.measurement.request == given.request
    assert found.measurement.result == given.result
    assert list(found.measurement.served) == list(given.served)
    assert found.measurement.readings == given.readings
    assert (found.device, found.artifact_name) == (DEVICE, "net.onnx")
    assert found.host["boardfit"] == "0.1.0"


def test_samples_are_small_and_damage_is_named() -> None:
    served = [
        ServedRequest(trial=1, stream=number % 2, arrival_ns=10**15 + 10**7 * number, start_ns=10**15 + 10**7 * number + 50_000,
                      end_ns=10**15 + 10**7 * number + 4_900_000 + number % 97 * 1000)
        for number in range(10_000)
    ]  # fmt: skip
    blob = pack_served(served)
    assert unpack_served(blob) == served
    assert len(blob) < 5 * len(served)
    assert unpack_served(pack_served([])) == []
    for damaged in (b"", blob[:-3], b"BFR1" + blob[4:]):
        with pytest.raises(SamplesCorrupt, match="stored samples"):
            unpack_served(damaged)


def test_listing_filters_and_goes_from_new_to_old(url: str) -> None:
    with ResultStore.open(url) as store:
        one = add_load(store, load_measurement(), device=DEVICE, artifact_name="a")
        two = add_load(store, load_measurement(sha256="b" * 64, highest=None), device=DEVICE, artifact_name="b")
        other = replace(DEVICE, device_id="d-2")
        three = add_load(store, load_measurement(), device=other, artifact_name="a")
        assert [line.id for line in list_loads(store)] == [three, two, one]
        assert [line.id for line in list_loads(store, device_id="d-1")] == [two, one]
        assert [line.id for line in list_loads(store, limit=1)] == [three]
        (line,) = list_loads(store, sha256="b" * 64)
    assert (line.artifact_name, line.highest_rate_per_s, line.streams, line.verdicts) == ("b", None, 3, ("hot",))


def test_a_database_of_the_version_before_keeps_what_it_has(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        connection.execute(text("INSERT INTO artifacts VALUES (:sha256, 'old')"), {"sha256": "c" * 64})
    with ResultStore.open(url) as store:
        number = add_load(store, load_measurement(), device=DEVICE, artifact_name="net.onnx")
        assert get_load(store, number).measurement.result.highest_rate_per_s == 41.25
    with engine.begin() as connection:
        assert (
            connection.execute(text("SELECT name FROM artifacts WHERE sha256 = :s"), {"s": "c" * 64}).scalar() == "old"
        )
        command.downgrade(alembic_config(connection), "0001")
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0001"
        assert not inspect(connection).has_table("load_measurements")
        assert inspect(connection).has_table("measurements")
    engine.dispose()
