"""The options of `load`, the same for `host load` and `device-agent load`, and the request that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_agent.bench_options import OPTIONS as BENCH_OPTIONS
from device_agent.bench_options import Option
from device_agent.bench_request import BenchOptions
from device_agent.contract.bound import enough_requests
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.load import MAX_REQUESTS, LoadRequest
from device_agent.quantities import duration_s, whole

_LOAD, _LONG = "Load", "How long"
#: Of bench's options those that say how a model is run and fed, and what bounds the job.
_SHARED = (
    "--runtime", "--provider", "--provider-option", "--graph-optimization", "--memory-arena", "--threads", "--cpus",
    "--cpu-group", "--nice", "--batch", "--inputs", "--seed", "--memory-limit", "--timeout",
)  # fmt: skip
_DEFAULT_PERCENT = 99.0
_FEWEST_WITHOUT_BOUND = 100


def rate_per_s(text: str) -> float:
    """Return `50/s` or `50` as 50.0, `300/min` as 5.0. InvalidRequest for what is no rate."""
    match = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(?:/\s*(s|min|h))?\s*", text)
    value = float(match[1]) / {"s": 1, "min": 60, "h": 3600}[match[2] or "s"] if match else 0.0
    if not 0 < value < 1e9:
        raise InvalidRequest(f"{text!r} is not a rate of requests such as 50/s or 300/min")
    return value


def percent(text: str) -> float:
    """Return `99`, `p99` or `99.9%` as a percentage. InvalidRequest outside 50 to 100, 100 excluded."""
    match = re.fullmatch(r"\s*p?([0-9]{2}(?:\.[0-9]+)?)\s*%?\s*", text)
    if match is None or not 50 <= float(match[1]) < 100:
        raise InvalidRequest(f"{text!r} is not a percentage from 50 up to 100, 100 excluded, such as 99 or 99.9")
    return float(match[1])


def _positive_s(text: str) -> float:
    value = duration_s(text)
    if not 0 < value <= 86400:
        raise InvalidRequest(f"{text!r} is not a time above 0 and of a day at most, such as 20ms or 10s")
    return value


_OWN = (
    Option(
        flag="--streams",
        group=_LOAD,
        read=whole(1, 64),
        metavar="N",
        default="1",
        help="instances of the model that serve at the same time, from one queue",
    ),
    Option(
        flag="--rate",
        group=_LOAD,
        read=rate_per_s,
        metavar="RATE",
        help="requests arrive at random at this mean rate, such as 50/s; by default each stream takes its next request as soon as"
        " it is done with the last",
    ),
    Option(
        flag="--max-p99",
        group=_LOAD,
        read=_positive_s,
        metavar="TIME",
        help="find the highest rate at which 99 % of requests are answered within this time, such as 20ms; with --rate, judge"
        " that rate",
    ),
    Option(
        flag="--max-latency",
        group=_LOAD,
        read=_positive_s,
        metavar="TIME",
        help="the same for another share of requests, that of --percent",
    ),
    Option(
        flag="--percent",
        group=_LOAD,
        read=percent,
        metavar="PERCENT",
        default=f"{_DEFAULT_PERCENT:g}",
        help="share of requests that --max-latency is about",
    ),
    Option(flag="--duration", group=_LONG, read=_positive_s, metavar="TIME", default="10s", help="of each trial"),
    Option(
        flag="--requests",
        group=_LONG,
        read=whole(1, MAX_REQUESTS),
        metavar="N",
        default=f"{_FEWEST_WITHOUT_BOUND}, and {enough_requests(_DEFAULT_PERCENT)} to judge p99",
        help="a trial goes on until this many are done",
    ),
    Option(
        flag="--warmup-time", group=_LONG, read=duration_s, metavar="TIME", default="1s", help="before the first trial"
    ),
)
_HELP = {"--threads": "of each stream; by default the device's own number, divided among the streams"}
OPTIONS: tuple[Option, ...] = (
    *_OWN,
    *(replace(option, help=_HELP.get(option.flag, option.help)) for option in BENCH_OPTIONS if option.flag in _SHARED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a user asked for. `model` says how the model is run and fed."""

    model: BenchOptions
    streams: int
    rate_per_s: float | None
    bound_ns: float | None
    percent: float
    duration_s: float
    warmup_s: float
    min_requests: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LoadOptions:
        """Return the options. InvalidRequest, in the words of the options, for what does not go together."""
        p99, latency, percent_given = values["max_p99"], values["max_latency"], values["percent"]
        if p99 is not None and latency is not None:
            raise InvalidRequest("--max-p99 and --max-latency exclude each other; give one")
        if percent_given is not None and latency is None:
            raise InvalidRequest("--percent says which share of requests --max-latency is about; give that too")
        bound_s = latency if p99 is None else p99
        share = percent_given or _DEFAULT_PERCENT
        fewest = _FEWEST_WITHOUT_BOUND if bound_s is None else min(enough_requests(share), MAX_REQUESTS)
        warmup_s = 1.0 if values["warmup_time"] is None else values["warmup_time"]
        if warmup_s > 3600:
            raise InvalidRequest("--warmup-time is an hour at most")
        shared = {name: value for name, value in values.items() if name != "warmup_time"}
        return cls(
            model=BenchOptions.of(shared, 1),
            streams=values["streams"] or 1,
            rate_per_s=values["rate"],
            bound_ns=None if bound_s is None else bound_s * 1e9,
            percent=share,
            duration_s=values["duration"] or 10.0,
            warmup_s=warmup_s,
            min_requests=values["requests"] or fewest,
        )

    @property
    def inputs_file(self) -> Path | None:
        """The .npz file to be given as inputs, None for random ones or zeros."""
        return self.model.inputs_file

    def request(self, artifact: str, *, runtime: str, inputs_sha256: str | None = None) -> LoadRequest:
        """Return the request for an artifact (its hash). InvalidRequest in the words of the options."""
        asked = self.model.request([artifact], runtime=runtime, inputs_sha256=inputs_sha256)
        return LoadRequest(
            artifact=artifact,
            settings=asked.settings,
            streams=self.streams,
            rate_per_s=self.rate_per_s,
            bound_ns=self.bound_ns,
            percent=self.percent,
            duration_s=self.duration_s,
            warmup_s=self.warmup_s,
            min_requests=self.min_requests,
            seed=asked.seed,
            deadline_s=asked.deadline_s,
            memory_limit_bytes=asked.memory_limit_bytes,
        )
