"""The runner against scripted devices on a clock that moves only while everybody waits."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
from sweep_devices import Fleet, artifact_in, jobs_of

from device_agent.contract.errors import (
    AgentTooOld,
    ArtifactNotFound,
    DeadlineExceeded,
    DeviceBusy,
    DeviceUnreachable,
    JobAborted,
    LeaseLost,
    ModelRejected,
    StableError,
    WorkerCrashed,
)
from host.sweep import events
from host.sweep.limits import CoolDown, Limits
from host.sweep.reactions import Backoff


class DiskFull(StableError):
    pass


def test_every_job_is_done_once_on_its_device(tmp_path: Path) -> None:
    fleet = Fleet.of("one", "two", "three")
    artifacts = [artifact_in(tmp_path, f"{name}.onnx", name.encode()) for name in "ab"]
    fleet.create(jobs_of(artifacts, list(fleet.devices), repeats=3, threads=2))
    result = fleet.run()
    assert result.count("done") == 18
    assert result.reached == {"one", "two", "three"}
    assert (result.stopped, result.retried, result.dropped) == (False, 0, 0)
    for name, device in fleet.devices.items():
        assert device.measured == 6
        assert device.opened == 1
        assert sorted(device.pushes) == sorted(artifact.sha256 for artifact in artifacts)  # each once
        assert {request.settings.threads for request in device.requests} == {2}
        stored = [info.device_id for _, info in fleet.queue.results.values()]
        assert stored.count(name) == 6
    done = fleet.seen(events.JobDone)
    assert {event.measurement_id for event in done} == set(range(1, 19))
    assert all(event.verdicts == ("stable",) and event.p50_ns > 0 for event in done)


def test_no_more_devices_at_once_than_allowed(tmp_path: Path) -> None:
    fleet = Fleet.of(*(f"d{number}" for number in range(6)))
    lock, at_work, most = threading.Lock(), 0, 0

    def measure(_number: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        threading.Event().wait(0.002)
        with lock:
            at_work -= 1

    for device in fleet.devices.values():
        device.on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], list(fleet.devices), repeats=2))
    assert fleet.run(Limits(devices_at_once=2)).count("done") == 12
    assert most <= 2


def test_a_transient_error_is_tried_again_and_a_stable_one_is_not(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(number: int) -> None:
        if number in (1, 2):
            raise DeadlineExceeded("too slow")
        if number == 3:
            raise ModelRejected("no such operator")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path, n, n.encode()) for n in ("a.onnx", "b.onnx", "c.onnx")], ["one"]))
    result = fleet.run()
    assert (result.count("done"), result.count("failed")) == (2, 1)
    assert result.retried == 2
    (failed,) = fleet.seen(events.JobFailed)
    assert failed.error == "no such operator"
    assert failed.artifact == "c.onnx"
    waits = [event.wait_s for event in fleet.seen(events.JobRetried)]
    assert all(0 <= wait <= 4 for wait in waits)


def test_attempts_come_to_an_end(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(_number: int) -> None:
        raise DeadlineExceeded("too slow")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"]))
    result = fleet.run(Limits(attempts=3))
    assert result.count("failed") == 1
    assert fleet.devices["one"].measured == 3
    assert "failed 3 times" in fleet.seen(events.JobFailed)[0].error


def test_what_will_surely_fail_alike_is_skipped(tmp_path: Path) -> None:
    fleet = Fleet.of("one", "two")

    def measure(_number: int) -> None:
        raise ModelRejected("no such operator")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one", "two"], repeats=4))
    result = fleet.run()
    assert (result.count("done"), result.count("failed"), result.count("skipped")) == (4, 1, 3)
    assert fleet.devices["one"].measured == 1
    assert all("no such operator" in event.reason for event in fleet.seen(events.JobsSkipped))


def test_a_runtime_that_is_missing_fails_one_job_and_skips_the_others(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.devices["one"].info = replace(fleet.devices["one"].info, runtimes=())
    fleet.create(jobs_of([artifact_in(tmp_path, n, n.encode()) for n in ("a.onnx", "b.onnx")], ["one"], repeats=2))
    result = fleet.run()
    assert (result.count("failed"), result.count("skipped")) == (1, 3)
    assert "cannot run .onnx files" in fleet.seen(events.JobFailed)[0].error
    assert fleet.devices["one"].measured == 0


def test_a_crash_may_be_bad_luck_once(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(_number: int) -> None:
        raise WorkerCrashed("signal 11")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=5))
    result = fleet.run()
    assert (result.count("failed"), result.count("skipped")) == (2, 3)


def test_a_device_that_is_away_is_set_aside_and_comes_back(tmp_path: Path) -> None:
    fleet = Fleet.of("one", "two")

    def open_(number: int) -> None:
        if 2 <= number <= 12:
            raise DeviceUnreachable("no agent answers")

    def measure(number: int) -> None:
        if number == 2:
            raise DeviceUnreachable("the connection broke")

    fleet.devices["one"].on_open, fleet.devices["one"].on_measure = open_, measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one", "two"], repeats=3))
    result = fleet.run()
    assert result.count("done") == 6
    aside = fleet.seen(events.DeviceSetAside)
    assert len(aside) >= 2
    assert all(event.device == "one" and event.wait_s > 0 for event in aside)
    assert result.retried == 1


def test_a_device_that_stays_away_ends_the_sweep_with_its_jobs_waiting(tmp_path: Path) -> None:
    fleet = Fleet.of("gone", "here")

    def open_(_number: int) -> None:
        raise DeviceUnreachable("no agent answers")

    fleet.devices["gone"].on_open = open_
    fleet.create(jobs_of([artifact_in(tmp_path)], ["gone", "here"], repeats=2))
    begin = fleet.pace.now()
    result = fleet.run(Limits(wait_s=1200))
    assert (result.count("done"), result.count("waiting")) == (2, 2)
    assert result.reached == {"here"}
    assert fleet.pace.now() - begin >= 1200
    waits = [event.wait_s for event in fleet.seen(events.DeviceSetAside)]
    assert max(waits) > 2 * waits[0]
    # Once it is back, another run does the rest and nothing else.
    fleet.devices["gone"].on_open = lambda _number: None
    result = fleet.run()
    assert result.count("done") == 4
    assert fleet.devices["here"].measured == 2
    assert fleet.devices["gone"].measured == 2


def test_jobs_move_to_an_equal_device_only_where_that_is_wanted(tmp_path: Path) -> None:
    for move in (True, False):
        fleet = Fleet.of("gone", "here")

        def open_(_number: int) -> None:
            raise DeviceUnreachable("no agent answers")

        fleet.devices["gone"].on_open = open_
        fleet.create(jobs_of([artifact_in(tmp_path)], ["gone", "here"], repeats=2, movable=True))
        result = fleet.run(Limits(move=move))
        assert result.count("done") == (4 if move else 2)
        moved = [(event.device, event.to, event.count) for event in fleet.seen(events.JobsMoved)]
        assert moved == ([("gone", "here", 2)] if move else [])


def test_a_device_in_use_is_set_aside_and_loses_no_attempt(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def lease(number: int) -> None:
        if number <= 6:
            raise DeviceBusy("ann has it")

    fleet.devices["one"].on_lease = lease
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"]))
    assert fleet.run(Limits(attempts=1)).count("done") == 1
    assert len(fleet.seen(events.DeviceSetAside)) == 6


def test_a_lost_lease_costs_no_attempt(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(number: int) -> None:
        if number == 1:
            raise LeaseLost("the agent was restarted")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"]))
    assert fleet.run(Limits(attempts=1)).count("done") == 1
    assert fleet.devices["one"].opened == 2


def test_what_will_not_pass_by_itself_is_not_waited_for(tmp_path: Path) -> None:
    fleet = Fleet.of("old", "new")

    def open_(_number: int) -> None:
        raise AgentTooOld("upgrade it")

    fleet.devices["old"].on_open = open_
    fleet.create(jobs_of([artifact_in(tmp_path)], ["old", "new"], repeats=2))
    result = fleet.run()
    assert (result.count("done"), result.count("waiting")) == (2, 2)
    assert fleet.devices["old"].opened == 1
    assert [event.reason for event in fleet.seen(events.DeviceSetAside)] == ["upgrade it"]
    fleet.devices["old"].on_open = lambda _number: None
    fleet.pace.wait(threading.Event(), 300)
    assert fleet.run().count("done") == 4


def test_an_evicted_artifact_is_sent_again(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(number: int) -> None:
        if number == 2:
            raise ArtifactNotFound("evicted")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=3))
    assert fleet.run().count("done") == 3
    assert len(fleet.devices["one"].pushes) == 2


def test_a_file_that_was_changed_is_no_longer_the_artifact(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    artifact = artifact_in(tmp_path)
    fleet.create(jobs_of([artifact], ["one"], repeats=2))
    artifact.path.write_bytes(b"another model")
    result = fleet.run()
    assert (result.count("failed"), result.count("skipped")) == (1, 1)
    assert "was changed after the sweep began" in fleet.seen(events.JobFailed)[0].error
    assert fleet.devices["one"].pushes == []


def test_a_claim_that_was_lost_stores_nothing(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.devices["one"].on_measure = lambda number: fleet.queue.lose(1) if number == 1 else None
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=2))
    fleet.queue.rows[1].due = 0.0

    def stopping(event: events.SweepEvent) -> None:
        fleet.events.append(event)
        if isinstance(event, events.ClaimDropped):
            runner.stop()

    runner = fleet.runner(on_event=stopping)
    result = runner.run()
    assert result.dropped == 1
    assert fleet.queue.results == {}


def test_an_error_of_the_store_ends_the_sweep_and_is_raised(tmp_path: Path) -> None:
    fleet = Fleet.of("one", "two")

    def measure(number: int) -> None:
        if number == 2:
            fleet.queue.refuse = DiskFull("no space left")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one", "two"], repeats=50))
    with pytest.raises(DiskFull, match="no space left"):
        fleet.run()
    assert not any(device.held for device in fleet.devices.values())


def test_stop_lets_running_jobs_end_and_a_later_run_does_the_rest(tmp_path: Path) -> None:
    fleet = Fleet.of("one", "two")
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one", "two"], repeats=10))
    runner = fleet.runner()

    def stop(number: int) -> None:
        if number == 3:
            runner.stop()
            assert runner.stopping.wait(30)  # jobs take no time here, and all may be done before it is heard

    for device in fleet.devices.values():
        device.on_measure = stop
    result = runner.run()
    assert result.stopped
    assert 3 <= result.count("done") < 20
    assert result.count("running") == 0
    assert sum(device.measured for device in fleet.devices.values()) == result.count("done")
    for device in fleet.devices.values():
        device.on_measure = lambda _number: None
    assert fleet.run().count("done") == 20
    assert sum(device.measured for device in fleet.devices.values()) == 20
    assert len(fleet.queue.results) == 20


def test_abort_ends_running_jobs_which_wait_again(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    device = fleet.devices["one"]
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=2))
    runner = fleet.runner()

    def measure(number: int) -> None:
        if number == 2:
            runner.abort()
            assert device.closed.wait(30), "the job was not ended"
            raise JobAborted("Measure was cancelled")

    device.on_measure = measure
    result = runner.run()
    assert result.stopped
    assert (result.count("done"), result.count("waiting"), result.count("failed")) == (1, 1, 0)
    assert fleet.queue.rows[1].attempts == 0


def test_a_defect_fails_its_job_and_the_sweep_goes_on(tmp_path: Path) -> None:
    fleet = Fleet.of("one")

    def measure(number: int) -> None:
        if number == 1:
            raise KeyError("surprise")

    fleet.devices["one"].on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=3))
    result = fleet.run()
    assert (result.count("done"), result.count("failed")) == (2, 1)


def test_a_device_cools_down_to_where_it_was(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.devices["one"].temperatures = chain([40.0, 40.0], [70.0, 60.0, 50.0, 41.5], repeat(41.0))
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=3))
    result = fleet.run(Limits(cool_down=CoolDown(below_c=None, limit_s=300)))
    assert result.count("done") == 3
    (cooled,) = fleet.seen(events.Cooled)
    assert (cooled.from_c, cooled.to_c, cooled.wanted_c, cooled.reached) == (70.0, 41.5, 42.0, True)
    assert cooled.seconds == 6.0


def test_cooling_ends_at_its_limit(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.devices["one"].temperatures = repeat(70.0)
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"]))
    assert fleet.run(Limits(cool_down=CoolDown(below_c=55, limit_s=20))).count("done") == 1
    (cooled,) = fleet.seen(events.Cooled)
    assert (cooled.reached, cooled.seconds) == (False, 20.0)


def test_without_a_temperature_nothing_is_waited_for(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=2))
    assert fleet.run(Limits(cool_down=CoolDown(below_c=55, limit_s=20))).count("done") == 2
    assert len(fleet.seen(events.CannotCool)) == 1
    assert fleet.seen(events.Cooled) == []


def test_a_changed_environment_is_noted(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    device = fleet.devices["one"]

    def measure(number: int) -> None:
        fleet.pace.wait(threading.Event(), 11)
        if number == 2:
            device.info = replace(device.info, governor="performance", agent_version="0.2.0")

    device.on_measure = measure
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=4))
    assert fleet.run().count("done") == 4
    (changed,) = fleet.seen(events.EnvironmentChanged)
    assert changed.fields == ("governor", "agent_version")
    assert (changed.before, changed.after) == (("ondemand", "0.1.0"), ("performance", "0.2.0"))
    assert [info.governor for _, info in fleet.queue.results.values()] == ["ondemand"] * 2 + ["performance"] * 2


def test_the_limit_per_job_reaches_the_device(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"]))
    assert fleet.run(Limits(per_job_s=600)).count("done") == 1
    assert fleet.devices["one"].requests[0].deadline_s == 600


def test_a_listener_that_fails_ends_the_sweep(tmp_path: Path) -> None:
    fleet = Fleet.of("one")
    fleet.create(jobs_of([artifact_in(tmp_path)], ["one"], repeats=9))

    def listen(event: events.SweepEvent) -> None:
        if isinstance(event, events.JobDone):
            raise OSError("the log's disk is full")

    with pytest.raises(OSError, match="disk is full"):
        fleet.run(on_event=listen)
    assert len(fleet.queue.results) == 1


def test_waits_grow_to_a_bound_with_full_jitter() -> None:
    import random

    backoff = Backoff(first_s=2, longest_s=60)
    assert [backoff.bound_s(number) for number in (1, 2, 3, 6, 7, 100)] == [2, 4, 8, 60, 60, 60]
    rng = random.Random(0)
    waits = [backoff.wait_s(3, rng) for _ in range(300)]
    assert min(waits) < 0.5 < 7.5 < max(waits) <= 8
