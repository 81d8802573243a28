"""Load: arrivals, the search against queues with known answers, streams at work, and what a document makes of it."""

from __future__ import annotations

import math
import random
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.queues import queue_latencies
from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.bound import LOOKS, may_still_keep, within_bound
from device_agent.contract.device import Channel, Quantity, RuntimeInfo
from device_agent.contract.load import MAX_REQUESTS, LoadRequest, LoadResult, ServedRequest, longest_s
from device_agent.contract.load_document import dispatch_lateness_ns
from device_agent.contract.measurement import Reading, VerdictCode
from device_agent.contract.served import ServedLog
from device_agent.contract.settings import Settings
from device_agent.contract.statistics import percentile
from device_agent.contract.verdicts import judge_load
from device_agent.load_job import share_threads
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime
from device_agent.worker.arrivals import poisson_arrivals
from device_agent.worker.load import Loading
from device_agent.worker.measure import LoadedFile
from device_agent.worker.rate_search import FLOOR, TOLERANCE, RateSearch
from device_agent.worker.serving import Streams

ANY = "a" * 64


class TestArrivals:
    def test_they_are_a_poisson_process(self) -> None:
        arrivals = poisson_arrivals(200.0, duration_s=100.0, min_requests=1, seed=1, part=(1, 0))
        gaps = [later - earlier for earlier, later in pairwise([0, *arrivals])]
        assert min(gaps) >= 0
        mean = sum(gaps) / len(gaps)
        assert mean == pytest.approx(5e6, rel=0.03)
        # Of an exponential distribution: its deviation is its mean, and the share above k means is exp(-k).
        assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.04)
        for times in (0.5, 1.0, 2.0):
            share = sum(gap > times * mean for gap in gaps) / len(gaps)
            assert share == pytest.approx(math.exp(-times), abs=0.012)

    def test_seed_and_part_fix_them(self) -> None:
        def drawn(seed: int, part: tuple[int, int]) -> array[int]:
            return poisson_arrivals(50.0, duration_s=1.0, min_requests=1, seed=seed, part=part)

        assert drawn(7, (1, 0)) == drawn(7, (1, 0))
        different = [drawn(7, (1, 0)), drawn(7, (2, 0)), drawn(7, (1, 1)), drawn(8, (1, 0)), drawn(2**64 - 1, (1, 0))]
        assert len({tuple(one[:5]) for one in different}) == len(different)

    def test_they_last_for_time_and_number(self) -> None:
        by_time = poisson_arrivals(100.0, duration_s=2.0, min_requests=1, seed=0, part=(0, 0))
        assert by_time[-1] < 2e9
        by_number = poisson_arrivals(100.0, duration_s=2.0, min_requests=1000, seed=0, part=(0, 0))
        assert len(by_number) == 1000
        assert by_number[: len(by_time)] == by_time
        assert len(poisson_arrivals(1e8, duration_s=1.0, min_requests=1, seed=0, part=(0, 0))) == MAX_REQUESTS


def found_by(search: RateSearch, judge: Callable[[float], bool | None]) -> list[float]:
    """Run a search against a judge and return the rates that were tried."""
    tried = []
    while (rate := search.next_rate()) is not None:
        assert len(tried) < 40
        tried.append(rate)
        search.tell(rate, judge(rate))
    return tried


class TestSearch:
    @pytest.mark.parametrize("limit", [3.0, 17.0, 48.0, 77.7, 99.0])
    def test_an_honest_judge_leads_to_the_limit(self, limit: float) -> None:
        search = RateSearch(100.0)
        tried = found_by(search, lambda rate: rate <= limit)
        assert search.highest_per_s is not None
        assert search.highest_per_s <= limit
        assert limit - search.highest_per_s <= TOLERANCE * limit * 1.01
        assert max(tried) < 100.0
        assert len(tried) <= 12

    def test_what_cannot_be_told_is_not_taken_for_kept(self) -> None:
        search = RateSearch(100.0)
        found_by(search, lambda rate: True if rate <= 30 else (None if rate <= 60 else False))
        assert search.highest_per_s == pytest.approx(30, rel=TOLERANCE)

    def test_no_rate_is_found_where_none_is(self) -> None:
        search = RateSearch(100.0)
        tried = found_by(search, lambda _: False)
        assert search.highest_per_s is None
        assert min(tried) >= 100 * FLOOR
        with pytest.raises(ValueError, match="positive"):
            RateSearch(0.0)

    @pytest.mark.parametrize(("bound", "count"), [(10.0, 15_000), (25.0, 30_000)])
    def test_the_limit_of_a_queue_with_a_known_answer(self, bound: float, count: int) -> None:
        """M/M/1 with a mean service of 1: p99 of the latency is ln(100) / (1 - rate)."""
        limit = 1 - math.log(100) / bound
        rng = random.Random(2)

        def judge(rate: float) -> bool | None:
            seen: list[int] = []
            within = None
            for times in LOOKS:
                more = queue_latencies(
                    rng, rate=rate, streams=1, service=lambda one: one.expovariate(1.0), count=times * count
                )
                seen += [round(1e6 * one) for one in more]
                within = within_bound(seen, bound * 1e6, 99)
                if within is not None or not may_still_keep(seen, bound * 1e6, 99):
                    break
            return within

        search = RateSearch(1.0)
        found_by(search, judge)
        assert search.highest_per_s is not None
        assert 0.85 * limit <= search.highest_per_s <= 1.02 * limit


def test_the_simulated_queue_keeps_to_theory() -> None:
    """M/M/1: the latency is exponential with mean 1 / (1 - rate). M/D/1: the mean wait is rate / 2 / (1 - rate)."""
    rng = random.Random(4)
    found = queue_latencies(rng, rate=0.5, streams=1, service=lambda one: one.expovariate(1.0), count=100_000)
    for percent in (50, 90, 99):
        assert percentile(found, percent) == pytest.approx(-math.log(1 - percent / 100) / 0.5, rel=0.05)
    fixed = queue_latencies(rng, rate=0.6, streams=1, service=lambda _: 1.0, count=100_000)
    assert sum(fixed) / len(fixed) - 1 == pytest.approx(0.6 / 2 / 0.4, rel=0.05)


def streams_of(*runners: Callable[[], object]) -> Streams:
    return Streams(runners, lambda: None, nullcontext())


def check_streams(served: list[ServedRequest], streams: int) -> None:
    """What holds of any record: no stream does two things at once, and nothing ends before it began."""
    for stream in range(streams):
        own = sorted((one for one in served if one.stream == stream), key=lambda one: one.start_ns)
        assert all(one.arrival_ns <= one.start_ns <= one.end_ns for one in own)
        assert all(earlier.end_ns <= later.start_ns for earlier, later in pairwise(own))
    ends = [one.end_ns for one in served]
    assert ends == sorted(ends), "requests are recorded in the order in which they were done"


class TestStreams:
    def test_an_open_loop_serves_every_arrival_once_in_order(self) -> None:
        calls = array("q", [0, 0, 0])

        def runner(stream: int) -> Callable[[], None]:
            def run() -> None:
                calls[stream] += 1
                time.sleep(0.0005)

            return run

        arrivals = poisson_arrivals(2000.0, duration_s=0.3, min_requests=1, seed=3, part=(0, 0))
        streams = streams_of(*(runner(stream) for stream in range(3)))
        done = streams.open_loop(4, arrivals, give_up_ns=1e12)
        served = list(streams.log)
        assert (done.unserved, done.given_up) == (0, False)
        assert len(served) == sum(calls) == len(arrivals)
        assert {one.trial for one in served} == {4}
        by_arrival = sorted(served, key=lambda one: (one.arrival_ns, one.start_ns))
        assert [one.arrival_ns - done.start_ns for one in by_arrival] == list(arrivals)
        starts = [one.start_ns for one in by_arrival]
        assert starts == sorted(starts), "first come, first served"
        check_streams(served, 3)

    def test_who_comes_while_all_are_busy_waits_for_the_first_that_is_free(self) -> None:
        streams = streams_of(lambda: time.sleep(0.002), lambda: time.sleep(0.002))
        streams.open_loop(0, array("q", [0] * 20), give_up_ns=1e12)
        served = sorted(streams.log, key=lambda one: one.start_ns)
        check_streams(list(streams.log), 2)
        for place, one in enumerate(served[2:], start=2):
            free_at = min(
                max((other.end_ns for other in served[:place] if other.stream == stream), default=0)
                for stream in (0, 1)
            )
            assert one.start_ns >= free_at

    def test_a_queue_that_only_grows_is_given_up(self) -> None:
        streams = streams_of(lambda: time.sleep(0.03))
        done = streams.open_loop(0, array("q", [0] * 50), give_up_ns=10e6)
        assert done.given_up
        assert done.unserved > 0
        assert done.unserved + len(streams.log) == 50

    def test_whoever_watches_may_stop_it(self) -> None:
        """Half of the requests are due in an hour: nobody waits for them, and they are not unserved."""
        streams = Streams([lambda: time.sleep(0.01)] * 2, lambda: streams.stop(), nullcontext())
        done = streams.open_loop(0, array("q", [0] * 200 + [3600 * 10**9] * 200), give_up_ns=1e18)
        assert not done.given_up
        assert done.unserved + len(streams.log) == 200
        again = streams.open_loop(1, array("q", [0] * 3), give_up_ns=1e18)
        assert again.unserved == 0
        assert len([one for one in streams.log if one.trial == 1]) == 3

    def test_a_closed_loop_keeps_every_stream_at_work(self) -> None:
        streams = streams_of(lambda: time.sleep(0.001), lambda: time.sleep(0.001))
        streams.closed_loop(0, duration_s=0.05, min_requests=200)
        streams.closed_loop(1, duration_s=0.0, min_requests=7)
        served = list(streams.log)
        assert len([one for one in served if one.trial == 0]) >= 200
        # Each stream looks before it begins another one, so those that had begun may go beyond the number.
        assert 7 <= len([one for one in served if one.trial == 1]) <= 7 + 1
        assert all(one.arrival_ns == one.start_ns for one in served)
        assert {one.stream for one in served} == {0, 1}
        check_streams(served, 2)

    def test_an_error_ends_all_streams_and_is_blamed(self) -> None:
        blamed: list[BaseException] = []

        @contextmanager
        def blaming() -> Iterator[None]:
            try:
                yield
            except ZeroDivisionError as error:
                blamed.append(error)
                raise

        def fails() -> None:
            raise ZeroDivisionError("in the runtime")

        streams = Streams([lambda: time.sleep(0.001), fails], lambda: None, blaming())
        with pytest.raises(ZeroDivisionError, match="in the runtime"):
            streams.closed_loop(0, duration_s=600, min_requests=1)
        assert len(blamed) == 1
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream-")]

    def test_whoever_watches_may_end_it(self) -> None:
        def watch() -> None:
            raise BrokenPipeError("nobody listens")

        streams = Streams([lambda: time.sleep(0.001)], watch, nullcontext())
        with pytest.raises(BrokenPipeError):
            streams.closed_loop(0, duration_s=600, min_requests=1)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream-")]


class Fitful(LoadedModel):
    """Takes a fifth of a millisecond, and a hundred times as long in every third run."""

    inputs = ()
    outputs = ()

    def __init__(self) -> None:
        self.runs = 0
        self.closed = False

    def bind(self, arrays: Any) -> None:
        pass

    def run(self) -> None:
        self.runs += 1
        time.sleep(0.02 if self.runs % 3 == 0 else 0.0002)

    def results(self) -> dict[str, Any]:
        return {}

    def provider(self) -> tuple[str, float | None]:
        return "none", None

    def close(self) -> None:
        self.closed = True


class FitfulRuntime(Runtime):
    name = "fitful"
    formats = (ArtifactFormat.ONNX,)

    def __init__(self) -> None:
        self.loaded: list[Fitful] = []

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(name=self.name, version="1.0", formats=self.formats, providers=())

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        assert options.threads == 1
        self.loaded.append(Fitful())
        return self.loaded[-1]


class TestJob:
    """The worker's side, in this process, with a model whose runs are as slow as the test needs."""

    def done(self, **fields: Any) -> tuple[LoadResult, list[ServedRequest], FitfulRuntime]:
        runtime = FitfulRuntime()
        sent = ServedLog()
        request = LoadRequest(artifact=ANY, settings=Settings(threads=1), warmup_s=0.0, duration_s=0.1, **fields)
        job = Loading(
            request,
            LoadedFile(path=Path("net.onnx"), sha256=ANY, name="net.onnx"),
            runtime,
            "1.0",
            data=None,
            send_progress=lambda _: None,
            send_served=lambda log, first, last: sent.extend(log[first:last]),
        )
        result, _ = job.run()
        return result, list(sent), runtime

    def test_a_search_ends_where_no_lower_rate_would_help(self) -> None:
        """A third of the runs is late without any waiting, so the trial at a quarter of the throughput is the last one."""
        result, sent, runtime = self.done(bound_ns=10e6, min_requests=600)
        closed, *trials = result.trials
        assert closed.rate_per_s is None
        assert [trial.within_bound for trial in trials] == [False, False]
        assert result.highest_rate_per_s is None
        assert all(trial.requests < 600 for trial in trials), "far too many were late to go on for the number"
        assert len(sent) == sum(trial.requests for trial in result.trials)
        assert len({(one.trial, one.stream, one.start_ns) for one in sent}) == len(sent)
        assert all(model.closed for model in runtime.loaded)

    def test_every_stream_has_a_model_of_its_own(self) -> None:
        result, sent, runtime = self.done(streams=3, min_requests=30)
        assert len(runtime.loaded) == 3
        assert all(model.runs for model in runtime.loaded)
        assert result.streams == 3
        assert {one.stream for one in sent} == {0, 1, 2}

    def test_a_bound_that_half_of_the_runs_alone_break_is_not_searched(self) -> None:
        result, _, _ = self.done(bound_ns=1.0, min_requests=10)
        assert [trial.rate_per_s for trial in result.trials] == [None]


def served(stream: int, arrival_ns: int, start_ns: int, end_ns: int, trial: int = 0) -> ServedRequest:
    return ServedRequest(trial=trial, stream=stream, arrival_ns=arrival_ns, start_ns=start_ns, end_ns=end_ns)


class TestRecord:
    def test_columns_come_back(self) -> None:
        rng = random.Random(1)
        given = [
            served(
                rng.randrange(64), rng.getrandbits(62), rng.getrandbits(62), rng.getrandbits(62), rng.randrange(2**32)
            )
            for _ in range(50)
        ]
        log = ServedLog(given)
        assert log == given
        assert log[7] == given[7]
        assert log[-2:] == given[-2:]
        assert ServedLog.unpacked(log.packed(10, 30)) == given[10:30]
        assert ServedLog.unpacked(b"") == []
        assert log != given[:-1]
        with pytest.raises(ValueError, match="not whole requests"):
            ServedLog.unpacked(b"x" * 31)

    def test_lateness_is_that_of_requests_that_found_their_stream_idle(self) -> None:
        record = [
            served(0, 100, 130, 500),
            served(1, 200, 205, 300),
            served(1, 250, 301, 400),  # waited for stream 1
            served(0, 600, 607, 700),
        ]
        assert dispatch_lateness_ns(record) == [30, 5, 7]


class TestVerdicts:
    CHANNELS = (
        Channel(name="flags", quantity=Quantity.FLAGS, site="soc", source="test"),
        Channel(name="temperature", quantity=Quantity.TEMPERATURE, site="soc", source="test"),
    )

    class Ran:
        provider = "CPUExecutionProvider"
        provider_share = 0.5

    def judged(self, *readings: Reading, asked: str | None = None) -> list[VerdictCode]:
        found = judge_load(
            readings, channels=self.CHANNELS, throttle_temperature_c=80.0, asked_provider=asked, ran=self.Ran()
        )
        return [verdict.code for verdict in found]

    def test_a_quiet_board_is_stable(self) -> None:
        assert self.judged(Reading(channel="temperature", time_ns=1, value=60.0)) == [VerdictCode.STABLE]

    def test_what_the_board_says_counts(self) -> None:
        hot = Reading(channel="temperature", time_ns=1, value=79.0)
        capped = Reading(channel="flags", time_ns=1, value=5.0)
        assert self.judged(hot) == [VerdictCode.HOT]
        assert {VerdictCode.THROTTLED, VerdictCode.UNDER_VOLTAGE} <= set(self.judged(capped))
        assert self.judged(asked="CPUExecutionProvider") == [VerdictCode.FELL_BACK]


class TestRequest:
    def test_threads_are_divided_among_the_streams(self) -> None:
        def complete(settings: Settings) -> Settings:
            return Settings(threads=settings.threads or 4, cpus=(0, 1))

        def threads(streams: int, given: int | None = None) -> int | None:
            request = LoadRequest(artifact=ANY, settings=Settings(threads=given), streams=streams)
            return share_threads(request, complete).settings.threads

        assert [threads(streams) for streams in (1, 2, 3, 4, 9)] == [4, 2, 1, 1, 1]
        assert threads(9, given=3) == 3

    def test_a_job_has_a_bound_in_time(self) -> None:
        plain = LoadRequest(artifact=ANY, settings=Settings(), duration_s=10)
        slow = LoadRequest(artifact=ANY, settings=Settings(), rate_per_s=0.1, min_requests=1000)
        search = LoadRequest(artifact=ANY, settings=Settings(), bound_ns=1e7)
        given = LoadRequest(artifact=ANY, settings=Settings(), bound_ns=1e7, deadline_s=5)
        assert longest_s(plain) > 10
        assert longest_s(slow) > 10_000
        assert longest_s(search) > 8 * 4 * 10
        assert longest_s(given) == 5
