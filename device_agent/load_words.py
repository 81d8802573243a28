"""The answer of a load job in one or two sentences, for people; how figures are rounded is the caller's choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Text = Callable[[float], str]


def answer(document: dict[str, Any], *, rate_text: Text, time_text: Text) -> list[str]:
    """Return the sentences. `rate_text` gives a rate per second without a unit, `time_text` nanoseconds with one."""
    how = f"({_many(document['streams'], 'stream')}, {_many(document['threads'], 'thread')} each)"
    bound = document["bound"]
    first = document["trials"][0]
    if bound is None:
        if first["rate_per_s"] is None:
            return [f"{rate_text(first['served_per_s'])} requests/s in a closed loop {how}"]
        asked = f"{rate_text(first['rate_per_s'])} requests/s"
        if first["unserved"]:
            return [f"{asked} are too many {how}: the queue only grew, and {first['unserved']} requests were given up"]
        return [f"{rate_text(first['served_per_s'])} requests/s served, arriving at {asked} {how}"]
    within = f"p{bound['percent']:g} within {time_text(bound['latency_ns'])}"
    if document["rate_per_s"] is not None:
        return _judged(first, within, how, rate_text)
    return _found(document, within, how, rate_text=rate_text, time_text=time_text)


def percentiles(document: dict[str, Any]) -> dict[str, str]:
    """Return title and key of the percentiles to show: p50, p90, and that of the bound or p99, so that a table fits its line."""
    bound = document["bound"]
    usual = {"p50": "p50", "p90": "p90"}
    if bound is None or f"p{bound['percent']:g}" in usual:
        return {**usual, "p99": "p99"}
    return {**usual, f"p{bound['percent']:g}": "at_percent"}


def is_within(document: dict[str, Any]) -> bool | None:
    """Say whether the bound that was asked for is kept at some rate, or at the one that was asked for; None without a bound."""
    if document["bound"] is None:
        return None
    if document["rate_per_s"] is not None:
        return document["trials"][0]["within_bound"] is True
    return document["highest_rate_per_s"] is not None


def _judged(trial: dict[str, Any], within: str, how: str, rate_text: Text) -> list[str]:
    asked = f"{rate_text(trial['rate_per_s'])} requests/s"
    share = f"{trial['over_bound'] * 100:.3g} % of requests were over it"
    if trial["within_bound"] is None:
        return [f"whether {asked} keep {within} cannot be told {how}: {share}; raise --duration or --requests"]
    return [f"{asked} {'with' if trial['within_bound'] else 'do not keep'} {within} {how}; {share}"]


def _found(document: dict[str, Any], within: str, how: str, *, rate_text: Text, time_text: Text) -> list[str]:
    highest, beyond = document["highest_rate_per_s"], document["lowest_rate_beyond_per_s"]
    open_trials = [trial for trial in document["trials"] if trial["rate_per_s"] is not None]
    throughput = f"{rate_text(document['throughput_per_s'])} requests/s, its throughput in a closed loop"
    if not open_trials:
        closed = time_text(document["trials"][0]["latency_ns"]["p50"])
        return [
            f"no rate keeps {within} {how}: a request alone takes longer as often as not ({closed} is the median in a closed"
            " loop)"
        ]
    if highest is None:
        lowest = min(trial["rate_per_s"] for trial in open_trials)
        return [f"no rate was shown to keep {within} {how}, down to {rate_text(lowest)} requests/s"]
    lines = [f"up to {rate_text(highest)} requests/s with {within} {how}"]
    undecided = any(trial["within_bound"] is None and trial["rate_per_s"] > highest for trial in open_trials)
    if beyond is None:
        limit, end = throughput, f"its limit is {throughput}"
    else:
        limit = f"{rate_text(beyond)} requests/s, which do not keep it"
        end = f"{rate_text(beyond)} requests/s do not keep it"
    lines.append(f"undecided from there to {limit}: a longer --duration narrows that" if undecided else end)
    return lines


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
