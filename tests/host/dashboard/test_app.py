"""The dashboard: what its pages show, who may read them, and that nothing changes by them."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from histories import add, made, sha256_of
from made_up import DEVICE
from markup_pages import Page, check_accessible

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from device_agent.contract.lease import DeviceUse, Job, Waiter
from host.dashboard.app import Dashboard
from host.dashboard.guard import LOOPBACK
from host.dashboard.sweeps import rates_of, remaining_s
from host.dashboard.watch import Answer, FleetWatch
from host.fleet.inventory import RegisteredDevice
from host.results.queue import StoreQueue
from host.results.store import ResultStore
from host.sweep.job import DeviceProgress, JobState, NewJob, SweepArtifact
from host.sweep.job import Job as SweepJob

HOSTILE = "<script>alert(1)</script>"
HERE = "http://127.0.0.1:8737"
USE = DeviceUse(
    holder="ci",
    reason="nightly",
    remaining_s=9.0,
    held_s=65.0,
    jobs=(Job(what="measuring a.onnx", holder="ci", running_s=3.0),),
    waiting=(Waiter(holder=HOSTILE, reason="", waited_s=1.0),),
)
ANSWERS = {
    "busy": Answer(info=DEVICE, use=USE),
    "free": Answer(info=DEVICE, use=DeviceUse(), temperature_c=51.25),
    "gone": Answer(error="no agent answers at 127.0.0.1:1. Is it on?"),
}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    devices = [RegisteredDevice(name=name, address="127.0.0.1:1", tags=("lab-a",)) for name in ANSWERS]
    with ResultStore.open(f"sqlite:///{folder / 'history.sqlite'}") as store, StoreQueue(store) as queue:
        for number in range(4):
            add(store, "a.onnx", sha256_of("a"), 1 + number / 100)
        artifact = SweepArtifact(name="a.onnx", path=Path("a.onnx"), sha256=sha256_of("a"))
        jobs = [
            NewJob(key=f"{number}", position=number, artifact=artifact, device="busy", options={}, repeat=number)
            for number in range(5)
        ]
        sweep = queue.create("night", jobs, seed=1, document={})
        assert queue.take_device(sweep.id, "me", limit=1, ttl_s=600) == "busy"
        for number in range(3):
            claim = queue.claim(sweep.id, "me", "busy", ttl_s=600)
            assert claim is not None
            if number == 0:
                queue.complete(claim, made(sha256_of("a"), 1.0), device=DEVICE)
            elif number == 1:
                queue.fail(claim, f"the worker died {HOSTILE}")
        with FleetWatch(lambda: devices, lambda device, _: ANSWERS[device.name], interval_s=3600) as watch:
            for _ in range(6000):
                if all(each.answer for each in watch.seen()[0]) and watch.seen()[0]:
                    break
                threading.Event().wait(0.01)
            yield Dashboard(store, queue, watch)


@pytest.fixture
def reader(dashboard: Dashboard) -> TestClient:
    return TestClient(dashboard.app(hosts=LOOPBACK, token=None), base_url=HERE, raise_server_exceptions=True)


@pytest.mark.parametrize(
    "path", ["/", "/sweeps", "/sweeps/1", "/history", "/history?artifact=a", "/report?sweep=night"]
)
def test_pages_are_whole_accessible_and_load_nothing_from_elsewhere(reader: TestClient, path: str) -> None:
    answer = reader.get(path)
    assert answer.status_code == 200
    page = Page(answer.text)
    check_accessible(page)
    assert set(page.values("src")) <= {"/page.js"}
    assert "://" not in answer.text
    assert not any("alert" in each for each in page.values("src"))
    # HOSTILE stays text: the only scripts are ours.
    assert len(page.of("script")) == 1
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_fleet_says_who_is_there_and_who_works_for_whom(reader: TestClient) -> None:
    text = Page(reader.get("/").text).text
    for words in (
        "ci (nightly), since 1 min 5 s; measuring a.onnx for 3.00 s",
        "51.2 °C",
        HOSTILE,
        "unreachable",
        "lab-a",
    ):
        assert words in text
    assert "Is it on?" not in text
    assert "ci (nightly)" in Page(reader.get("/live/fleet").text).text


def test_a_sweep_shows_progress_failures_and_what_runs(reader: TestClient) -> None:
    text = Page(reader.get("/sweeps/1").text).text
    for words in ("night (#1)", "2 of 5", "3 to come", "the worker died", "1 of 5", "a.onnx"):
        assert words in text
    bar = next(each for each in Page(reader.get("/sweeps/1").text).of("span") if each.get("role") == "progressbar")
    assert bar["aria-valuenow"] == "40"
    assert "running" in Page(reader.get("/sweeps").text).text
    missing = reader.get("/sweeps/77")
    assert missing.status_code == 404
    assert "no sweep #77" in missing.text


def test_the_history_can_be_narrowed_and_says_what_it_does_not_know(reader: TestClient) -> None:
    page = Page(reader.get("/history", params={"artifact": "a"}).text)
    assert "All results of a in the history." in page.text
    assert len(page.of("svg")) == 1
    assert {each["value"] for each in page.of("option")} == {"a.onnx", *ANSWERS}
    unknown = reader.get("/history", params={"artifact": HOSTILE})
    assert unknown.status_code == 404
    assert len(Page(unknown.text).of("script")) == 1


def test_a_report_is_made_on_the_spot(reader: TestClient) -> None:
    text = Page(reader.get("/report", params={"sweep": "night"}).text).text
    assert "1 of 5 jobs are done, 1 failed or were skipped, 3 are still to come." in text


def test_nothing_can_be_changed(reader: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert reader.request(method, "/").status_code == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:8737"}, 421),
        ({"host": ""}, 421),
        ({"host": "[::1"}, 421),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:8737"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": HERE}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_pages_of_other_sites_read_nothing(reader: TestClient, headers: dict[str, str], status: int) -> None:
    answer = reader.get("/live/fleet", headers=headers)
    assert answer.status_code == status
    assert ("lab-a" in answer.text) == (status == 200)


def test_beyond_loopback_a_token_is_needed(dashboard: Dashboard) -> None:
    with pytest.raises(ValueError, match="needs a token"):
        TestClient(dashboard.app(hosts=None, token=None)).get("/")
    app = dashboard.app(hosts=None, token="s3cret")
    reader = TestClient(app, base_url="http://bench:8737", follow_redirects=False)
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "s3cret"},
        {"cookie": "boardfit-dashboard=x"},
    ):
        assert reader.get("/", headers=headers).status_code == 401
    assert reader.get("/?token=wrong").status_code == 401
    assert reader.get("/", headers={"authorization": "Bearer s3cret"}).status_code == 200
    moved = reader.get("http://bench:8737//evil.example/?token=s3cret&artifact=a")
    assert moved.status_code == 303
    assert moved.headers["location"] == "/evil.example/?artifact=a"
    assert "httponly" in moved.headers["set-cookie"].lower()
    assert "samesite=strict" in moved.headers["set-cookie"].lower()
    assert reader.get("/").status_code == 200  # by the cookie


def test_rates_and_the_time_that_is_left() -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)

    def done(device: str, minutes: float) -> SweepJob:
        artifact = SweepArtifact(name="a", path=Path("a"), sha256="a" * 64)
        wanted = NewJob(key="k", position=0, artifact=artifact, device=device, options={}, repeat=0)
        return SweepJob(
            id=1, wanted=wanted, state=JobState.DONE, device=device, attempts=1, controller=None, error=None,
            measurement_id=1, finished_at=now - timedelta(minutes=minutes),
        )  # fmt: skip

    jobs = [done("a", 1), done("a", 2), done("b", 8), done("b", 4), done("c", 1), done("d", 300), done("d", 200)]
    rates = rates_of(jobs, now)
    assert rates == {"a": 1.0, "b": 0.25}

    def progress(device: str, waiting: int, aside: str | None = None) -> DeviceProgress:
        return DeviceProgress(device=device, waiting=waiting, running=0, done=2, failed=0, skipped=0, set_aside=aside)

    assert remaining_s([progress("a", 3), progress("b", 2), progress("x", 9, "gone")], rates) == 480.0
    assert remaining_s([progress("a", 3), progress("c", 1)], rates) is None
    assert remaining_s([progress("a", 0)], rates) is None
