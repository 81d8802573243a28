"""`host bench` against a real agent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_schemas import validate

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import DeviceInfo, RuntimeInfo
from device_agent.contract.document import bench_document
from device_agent.contract.errors import InvalidRequest, RuntimeUnavailable
from device_agent.contract.measurement import (
    ArtifactResult,
    Measurement,
    MeasureResult,
    Run,
    RunKind,
    Verdict,
    VerdictCode,
)
from device_agent.contract.settings import MeasureRequest
from host.fleet.benchmark import choose_runtime
from host.results.store import ResultStore

FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"
QUICK = ("--min-runs", "40", "--min-time", "0.1", "--max-time", "2")


@pytest.fixture
def bench(host: Callable[..., Any], agent: Any) -> Callable[..., Any]:
    assert host("devices", "add", "board", agent.address).code == 0
    return lambda *arguments: host("bench", *map(str, arguments), "--device", "board")


def test_the_document_keeps_to_its_schema_and_the_history(bench: Callable[..., Any], model: Path) -> None:
    ran = bench(model, *QUICK, "--threads", 1, "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    validate(document, "bench")
    assert document["artifact"]["name"] == "tiny.onnx"
    assert document["runtime"]["name"] == "onnxruntime"
    assert document["threads"] == 1
    assert document["runs"] >= 40
    assert document["energy_j_per_run"] is None
    assert document["energy_unavailable"]
    with ResultStore.open() as store:
        stored = store.get_measurement(document["measurement_id"])
    latencies = stored.measurement.latencies_ns()
    assert min(latencies) == document["latency_ns"]["min"]
    assert len(latencies) == document["runs"]
    assert stored.artifact_names == ("tiny.onnx",)


def test_layers_and_no_store(bench: Callable[..., Any], model: Path, folders: Path) -> None:
    ran = bench(model, *QUICK, "--threads", 1, "--json", "--layers", "--no-store")
    assert ran.code == 0, ran.err
    validate(ran.document, "bench")
    assert {layer["op_type"] for layer in ran.document["layers"]} >= {"MatMul"}
    assert sum(layer["share"] for layer in ran.document["layers"]) == pytest.approx(1)
    assert ran.document["measurement_id"] is None
    assert not (folders / "data" / "boardfit").exists()


def test_the_table(bench: Callable[..., Any], model: Path) -> None:
    ran = bench(model, *QUICK, "--threads", 1, "--layers")
    assert ran.code == 0, ran.err
    for part in ("tiny.onnx", "board", "1 thread\n", "p50", "p99", "all runs", "verdict", "peak memory", "MB"):
        assert part in ran.out
    assert re.search(r"energy per run +– \(", ran.out)
    assert "MatMul" in ran.out
    assert "measurement 1" in ran.out


def test_every_setting_reaches_the_device(bench: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "x.npz"
    np.savez(inputs, x=np.zeros((16, 64), np.float32))
    ran = bench(
        model, *QUICK, "--threads", 1, "--cpus", "0", "--nice", 3, "--graph-optimization", "basic", "--no-memory-arena",
        "--inputs", inputs, "--warmup-time", "100ms", "--memory-limit", "2G", "--timeout", "5min", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    document = ran.document
    validate(document, "bench")
    assert document["cpus"] == [0]
    asked = document["settings"]
    assert (asked["nice"], asked["graph_optimization"], asked["memory_arena"]) == (3, "basic", False)
    assert asked["inputs"] == "data"
    assert asked["inputs_sha256"]
    with ResultStore.open() as store:
        environment = store.get_measurement(document["measurement_id"]).environment()
    assert (environment.cpus, environment.nice, environment.inputs) == ((0,), 3, "data")


def test_two_models_are_measured_in_turns(bench: Callable[..., Any], model: Path) -> None:
    ran = bench(model, FIXTURES / "tiny.onnx", *QUICK, "--threads", 1, "--difference", "3%", "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    validate(document, "compare_bench")
    names = (f"{model.parent.name}/tiny.onnx", "models/tiny.onnx")
    assert tuple(artifact["name"] for artifact in document["artifacts"]) == names
    (comparison,) = document["comparisons"]
    assert comparison["artifact"] == 1
    assert comparison["difference"] == 0.03
    with ResultStore.open() as store:
        stored = store.get_measurement(document["measurement_id"])
    assert stored.artifact_names == names
    assert len(stored.measurement.latencies_ns(1)) == document["artifacts"][1]["runs"]


def test_a_soak_and_cold_starts(bench: Callable[..., Any], model: Path) -> None:
    ran = bench(model, "--soak", "1s", "--cold-starts", 2, "--threads", 1, "--warmup-time", "100ms", "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    validate(document, "bench")
    assert document["cold_starts"]["count"] == 2
    assert document["memory"]["runtime_bytes"] > 0
    windows = document["soak"]["windows"]
    assert sum(window["runs"] for window in windows) == document["runs"]
    # It may end a turn late, on a busy machine much later; it never ends early.
    assert windows[-1]["end_s"] >= 0.99


def test_the_table_of_several_models(bench: Callable[..., Any], model: Path) -> None:
    ran = bench(model, model, *QUICK, "--threads", 1, "--layers")
    assert ran.code == 0, ran.err
    for part in ("2 models in turns on board", "tiny.onnx (1)", "tiny.onnx (2)", "baseline", "MatMul", "measurement 1"):
        assert part in ran.out
    assert re.search(r"tiny.onnx \(2\) +(faster|slower|undecided|no difference of 2 % or more): \d\.\d{3}x", ran.out)


def test_what_cannot_be_measured(bench: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("x")
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"no protobuf at all" * 10)
    for arguments, code, said in (
        ((tmp_path / "none.onnx",), 2, "there is no model file"),
        ((tmp_path / "net.pt2",), 2, "exported programs cannot be measured yet"),
        ((text,), 2, "another type than .onnx and .tflite"),
        ((corrupt, *QUICK), 1, "corrupt.onnx"),
        ((model, "--runtime", "litert"), 2, "'litert' does not load .onnx files; onnxruntime can"),
        ((model, "--provider", "NoSuchProvider", *QUICK), 1, "NoSuchProvider"),
        ((model, "--precision", "2"), 2, "'2' is not a share"),
        ((model, "--min-time", "5", "--max-time", "1"), 2, "--min-time 5s is longer than --max-time 1s"),
        ((model, "--cpus", "0-"), 2, "is not a list of processor numbers"),
        ((model, "--cpus", "3-1"), 2, "from a lower processor number to a higher one"),
        ((model, "--cpus", "0-99999999999"), 2, "from a lower processor number to a higher one"),
        ((model, "--threads", "0"), 2, "--threads"),
        ((model, "--cpus", "4095"), 2, "--cpus 4095: this device lets the agent use"),
        ((model, "--soak", "1min", "--precision", "1%"), 2, "--precision has no effect with --soak"),
        ((model, "--difference", "1%"), 2, "--difference compares several models"),
        ((model, FIXTURES / "tiny.tflite"), 2, "need different runtimes"),
        ((tmp_path,), 2, "is a folder; give a model file in it, such as"),
        (("no_such_net",), 1, "there is no model 'no_such_net' in the zoo"),
    ):
        ran = bench(*arguments, "--json")
        assert (ran.code, ran.out) == (code, ""), (arguments, ran.err)
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_errors_use_the_name_that_was_given_now(bench: Callable[..., Any], tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    for path in (first, second):
        path.write_bytes(b"no protobuf at all" * 10)
    assert "'first.onnx'" in bench(first, *QUICK).err
    ran = bench(second, *QUICK)
    assert ran.code == 1
    assert "'second.onnx'" in ran.err
    assert "first.onnx" not in ran.err
    assert "push it again" not in ran.err


def test_no_device(host: Callable[..., Any], model: Path) -> None:
    assert host("bench", str(model), "--device", "nope").code == 2
    host("devices", "add", "gone", "127.0.0.1:1", "--force")
    gone = host("bench", str(model), "--device", "gone")
    assert gone.code == 4
    assert "127.0.0.1:1" in gone.err


def test_local_needs_no_set_up(host: Callable[..., Any], model: Path) -> None:
    ran = host("bench", str(model), "--device", "local", *QUICK, "--cpus", "0", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["device"]["name"] == "local"
    again = host("bench", str(model), "--device", "local", *QUICK, "--json")
    assert again.document["device"]["id"] == ran.document["device"]["id"]


def test_a_module_of_the_users_is_exported(
    bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "users_net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 4)), (3, 8, 8)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = bench("users_net:make", *QUICK, "--threads", 1, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["artifact"]["name"] == "make.onnx"
    missing = bench("users_net:other", *QUICK)
    assert missing.code == 1
    assert "no callable named other" in missing.err


def info(*runtimes: RuntimeInfo) -> DeviceInfo:
    return DeviceInfo(
        device_id="d",
        agent_version="0.1.0",
        contract_version=1,
        profile=None,
        board="b",
        architecture="x86_64",
        cpu="c",
        cores=1,
        memory_bytes=1,
        operating_system="o",
        kernel="k",
        python="3.11",
        governor=None,
        default_threads=1,
        runtimes=runtimes,
        channels=(),
    )


def runtime(name: str, format_: ArtifactFormat, unavailable: str | None = None) -> RuntimeInfo:
    return RuntimeInfo(name=name, version="1", formats=(format_,), providers=("CPU",), unavailable=unavailable)


def test_the_runtime_follows_the_file_and_the_device() -> None:
    onnx = runtime("onnxruntime", ArtifactFormat.ONNX)
    litert, tflite = (runtime(name, ArtifactFormat.TFLITE) for name in ("litert", "tflite-runtime"))
    broken = runtime("litert", ArtifactFormat.TFLITE, unavailable="needs glibc 2.34")
    every = info(onnx, litert, tflite)
    assert choose_runtime(every, ArtifactFormat.ONNX, None, device="d") == "onnxruntime"
    assert choose_runtime(every, ArtifactFormat.TFLITE, None, device="d") == "litert"
    assert choose_runtime(every, ArtifactFormat.TFLITE, "tflite-runtime", device="d") == "tflite-runtime"
    assert choose_runtime(info(broken, tflite), ArtifactFormat.TFLITE, None, device="d") == "tflite-runtime"
    with pytest.raises(RuntimeUnavailable, match=r"'d' cannot run \.tflite.*glibc.*unknown to its agent"):
        choose_runtime(info(broken), ArtifactFormat.TFLITE, None, device="d")
    with pytest.raises(InvalidRequest):
        choose_runtime(every, ArtifactFormat.ONNX, "litert", device="d")
    added = runtime("acme", ArtifactFormat.ONNX)
    assert choose_runtime(info(onnx, added), ArtifactFormat.ONNX, "acme", device="d") == "acme"
    assert choose_runtime(info(onnx, added), ArtifactFormat.ONNX, None, device="d") == "onnxruntime"
    with pytest.raises(InvalidRequest, match=r"'d' has no runtime 'acme'; its agent knows .*onnxruntime"):
        choose_runtime(every, ArtifactFormat.ONNX, "acme", device="d")
    with pytest.raises(InvalidRequest, match=r"'acme' does not load \.tflite files"):
        choose_runtime(info(litert, added), ArtifactFormat.TFLITE, "acme", device="d")


@pytest.mark.parametrize(
    ("runs", "undisturbed", "given"), [(100, 30, True), (100, 29, False), (200, 40, True), (200, 39, False)]
)
def test_undisturbed_runs_count_from_thirty_and_a_fifth(runs: int, undisturbed: int, given: bool) -> None:
    made = tuple(
        Run(
            artifact=0,
            kind=RunKind.TIMED,
            turn=0,
            start_ns=number,
            latency_ns=1000 if number < undisturbed else 5000,
            disturbed=number >= undisturbed,
        )
        for number in range(runs)
    )
    result = ArtifactResult(
        sha256="0" * 64,
        load_ns=1,
        provider="CPU",
        provider_share=None,
        peak_memory_bytes=None,
        peak_rss_bytes=None,
        nodes=None,
        verdicts=(Verdict(code=VerdictCode.STABLE),),
    )
    document = bench_document(
        Measurement(
            request=MeasureRequest(artifacts=("0" * 64,)),
            result=MeasureResult(
                runtime="litert",
                runtime_version="1",
                threads=1,
                artifacts=(result,),
                device_time_ns=1,
                steal_fraction=None,
            ),
            runs=made,
            readings=(),
        ),
        artifact=Artifact(sha256="0" * 64, format=ArtifactFormat.TFLITE, size_bytes=1, name="m.tflite"),
        device_name="d",
        device=info(),
        measurement_id=None,
    )
    validate(document, "bench")
    assert (document["latency_undisturbed_ns"] is not None) is given
    if given:
        assert document["latency_undisturbed_ns"]["p50"] == 1000
    assert document["latency_ns"]["p50"] == 5000
    assert document["peak_memory_bytes"] is None


def test_several_devices_have_a_line_each(host: Callable[..., Any], model: Path, agent: Any) -> None:
    for name, address in (("here", agent.address), ("gone", "127.0.0.1:1")):
        assert host("devices", "add", name, address, "--force", "--tag", "lab").code == 0
    ran = host("bench", str(model), "--device", "tag:lab", "--json", *QUICK)
    assert ran.code == 1
    gone, here = ran.document["devices"]
    assert (gone["name"], gone["bench"]) == ("gone", None)
    assert "127.0.0.1:1" in gone["error"]
    assert (here["name"], here["error"]) == ("here", None)
    assert here["bench"]["device"]["name"] == "here"
    assert here["bench"]["latency_ns"]["p50"] > 0
    two = host("bench", str(model), str(model), "--device", "tag:lab")
    assert two.code == 2
    assert "host sweep" in two.err
