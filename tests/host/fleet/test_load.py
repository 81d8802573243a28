"""Load jobs through the client, on a real agent with a real runtime."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import misbehaving_runtime
import pytest
from running_agent import wait_until, when_free, workers_of

from device_agent.contract import errors
from device_agent.contract.load import LoadEvent, LoadMeasurement, LoadRequest, LoadResult, ServedBatch, ServedRequest
from device_agent.contract.measurement import Phase, Progress, VerdictCode
from device_agent.contract.settings import Settings
from host.fleet.client import AgentClient

TINY = Path(__file__).parents[2] / "fixtures/models"
ENDLESS = 600.0


@pytest.fixture
def client(agent: Any) -> Iterator[AgentClient]:
    with AgentClient(agent.address) as made:
        yield made


@pytest.fixture
def request_for(client: AgentClient) -> Callable[..., LoadRequest]:
    sha256 = client.push(TINY / "tiny.onnx").artifact.sha256

    def make(**fields: Any) -> LoadRequest:
        usual = {"duration_s": 0.2, "warmup_s": 0.05, "min_requests": 20, "settings": Settings(threads=1)}
        return LoadRequest(artifact=sha256, **{**usual, **fields})

    return make


def check_record(found: LoadMeasurement) -> None:
    """What holds of every job: counts agree, no request is served twice, and no stream does two things at once."""
    result = found.result
    assert sum(trial.requests for trial in result.trials) == len(found.served)
    assert {one.stream for one in found.served} <= set(range(result.streams))
    for number, trial in enumerate(result.trials):
        own = found.of_trial(number)
        assert len(own) == trial.requests
        assert all(trial.start_ns <= one.arrival_ns <= one.start_ns <= one.end_ns <= trial.end_ns for one in own)
        assert all(one.latency_ns == one.end_ns - one.arrival_ns for one in own)
        if trial.rate_per_s is not None:
            starts = [one.start_ns for one in own]
            assert starts == sorted(starts), "first come, first served"
            if trial.rate_per_s < 1000:  # beyond that, two may arrive in the same nanosecond
                assert len({one.arrival_ns for one in own}) == len(own), "no request is served twice"
        for stream in range(result.streams):
            in_turn = sorted((one for one in own if one.stream == stream), key=lambda one: one.start_ns)
            assert all(earlier.end_ns <= later.start_ns for earlier, later in pairwise(in_turn))
    assert all(earlier.end_ns <= later.start_ns for earlier, later in pairwise(result.trials))


def test_a_closed_loop_is_all_of_its_events(client: AgentClient, request_for: Callable[..., LoadRequest]) -> None:
    events: list[LoadEvent] = []
    request = request_for(streams=2)
    found = client.load(request, on_event=events.append)
    assert found.request == request
    assert isinstance(events[-1], LoadResult)
    assert found.result == events[-1]
    assert {event.phase for event in events if isinstance(event, Progress)} >= {
        Phase.LOADING,
        Phase.WARM_UP,
        Phase.TIMING,
    }
    batches: list[ServedRequest] = [one for event in events if isinstance(event, ServedBatch) for one in event.requests]
    assert list(found.served) == batches
    assert [one.end_ns for one in batches] == sorted(one.end_ns for one in batches)
    assert any(reading.channel == "worker.rss" and reading.value > 0 for reading in found.readings)
    (trial,) = found.result.trials
    assert (trial.rate_per_s, trial.within_bound, trial.unserved) == (None, None, 0)
    assert trial.requests >= 20
    assert all(one.arrival_ns == one.start_ns for one in found.served)
    assert (found.result.streams, found.result.threads, found.result.highest_rate_per_s) == (2, 1, None)
    assert found.result.verdicts
    check_record(found)


@pytest.mark.parametrize("model", ["tiny.onnx", "tiny.tflite"])
def test_an_open_loop_serves_the_arrivals_of_its_seed(client: AgentClient, model: str) -> None:
    sha256 = client.push(TINY / model).artifact.sha256
    runtime = "onnxruntime" if model.endswith("onnx") else "litert"
    request = LoadRequest(
        artifact=sha256,
        settings=Settings(runtime=runtime, threads=1),
        streams=2,
        rate_per_s=300.0,
        duration_s=0.3,
        warmup_s=0.0,
        min_requests=50,
        seed=5,
    )
    first, again = client.load(request), client.load(request)
    other = client.load(replace(request, seed=6))
    check_record(first)
    assert first.result.runtime == runtime
    assert first.result.trials[0].rate_per_s == 300.0

    def gaps(found: LoadMeasurement) -> list[int]:
        return [later.arrival_ns - earlier.arrival_ns for earlier, later in pairwise(found.of_trial(0))]

    assert len(gaps(first)) >= 49
    assert gaps(first) == gaps(again)
    assert gaps(first)[:10] != gaps(other)[:10]


def test_a_search_goes_from_the_closed_loop_to_a_rate_within(
    client: AgentClient, request_for: Callable[..., LoadRequest]
) -> None:
    """A bound of seconds is kept by a model of microseconds on any machine: the search then ends just below the throughput."""
    request = request_for(bound_ns=5e9, percent=90.0, duration_s=0.05, min_requests=200)
    found = client.load(request)
    check_record(found)
    closed, *trials = found.result.trials
    assert closed.rate_per_s is None
    assert closed.within_bound is None
    assert trials
    rates = [trial.rate_per_s for trial in trials]
    assert None not in rates
    assert found.result.highest_rate_per_s == max(trial.rate_per_s or 0.0 for trial in trials if trial.within_bound)
    assert len(set(rates)) == len(rates)


def test_a_bound_below_a_run_alone_is_not_searched(
    client: AgentClient, request_for: Callable[..., LoadRequest]
) -> None:
    found = client.load(request_for(bound_ns=1.0))
    assert len(found.result.trials) == 1
    assert found.result.highest_rate_per_s is None


def test_a_rate_beyond_all_means_is_given_up(client: AgentClient, request_for: Callable[..., LoadRequest]) -> None:
    request = request_for(rate_per_s=1e6, bound_ns=1e6, duration_s=0.9, min_requests=1)
    found = client.load(request)
    check_record(found)
    (trial,) = found.result.trials
    assert trial.unserved > 0
    assert trial.within_bound is False
    assert found.result.highest_rate_per_s is None


def test_threads_are_divided_and_said(client: AgentClient, request_for: Callable[..., LoadRequest]) -> None:
    found = client.load(request_for(settings=Settings(cpus=(0,)), streams=3))
    assert (found.result.threads, found.result.cpus, found.result.streams) == (1, (0,), 3)


def test_too_few_requests_are_no_judgement(client: AgentClient, request_for: Callable[..., LoadRequest]) -> None:
    found = client.load(request_for(rate_per_s=400.0, bound_ns=60e9, min_requests=5, duration_s=0.05))
    assert found.result.trials[0].within_bound is None


def test_what_cannot_be_loaded_is_named(client: AgentClient, request_for: Callable[..., LoadRequest]) -> None:
    with pytest.raises(errors.ArtifactNotFound):
        client.load(replace(request_for(), artifact="0" * 64))
    with pytest.raises(errors.InvalidRequest, match="cpus"):
        client.load(request_for(settings=Settings(cpus=(4000,))))
    with pytest.raises(errors.RuntimeUnavailable, match="tensorrt"):
        client.load(request_for(settings=Settings(runtime="tensorrt")))
    with pytest.raises(errors.ModelRejected, match=r"tiny\.onnx"):
        client.load(request_for(settings=Settings(runtime="litert")))
    assert client.describe().cores >= 1


def test_the_lease_of_another_keeps_it_out(
    agent: Any, client: AgentClient, request_for: Callable[..., LoadRequest]
) -> None:
    request = request_for()
    with AgentClient(agent.address) as other, other.lease("ann", "nightly sweep"):
        with pytest.raises(errors.DeviceBusy, match=r"ann.*nightly sweep"):
            client.load(request)
        assert len(other.load(request).served) >= 20


def test_another_job_is_told_what_runs(
    agent: Any, client: AgentClient, request_for: Callable[..., LoadRequest]
) -> None:
    def ask(event: LoadEvent) -> None:
        if isinstance(event, Progress) and event.phase is Phase.TIMING:
            with (
                AgentClient(agent.address) as other,
                pytest.raises(errors.DeviceBusy, match=r"putting load on tiny\.onnx"),
            ):
                other.load(request_for())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.load(request_for(duration_s=ENDLESS, warmup_s=0.0), on_event=ask)
    wait_until(lambda: workers_of(agent.process.pid) == [], "the worker is gone")


class TestFaults:
    @pytest.fixture
    def agent(self, start: Any) -> Any:
        return start(environment=misbehaving_runtime.ENVIRONMENT)

    def test_a_worker_killed_under_load(
        self, agent: Any, client: AgentClient, request_for: Callable[..., LoadRequest]
    ) -> None:
        def kill(event: LoadEvent) -> None:
            if isinstance(event, ServedBatch):
                for pid in workers_of(agent.process.pid):
                    os.kill(pid, signal.SIGKILL)

        with pytest.raises(errors.WorkerOutOfMemory, match=r"tiny\.onnx.*SIGKILL"):
            client.load(request_for(duration_s=ENDLESS, streams=2), on_event=kill)
        wait_until(lambda: workers_of(agent.process.pid) == [], "the worker is gone")
        assert len(when_free(lambda: client.load(request_for())).served) >= 20

    def test_a_crash_a_glutton_and_a_sleeper(
        self, client: AgentClient, request_for: Callable[..., LoadRequest]
    ) -> None:
        def of(runtime: str, **fields: Any) -> LoadRequest:
            return request_for(settings=Settings(runtime=runtime, threads=1), **fields)

        with pytest.raises(errors.WorkerCrashed, match=r"tiny\.onnx.*SIGSEGV"):
            client.load(of("segfault", streams=2))
        with pytest.raises(errors.WorkerOutOfMemory, match=r"tiny\.onnx"):
            client.load(of("glutton", duration_s=ENDLESS, memory_limit_bytes=300 * 10**6))
        with pytest.raises(errors.WorkerTimedOut, match=r"tiny\.onnx.*deadline of 2 s"):
            client.load(of("sleeper", deadline_s=2.0))

    def test_the_agent_is_stopped_under_load(
        self, agent: Any, client: AgentClient, request_for: Callable[..., LoadRequest]
    ) -> None:
        def stop(event: LoadEvent) -> None:
            if isinstance(event, Progress) and event.phase is Phase.TIMING and agent.process.poll() is None:
                agent.process.terminate()

        with pytest.raises((errors.JobAborted, errors.DeviceUnreachable)):
            client.load(request_for(rate_per_s=50.0, duration_s=ENDLESS), on_event=stop)
        assert agent.stop() == 0
        assert workers_of(agent.process.pid) == []
        assert "Traceback" not in agent.log.read_text()


def test_a_provider_that_is_not_there_and_one_that_ran(
    client: AgentClient, request_for: Callable[..., LoadRequest]
) -> None:
    with pytest.raises(errors.RuntimeUnavailable, match="NoSuchProvider"):
        client.load(request_for(settings=Settings(threads=1, provider="NoSuchProvider")))
    found = client.load(request_for(settings=Settings(threads=1, provider="CPUExecutionProvider")))
    assert found.result.provider == "CPUExecutionProvider"
    assert VerdictCode.FELL_BACK not in {verdict.code for verdict in found.result.verdicts}
