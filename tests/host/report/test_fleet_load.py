"""From a history to a page's data: what belongs together, what is read, what is left out."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from histories import add, made, sha256_of
from made_up import DEVICE, measured, result_of, with_first

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import NodeTime, Reading, Verdict, VerdictCode
from host.report.fleet.data import Setup, cells
from host.report.fleet.load import Wanted, load_fleet
from host.report.fleet.page import fleet_page
from host.report.fleet.selection import Selection, recent_artifacts, wanted_of
from host.report.fleet.sensors import course_of
from host.results.lines import LineFilter
from host.results.store import ResultStore, StoredMeasurement


class Names:
    """Devices go by the names that were stored."""

    def name(self, device_id: str, stored: str | None) -> str:
        return stored or device_id

    def ids(self, store: ResultStore, selector: str) -> tuple[str, ...]:
        return (selector,)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}") as opened:
        yield opened


def wanted(selected: LineFilter | None = None) -> Wanted:
    return Wanted(
        filter=selected or LineFilter(), title="x", chosen="x", command="x", name_of=lambda ident, name: name or ident
    )


def test_repeats_are_together_and_environments_apart(store: ResultStore) -> None:
    for ratio in (1.0, 1.02):
        add(store, "a.onnx", sha256_of("a"), ratio)
    add(store, "a.onnx", sha256_of("a"), 1.5, device=replace(DEVICE, kernel="6.6"))
    data = load_fleet(store, wanted())
    found = {each.setup.settings: len(each.results) for each in cells(data)}
    assert found == {"kernel 6.1": 2, "kernel 6.6": 1}
    assert {each.setup.device for each in data.results} == {"board"}
    page = fleet_page(data)
    assert "kernel 6.6" in page


def test_figures_spreads_and_facts_come_from_the_records(store: ResultStore) -> None:
    number = add(store, "a.onnx", sha256_of("a"), 1.0)
    add(store, "b.onnx", sha256_of("b"), 0.5)
    side = {"accuracy": 0.9, "size_bytes": 1_000_000, "sha256": sha256_of("a")}
    store.add_compression({"target": {}, "plan": {}, "met": True, "baseline": side, "result": None})
    data = load_fleet(store, wanted())
    stored = store.get_measurement(number).measurement
    result = next(each for each in data.results if each.measurement_id == number)
    assert result.runs == len(stored.timed())
    spread = next(each for each in data.spreads if each.measurement_id == number)
    assert list(spread.latencies_ns) == stored.latencies_ns()
    assert data.artifacts[sha256_of("a")].accuracy == 0.9
    assert sha256_of("b") not in data.artifacts
    assert [each.board for each in data.devices] == [DEVICE.board]
    assert [line.quantity for line in data.courses[0].lines] == ["temperature", "frequency"]
    light = load_fleet(store, wanted(), most=1, samples=False)
    assert (len(light.results), light.spreads, light.courses) == (1, (), ())
    assert "1 older results" in light.left_out[0]


def test_the_gravest_measurement_of_a_device_is_shown(store: ResultStore) -> None:
    hot = Verdict(code=VerdictCode.HOT, value=78.0, unit="degrees Celsius", threshold=75.0)
    plain = made(sha256_of("a"), 1.0)
    store.add_measurement(plain, device=DEVICE, artifact_names=("a",), device_name="board")
    number = store.add_measurement(
        with_first(plain, verdicts=(hot,)), device=DEVICE, artifact_names=("a",), device_name="board"
    )
    store.add_measurement(plain, device=DEVICE, artifact_names=("a",), device_name="board")
    (course,) = load_fleet(store, wanted()).courses
    assert (course.measurement_id, course.why) == (number, "its verdict is hot")


def test_layers_of_a_pair_stand_side_by_side(store: ResultStore) -> None:
    def node(name: str, median: float, *sources: str) -> NodeTime:
        return NodeTime(name=name, op_type="Conv", median_ns=median, share=0.5, runs=9, sources=sources)

    pair = measured(1.0, 0.5, blocks=4, profile_nodes=True)
    artifacts = (
        result_of(0, nodes=(node("n0", 100.0, "conv1"), node("n1", 40.0, "conv2"), node("n2", 5.0))),
        result_of(1, nodes=(node("m0", 60.0, "conv1"), node("m1", 9.0, "conv1"))),
    )
    pair = replace(pair, result=replace(pair.result, artifacts=artifacts))
    store.add_measurement(pair, device=DEVICE, artifact_names=("big", "small"), device_name="board")
    (layers,) = load_fleet(store, wanted()).layers
    assert (layers.baseline, layers.compressed) == ("big", "small")
    assert layers.layers == (("conv1", 100.0, 69.0), ("conv2", 40.0, None), ("Conv, added by the runtime", 5.0, None))


def test_a_change_of_level_is_marked(store: ResultStore) -> None:
    for day in range(1, 13):
        add(store, "a.onnx", sha256_of("a"), (1.0 if day < 7 else 1.1) + 0.002 * (day % 3), day=datetime(2026, 11, day))
    (change,) = load_fleet(store, wanted(), samples=False).changes
    assert change.at == datetime(2026, 11, 7, tzinfo=timezone.utc)
    assert 1.08 < change.ratio < 1.12


def test_power_is_the_slope_of_a_counter_or_the_sum_of_the_meter(store: ResultStore) -> None:
    number = add(store, "a.onnx", sha256_of("a"), 1.0)
    stored = store.get_measurement(number)
    result = load_fleet(store, wanted()).results[0]

    def power(channels: tuple[Channel, ...], readings: list[tuple[str, int, float]]) -> list[tuple[float, float]]:
        found = course_of(_with(stored, channels, readings), result, "x")
        assert found is not None
        return [(round(at, 6), round(value, 6)) for at, value in found.lines[0].points]

    counter = Channel(name="rapl", quantity=Quantity.ENERGY, site="cpu", source="x", meter="rapl")
    assert power((counter,), [("rapl", 0, 10.0), ("rapl", 10**9, 10.0), ("rapl", 2 * 10**9, 16.0)]) == [(2.0, 3.0)]
    rails = tuple(Channel(name=each, quantity=Quantity.POWER, site="soc", source="x", meter="pmic") for each in "ab")
    assert power(rails, [("a", 0, 1.0), ("b", 0, 2.0), ("a", 10**9, 2.0), ("b", 10**9, 2.5)]) == [
        (0.0, 3.0),
        (1.0, 4.5),
    ]


def _with(
    stored: StoredMeasurement, channels: tuple[Channel, ...], readings: list[tuple[str, int, float]]
) -> StoredMeasurement:
    made_of = tuple(Reading(channel=name, time_ns=time_ns, value=value) for name, time_ns, value in readings)
    return replace(
        stored,
        device=replace(stored.device, channels=channels),
        measurement=replace(stored.measurement, readings=made_of),
    )


def test_selections_say_what_they_are(store: ResultStore) -> None:
    add(store, "a.onnx", sha256_of("a"), 1.0)
    add(store, "b.onnx", sha256_of("b"), 1.0)
    found = wanted_of(store, Selection(artifact="a", device="d", since="2026-01-02", out="my page.html"), Names())
    assert found.chosen == "All results of a on d in the history since 2026-01-02 00:00 UTC."
    assert found.command == "host report --device d --artifact a --since 2026-01-02 --out 'my page.html'"
    data = load_fleet(store, found)
    assert {each.setup.artifact_name for each in data.results} == {"a.onnx"}
    assert isinstance(data.results[0].setup, Setup)
    assert recent_artifacts(store) == ("b.onnx", "a.onnx")
