"""Sides of a comparison, and courses, looked up in both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from databases import KINDS, empty_database
from histories import add, sha256_of
from made_up import DEVICE
from sqlalchemy import update

from device_agent.contract.errors import InvalidRequest
from host.cli.device_names import DeviceNames
from host.fleet.inventory import Inventory, RegisteredDevice
from host.fleet.selectors import UnknownDevice
from host.results import models
from host.results.compare_figures import stored_facts
from host.results.compare_run import compare
from host.results.compare_sides import find_side, parse_side
from host.results.courses import CourseOptions, courses_of
from host.results.store import NotInHistory, ResultStore

A, B = "a1" * 32, "a2" * 32


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResultStore]:
    with empty_database(request.param, tmp_path) as url, ResultStore.open(url) as opened:
        yield opened


def put_in_sweep(store: ResultStore, name: str, numbers: list[int]) -> None:
    with store.writing() as session:
        sweep = models.Sweep(
            uuid=name.ljust(32, "0"), name=name, created_at=datetime.now(timezone.utc), seed=1, document={}
        )
        session.add(sweep)
        session.flush()
        line = models.MeasuredArtifact
        session.execute(update(line).where(line.measurement_id.in_(numbers)).values(sweep_id=sweep.id))


def test_sides_sweeps_and_courses(store: ResultStore, tmp_path: Path) -> None:
    first = [add(store, name, sha, 1.0) for name, sha in (("net.onnx", A), ("other.onnx", B)) for _ in range(2)]
    second = [add(store, name, sha, 1.1) for name, sha in (("net.onnx", A), ("other.onnx", B)) for _ in range(2)]
    put_in_sweep(store, "week-46", first)
    put_in_sweep(store, "week-47", second)

    found = compare(store, "week-46", "sweep:week-47")
    assert [row.match.model for row in found.rows] == ["other.onnx", "net.onnx"]
    for row in found.rows:
        assert row.changes["p50"].change == pytest.approx(0.1, abs=0.01)
        assert row.changes["p50"].measurements == (2, 2)
    assert found.confidence == pytest.approx(0.975)  # two rows share the error rate

    assert find_side(store, parse_side("a1a1a1a1")).wanted.sha256 == (A,)
    assert find_side(store, parse_side("net")).wanted.sha256 == (A,)
    add(store, "twin.onnx", A[:-2] + "a3", 1.0)
    with pytest.raises(InvalidRequest, match=r"several artifacts begin with a1a1.*twin\.onnx.*give more digits"):
        find_side(store, parse_side("sha256:a1a1"))
    for unknown in ("sweep:week-48", "sha256:ffff", "netz"):
        with pytest.raises(NotInHistory):
            find_side(store, parse_side(unknown))

    courses = courses_of(store, "sweep:week-46")
    assert {course.points[0].line.name for course in courses} == {"net.onnx", "other.onnx"}
    (course,) = courses_of(store, "net", CourseOptions(devices=(DEVICE.device_id,), metric="peak_memory"))
    assert course.values == (9e6, 9e6, 9.9e6, 9.9e6)
    with pytest.raises(NotInHistory, match="that match the options"):
        courses_of(store, "net", CourseOptions(threads=3))


def test_devices_by_their_names(store: ResultStore, tmp_path: Path) -> None:
    add(store, "net.onnx", A, 1.0, device_name="rack-1")
    add(store, "net.onnx", A, 1.0, device=replace(DEVICE, device_id="e", profile="pi5"), device_name="rack-2")
    inventory = Inventory(tmp_path / "devices.json")
    inventory.add(RegisteredDevice(name="desk", address="127.0.0.1:1", device_id="e", profile="pi5"))
    names = DeviceNames(inventory)
    assert (names.name("e", "rack-2"), names.name("d", "rack-1"), names.name("x" * 40)) == ("desk", "rack-1", "x" * 12)
    assert names.ids(store, "desk") == names.ids(store, "pi5") == ("e",)
    assert names.ids(store, "rack-1") == names.ids(store, "profile:pi4") == ("d",)
    for unknown in ("rack-9", "local"):
        with pytest.raises(UnknownDevice):
            names.ids(store, unknown)


def test_size_and_accuracy_of_a_compression(store: ResultStore) -> None:
    side = {"sha256": A, "size_bytes": 1000, "accuracy": 0.9, "test_images": 500}
    record = {"target": {}, "plan": {}, "met": True, "baseline": {"sha256": sha256_of("f")}, "result": side}
    store.add_compression(record)
    assert stored_facts(store, A) == {"size": 1000, "accuracy": 0.9, "test_images": 500}
    assert stored_facts(store, B) == {}
    assert stored_facts(store, sha256_of("f")) == {}
