"""One suite for every queue of sweep jobs: on SQLite, on PostgreSQL, and in memory (without what needs several controllers)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from databases import KINDS, VARIABLE, empty_database, let_pass
from made_up import DEVICE, measured
from sqlalchemy import create_engine, text
from sweep_queue import PlainQueue

from host.results.lines import LineFilter, list_lines
from host.results.queue import StoreQueue
from host.results.store import ResultStore
from host.sweep.job import Claim, JobState, NewJob, Sweep, SweepArtifact
from host.sweep.queue import ClaimLost, JobQueue, SweepBusy, UnknownSweep

TTL = 60.0


def new_job(number: int, device: str = "a", *, position: int | None = None, movable_to: tuple[str, ...] = ()) -> NewJob:
    return NewJob(
        key=f"key-{number}",
        position=number if position is None else position,
        artifact=SweepArtifact(name=f"net-{number}.onnx", path=Path(f"/models/net-{number}.onnx"), sha256=f"{1:064x}"),
        device=device,
        options={"threads": 2, "runtime": None},
        repeat=1,
        movable_to=movable_to,
    )


@dataclass
class Bed:
    """A queue under test, how to let time pass for it, and, of a database, its URL and open history."""

    queue: JobQueue
    pass_s: Callable[[float], None]
    url: str = ""
    store: ResultStore | None = None

    def sweep(self, *jobs: NewJob, controller: str = "c1") -> Sweep:
        made = self.queue.create("night", jobs, seed=7, document={"artifacts": ["*.onnx"]})
        self.queue.attach(made.id, controller, ttl_s=TTL)
        return made

    def take(self, sweep: Sweep, controller: str = "c1", *, limit: int = 99) -> str | None:
        return self.queue.take_device(sweep.id, controller, limit=limit, ttl_s=TTL)

    def claim(self, sweep: Sweep, device: str = "a", controller: str = "c1") -> Claim | None:
        return self.queue.claim(sweep.id, controller, device, ttl_s=TTL)

    def claimed(self, sweep: Sweep, device: str = "a", controller: str = "c1") -> Claim:
        """Claim a job of a device that the controller has, or is the next to get."""
        claim = self.claim(sweep, device, controller)
        if claim is None:
            assert self.take(sweep, controller) == device
            claim = self.claim(sweep, device, controller)
        assert claim is not None
        return claim

    def states(self, sweep: Sweep) -> list[str]:
        return [job.state.value for job in self.queue.jobs(sweep.id)]


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """A queue in a database."""
    with empty_database(request.param, tmp_path) as url, ResultStore.open(url) as store, StoreQueue(store) as queue:
        yield Bed(queue, lambda seconds: let_pass(url, seconds), url, store)


@pytest.fixture(params=["memory", *KINDS])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """Every queue there is."""
    if request.param != "memory":
        with empty_database(request.param, tmp_path) as url, ResultStore.open(url) as store, StoreQueue(store) as queue:
            yield Bed(queue, lambda seconds: let_pass(url, seconds), url, store)
        return
    clock = [1000.0]

    def pass_s(seconds: float) -> None:
        clock[0] += seconds

    yield Bed(PlainQueue(clock=lambda: clock[0]), pass_s)


def test_a_sweep_is_found_as_it_was_made(bed: Bed) -> None:
    jobs = (new_job(1, movable_to=("b", "c")), new_job(2, "b", position=0))
    made = bed.sweep(*jobs)
    assert bed.queue.find("night") == bed.queue.find("#1") == made
    assert bed.queue.list_sweeps() == (made,)
    assert (made.seed, made.document) == (7, {"artifacts": ["*.onnx"]})
    assert abs((made.created_at - datetime.now(timezone.utc)).total_seconds()) < 60
    found = bed.queue.jobs(made.id)
    assert [job.wanted for job in found] == [jobs[1], jobs[0]]
    assert {(job.state, job.attempts, job.error, job.measurement_id) for job in found} == {
        (JobState.WAITING, 0, None, None)
    }


def test_unknown_sweeps_and_double_keys_are_refused(bed: Bed) -> None:
    for name in ("night", "#9", "#", "#x"):
        with pytest.raises(UnknownSweep):
            bed.queue.find(name)
    with pytest.raises(ValueError, match="key"):
        bed.queue.create("night", [new_job(1), new_job(1, "b")], seed=1, document={})
    assert bed.queue.list_sweeps() == ()


def test_jobs_of_a_device_run_one_by_one_in_order(bed: Bed) -> None:
    sweep = bed.sweep(new_job(1, position=5), new_job(2, position=3), new_job(3, position=4))
    assert bed.take(sweep) == "a"
    first = bed.claimed(sweep)
    assert first.job.wanted.key == "key-2"
    assert (first.job.state, first.job.attempts, first.job.controller) == (JobState.RUNNING, 1, "c1")
    assert bed.claim(sweep) is None
    bed.queue.complete(first, measured(1.0), device=DEVICE)
    assert bed.claimed(sweep).job.wanted.key == "key-3"
    assert bed.states(sweep) == ["done", "running", "waiting"]


def test_a_measurement_is_stored_once_with_the_end_of_its_job(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1))
    claim, given = shared.claimed(sweep), measured(1.0)
    number = shared.queue.complete(claim, given, device=DEVICE)
    # The answer to the first call may have been lost on its way.
    assert shared.queue.complete(claim, given, device=DEVICE) == number
    (job,) = shared.queue.jobs(sweep.id, state=JobState.DONE)
    assert (job.measurement_id, job.error, job.controller) == (number, None, None)
    assert job.finished_at is not None
    assert abs((job.finished_at - datetime.now(timezone.utc)).total_seconds()) < 60
    assert shared.store is not None
    assert shared.store.get_measurement(number).measurement == given
    (line,) = list_lines(shared.store, LineFilter(sweep_id=sweep.id))
    assert (line.measurement_id, line.device_name, line.name) == (number, "a", "net-1.onnx")
    assert (line.job_key, line.job_options, line.repeat) == ("key-1", {"threads": 2, "runtime": None}, 1)
    assert line.p50_ns is not None


def test_a_retried_job_waits_its_time(bed: Bed) -> None:
    sweep = bed.sweep(new_job(1), new_job(2))
    claim = bed.claimed(sweep)
    bed.queue.retry(claim, "the cable fell out", wait_s=30)
    other = bed.claimed(sweep)
    assert other.job.wanted.key == "key-2"
    bed.queue.fail(other, "no such operator")
    assert bed.claim(sweep) is None
    due_s = bed.queue.due_in_s(sweep.id)
    assert due_s is not None
    assert 25 < due_s <= 30
    bed.pass_s(31)
    again = bed.claimed(sweep)
    assert (again.job.wanted.key, again.job.attempts, again.job.error) == ("key-1", 2, "the cable fell out")
    assert again.token > claim.token
    with pytest.raises(ClaimLost):
        bed.queue.complete(claim, measured(1.0), device=DEVICE)
    assert bed.queue.renew([claim, again], ttl_s=TTL) == (claim,)
    assert bed.states(sweep) == ["running", "failed"]
    assert bed.queue.jobs(sweep.id)[1].error == "no such operator"


def test_a_released_job_was_never_begun(bed: Bed) -> None:
    sweep = bed.sweep(new_job(1))
    claim = bed.claimed(sweep)
    bed.queue.release(claim)
    again = bed.claimed(sweep)
    assert again.job.attempts == 1
    bed.queue.fail(again, "it would fail like its likes", skipped=True)
    assert bed.states(sweep) == ["skipped"]
    assert bed.queue.due_in_s(sweep.id) is None


def test_a_device_that_is_set_aside_comes_back(bed: Bed) -> None:
    sweep = bed.sweep(new_job(1), new_job(2, "b"))
    assert {bed.take(sweep), bed.take(sweep), bed.take(sweep)} == {"a", "b", None}
    bed.queue.set_aside(sweep.id, "a", "it does not answer", wait_s=40)
    bed.queue.give_device(sweep.id, "c1", "b")
    assert bed.take(sweep) == "b"
    assert bed.take(sweep) is None
    assert [each.set_aside for each in bed.queue.progress(sweep.id)] == ["it does not answer", None]
    bed.queue.skip(sweep.id, "b", "broken")
    due_s = bed.queue.due_in_s(sweep.id)
    assert due_s is not None
    assert 35 < due_s <= 40
    bed.pass_s(41)
    assert bed.take(sweep) == "a"
    assert [each.set_aside for each in bed.queue.progress(sweep.id)] == [None, None]


def test_jobs_move_to_devices_that_they_name(bed: Bed) -> None:
    sweep = bed.sweep(
        new_job(1, movable_to=("b",)), new_job(2, movable_to=("c",)), new_job(3, movable_to=("b", "c")), new_job(4, "b")
    )
    claim = bed.claimed(sweep)
    assert bed.queue.move(sweep.id, "a", "b") == 1
    assert bed.queue.skip(sweep.id, "a", "gone") == 1
    bed.queue.complete(claim, measured(1.0), device=DEVICE)
    jobs = bed.queue.jobs(sweep.id)
    assert [(job.device, job.state.value) for job in jobs] == [
        ("a", "done"), ("a", "skipped"), ("b", "waiting"), ("b", "waiting"),
    ]  # fmt: skip
    assert jobs[2].wanted.device == "a"
    progress = {each.device: each for each in bed.queue.progress(sweep.id)}
    assert (progress["a"].done, progress["a"].skipped, progress["b"].waiting) == (1, 1, 2)


def test_the_device_with_most_to_do_comes_first_and_no_more_than_allowed(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1, "a"), new_job(2, "b"), new_job(3, "b"), new_job(4, "c"))
    assert shared.take(sweep, limit=2) == "b"
    assert shared.take(sweep, limit=2) == "a"
    assert shared.take(sweep, limit=2) is None
    shared.queue.give_device(sweep.id, "c1", "a")
    shared.queue.give_device(sweep.id, "somebody else", "b")
    assert shared.take(sweep, limit=2) == "a"
    assert shared.take(sweep, limit=3) == "c"


def test_a_claim_that_ran_out_is_another_ones(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1))
    claim = shared.claimed(sweep)
    shared.pass_s(TTL - 10)
    shared.queue.attach(sweep.id, "c1", ttl_s=TTL)
    assert shared.queue.renew([claim], ttl_s=TTL) == ()
    shared.pass_s(TTL - 10)
    assert shared.states(sweep) == ["running"]
    assert shared.claim(sweep) is None
    shared.pass_s(20)
    assert [each.waiting for each in shared.queue.progress(sweep.id)] == [1]
    assert shared.queue.due_in_s(sweep.id) is not None
    again = shared.claimed(sweep, controller="c2")
    assert (again.job.attempts, again.job.controller) == (2, "c2")
    assert again.job.error == "c1 was not heard of any more"
    assert shared.queue.renew([claim], ttl_s=TTL) == (claim,)
    for late in (
        lambda: shared.queue.complete(claim, measured(1.0), device=DEVICE),
        lambda: shared.queue.retry(claim, "x", wait_s=0),
        lambda: shared.queue.fail(claim, "x"),
        lambda: shared.queue.release(claim),
    ):
        with pytest.raises(ClaimLost, match=r"net-1\.onnx on a\) ran out"):
            late()
    assert shared.store is not None
    assert shared.store.list_measurements() == ()
    assert shared.states(sweep) == ["running"]


def test_a_late_result_is_welcome_while_nobody_else_has_the_job(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1))
    claim = shared.claimed(sweep)
    shared.pass_s(2 * TTL)
    assert shared.queue.complete(claim, measured(1.0), device=DEVICE) == 1
    assert shared.states(sweep) == ["done"]


def test_who_signs_off_leaves_everything_free(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1), new_job(2, "b"))
    assert {shared.take(sweep), shared.take(sweep)} == {"a", "b"}
    claim = shared.claimed(sweep)
    shared.queue.detach(sweep.id, "c1")
    with pytest.raises(ClaimLost):
        shared.queue.complete(claim, measured(1.0), device=DEVICE)
    assert shared.claim(sweep) is None
    shared.queue.attach(sweep.id, "c2", ttl_s=TTL)
    assert {shared.take(sweep, "c2"), shared.take(sweep, "c2")} == {"a", "b"}
    again = shared.claim(sweep, controller="c2")
    assert again is not None
    assert again.job.attempts == 1


def test_a_device_needs_a_controller_that_is_alive(shared: Bed) -> None:
    sweep = shared.sweep(new_job(1), new_job(2))
    assert shared.claim(sweep) is None
    assert shared.take(sweep) == "a"
    shared.pass_s(TTL + 1)
    assert shared.claim(sweep) is None
    shared.queue.attach(sweep.id, "c1", ttl_s=TTL)
    assert shared.claim(sweep) is not None
    with pytest.raises(UnknownSweep):
        shared.queue.attach(99, "c1", ttl_s=TTL)
    with pytest.raises(ValueError, match="no device z"):
        shared.queue.set_aside(sweep.id, "z", "?", wait_s=1)


def test_many_threads_do_every_job_once(shared: Bed) -> None:
    devices = [f"d{number}" for number in range(8)]
    sweep = shared.sweep(*(new_job(number, devices[number % 8]) for number in range(80)))
    given = measured(1.0, blocks=4)

    def work(controller: str) -> int:
        rng, done = random.Random(controller), 0
        while (device := shared.take(sweep, controller, limit=2)) is not None:
            while (claim := shared.claim(sweep, device, controller)) is not None:
                if rng.random() < 0.2:
                    shared.queue.retry(claim, "again", wait_s=0)
                    continue
                assert shared.queue.renew([claim], ttl_s=TTL) == ()
                shared.queue.complete(claim, given, device=DEVICE)
                done += 1
            shared.queue.give_device(sweep.id, controller, device)
        return done

    # On SQLite all threads are one controller's.
    names = ["c1"] * 8 if shared.url.startswith("sqlite") else [f"c{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(work, names))
    # A thread ends when it finds nothing to take; what the others had given back since is left.
    work(names[0])
    assert shared.states(sweep) == ["done"] * 80
    assert shared.store is not None
    lines = list_lines(shared.store)
    assert sorted(line.job_key or "" for line in lines) == sorted(f"key-{number}" for number in range(80))
    assert sum(counts) <= 80


def test_sqlite_has_one_process_at_a_time(tmp_path: Path) -> None:
    with empty_database("sqlite", tmp_path) as url, ResultStore.open(url) as store, StoreQueue(store) as queue:
        bed = Bed(queue, lambda seconds: let_pass(url, seconds))
        sweep = bed.sweep(new_job(1), controller="mine")
        script = (
            "import sys\n"
            "from host.results.queue import StoreQueue\n"
            "from host.results.store import ResultStore\n"
            "from host.sweep.queue import SweepBusy\n"
            "with ResultStore.open(sys.argv[1]) as store, StoreQueue(store) as queue:\n"
            "    try:\n"
            "        queue.attach(1, sys.argv[2], ttl_s=60)\n"
            "    except SweepBusy as error:\n"
            "        print(error)\n"
        )

        def other(name: str) -> str:
            done = subprocess.run([sys.executable, "-c", script, url, name], capture_output=True, text=True, check=True)
            return done.stdout

        refused = other("another")
        assert f"process {os.getpid()} on " in refused
        assert "works on sweep #1 (as mine)" in refused
        assert "postgresql+psycopg://" in refused
        with pytest.raises(SweepBusy):
            bed.take(sweep, "another")
        bed.pass_s(TTL + 1)
        assert other("another") == ""
        # That one is dead: its time has not run out, but nobody has to wait for it.
        claim = bed.claimed(sweep, controller="mine")
        assert claim.job.attempts == 1


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no server")
def test_a_broken_connection_is_made_again(tmp_path: Path) -> None:
    with empty_database("postgresql", tmp_path) as url, ResultStore.open(url) as store, StoreQueue(store) as queue:
        bed = Bed(queue, lambda seconds: let_pass(url, seconds))
        sweep = bed.sweep(new_job(1))
        claim = bed.claimed(sweep)
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        killer = create_engine(url)
        with killer.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
        killer.dispose()
        assert queue.complete(claim, measured(1.0), device=DEVICE) == 1
        assert bed.states(sweep) == ["done"]
