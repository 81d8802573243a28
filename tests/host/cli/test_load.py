"""`host load` and `device-agent load`: documents, tables, words, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from device_agent import cli
from device_agent.contract.errors import InvalidRequest
from device_agent.load_options import LoadOptions, percent, rate_per_s
from device_agent.load_words import answer, is_within
from host.cli import render
from host.cli.load_view import print_load
from host.results.loads import get_load
from host.results.store import ResultStore

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/load.schema.json").read_text())
QUICK = ("--duration", "0.2s", "--warmup-time", "0", "--threads", "1")


@pytest.fixture
def load(host: Callable[..., Any], agent: Any) -> Callable[..., Any]:
    assert host("devices", "add", "board", agent.address).code == 0
    return lambda *arguments: host("load", *map(str, arguments), "--device", "board")


def test_the_document_keeps_to_its_schema_and_the_history(load: Callable[..., Any], model: Path) -> None:
    ran = load(model, *QUICK, "--streams", 2, "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    jsonschema.validate(document, SCHEMA)
    assert (document["streams"], document["threads"], document["bound"]) == (2, 1, None)
    assert document["artifact"]["name"] == "tiny.onnx"
    (trial,) = document["trials"]
    assert document["throughput_per_s"] == trial["served_per_s"]
    assert document["dispatch_late_ns"] is None
    with ResultStore.open() as store:
        stored = get_load(store, document["load_id"])
    assert stored.artifact_name == "tiny.onnx"
    assert len(stored.measurement.served) == trial["requests"]
    assert max(one.latency_ns for one in stored.measurement.served) == trial["latency_ns"]["max"]


def test_a_rate_is_judged_and_the_exit_code_says_it(load: Callable[..., Any], model: Path, folders: Path) -> None:
    asked = (model, *QUICK, "--rate", "300/s", "--no-store", "--json")
    kept = load(*asked, "--max-latency", "10s", "--percent", "90", "--requests", "200")
    assert kept.code == 0, kept.err
    jsonschema.validate(kept.document, SCHEMA)
    assert kept.document["trials"][0]["within_bound"] is True
    assert kept.document["trials"][0]["over_bound"] == 0
    assert kept.document["bound"] == {"latency_ns": 10e9, "percent": 90.0, "confidence": 0.95}
    assert kept.document["dispatch_late_ns"]["max"] >= kept.document["dispatch_late_ns"]["p50"] > 0
    assert kept.document["load_id"] is None
    assert not (folders / "data" / "boardfit").exists()
    broken = load(*asked, "--max-p99", "0.001us", "--requests", "100")
    assert broken.code == 3
    assert broken.document["trials"][0]["within_bound"] is False
    assert broken.document["trials"][0]["over_bound"] == 1


def test_a_search_and_its_table(load: Callable[..., Any], model: Path) -> None:
    ran = load(model, *QUICK, "--duration", "0.05s", "--max-latency", "10s", "--percent", "90", "--requests", "200")
    assert ran.code == 0, ran.err
    for part in ("tiny.onnx", "board", "asked/s", "served/s", "p99", "over", "within", "closed", "yes", "up to"):
        assert part in ran.out
    assert "with p90 within 10.0 s (1 stream, 1 thread each)" in ran.out
    assert "kept as" in ran.out
    none = load(model, *QUICK, "--max-p99", "0.001us")
    assert none.code == 3
    assert "no rate keeps p99 within 1.00 ns" in none.out


def test_what_cannot_be_asked(load: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    for arguments, code, said in (
        ((tmp_path / "none.onnx",), 2, "there is no model file"),
        ((model, "--rate", "fast"), 2, "'fast' is not a rate of requests"),
        ((model, "--rate", "0/s"), 2, "not a rate"),
        ((model, "--streams", "65"), 2, "65 is not in 1..64"),
        ((model, "--max-p99", "0"), 2, "not a time above 0"),
        ((model, "--max-p99", "1ms", "--max-latency", "1ms"), 2, "exclude each other"),
        ((model, "--percent", "99"), 2, "--max-latency"),
        ((model, "--max-latency", "1ms", "--percent", "100"), 2, "percentage from 50 up to 100"),
        ((model, "--warmup-time", "2h"), 2, "an hour at most"),
        ((model, "--cpus", "0", "--cpu-group", "big"), 2, "--cpus 0 and --cpu-group big exclude each other"),
        ((model, "--runtime", "litert"), 2, "'litert' does not load .onnx files"),
        ((model, "--provider", "NoSuchProvider", *QUICK), 1, "NoSuchProvider"),
    ):
        ran = load(*arguments, "--json")
        assert (ran.code, ran.out) == (code, ""), (arguments, ran.err)
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_the_board_gives_the_same_document(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["load", str(model), *QUICK, "--rate", "200", "--store", str(tmp_path / "store"), "--profile", "x86"]
    assert cli.main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert document["device"]["name"] == "local"
    assert cli.main([*arguments, "--max-p99", "0.001us", "--requests", "100"]) == 3
    out = capsys.readouterr().out
    for part in ("tiny.onnx", "asked/s", "over", "do not keep p99 within 1.00 ns", "begun late", "verdict"):
        assert part in out
    assert cli.main(["load", str(tmp_path / "none.onnx")]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_quantities() -> None:
    assert [rate_per_s(text) for text in ("50/s", "50", "300/min", "1.5 / s", "7200/h")] == [50, 50, 5, 1.5, 2]
    assert [percent(text) for text in ("99", "p99.9", "50%", "95.5")] == [99, 99.9, 50, 95.5]
    for text in ("", "-1/s", "1e9/s", "50/day"):
        with pytest.raises(InvalidRequest, match="rate"):
            rate_per_s(text)
    for text in ("49", "100", "p", "9"):
        with pytest.raises(InvalidRequest, match="percentage"):
            percent(text)


def test_a_bound_asks_for_the_requests_that_its_judgement_needs() -> None:
    nothing = dict.fromkeys(
        ("max_p99", "max_latency", "percent", "warmup_time", "streams", "rate", "duration", "requests")
    )
    assert LoadOptions.of(nothing).min_requests == 100
    assert LoadOptions.of({**nothing, "max_p99": 0.02}).min_requests == 1056
    assert LoadOptions.of({**nothing, "max_latency": 0.02, "percent": 90.0}).min_requests < 120
    assert LoadOptions.of({**nothing, "max_p99": 0.02, "requests": 7}).min_requests == 7


def trial(rate: float | None, within: bool | None, **fields: Any) -> dict[str, Any]:
    latency = dict.fromkeys(("p50", "p90", "p99", "max", "mean", "at_percent"), 4e6)
    usual = {"served_per_s": rate or 80.0, "requests": 500, "unserved": 0, "latency_ns": latency, "over_bound": 0.004}
    return {"rate_per_s": rate, "within_bound": within, **usual, **fields}


def document_of(*trials: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual = {
        "streams": 2, "threads": 1, "cpus": None, "rate_per_s": None, "throughput_per_s": 80.0, "highest_rate_per_s": None,
        "lowest_rate_beyond_per_s": None, "bound": {"latency_ns": 2e7, "percent": 99.0, "confidence": 0.95},
        "dispatch_late_ns": None, "verdict": [], "notes": [], "load_ns": 1e6, "load_id": None,
    }  # fmt: skip
    return {**usual, "trials": list(trials), **fields}


def said(document: dict[str, Any]) -> list[str]:
    return answer(document, rate_text=render.number_text, time_text=render.latency_text)


def test_the_answer_in_words() -> None:
    how = "(2 streams, 1 thread each)"
    found = document_of(
        trial(None, None), trial(41.2, True), trial(60.0, False), trial(50.0, None),
        highest_rate_per_s=41.2, lowest_rate_beyond_per_s=60.0,
    )  # fmt: skip
    assert said(found) == [
        f"up to 41.2 requests/s with p99 within 20.0 ms {how}",
        "undecided from there to 60.0 requests/s, which do not keep it: a longer --duration narrows that",
    ]
    assert is_within(found) is True
    decided = document_of(
        trial(None, None), trial(41.2, True), trial(42.0, False), highest_rate_per_s=41.2, lowest_rate_beyond_per_s=42.0
    )
    assert said(decided)[1] == "42.0 requests/s do not keep it"
    full = document_of(trial(None, None), trial(79.0, True), highest_rate_per_s=79.0)
    assert said(full)[1] == "its limit is 80.0 requests/s, its throughput in a closed loop"
    nothing = document_of(trial(None, None), trial(40.0, None), trial(20.0, False), lowest_rate_beyond_per_s=20.0)
    assert said(nothing) == [f"no rate was shown to keep p99 within 20.0 ms {how}, down to 20.0 requests/s"]
    assert is_within(nothing) is False
    alone = document_of(trial(None, None))
    assert said(alone)[0].startswith(f"no rate keeps p99 within 20.0 ms {how}: a request alone takes longer")
    closed = document_of(trial(None, None), bound=None)
    assert said(closed) == [f"80.0 requests/s in a closed loop {how}"]
    assert is_within(closed) is None
    grew = document_of(trial(90.0, None, unserved=12), bound=None, rate_per_s=90.0)
    assert said(grew) == [f"90.0 requests/s are too many {how}: the queue only grew, and 12 requests were given up"]
    for within, words in ((True, "with p99 within"), (False, "do not keep p99 within"), (None, "cannot be told")):
        judged = document_of(trial(30.0, within), rate_per_s=30.0)
        assert words in said(judged)[0]
        assert "0.4 % of requests were over it" in said(judged)[0]
        assert is_within(judged) is bool(within)


def test_another_percentile_has_a_column_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    document = document_of(
        trial(None, None, over_bound=None),
        trial(60.0, False, unserved=7),
        bound={"latency_ns": 2e7, "percent": 99.9, "confidence": 0.95},
        artifact={"name": "net.onnx", "size_bytes": 5},
        device={"name": "pi4", "board": "Pi", "cpu": "A72", "cores": 4},
        runtime={"name": "onnxruntime", "version": "1", "provider": "CPUExecutionProvider"},
        settings=dict.fromkeys(
            ("provider_options", "cpu_group", "nice", "batch", "graph_optimization", "memory_arena")
        ) | {"inputs": "random"},
    )  # fmt: skip
    print_load(document)
    out = capsys.readouterr().out
    for part in ("p99.9", "unserved", "  7  ", "within", " no"):
        assert part in out
    assert max(len(line) for line in out.splitlines()) <= render.PIPED_WIDTH
