"""Node times of whole jobs in workers, for every runtime: what there is, and why there is nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.document import layers_document
from device_agent.contract.measurement import ArtifactResult, Measurement, MeasureResult, NodeTime, Run, RunKind
from device_agent.contract.settings import GraphOptimization, MeasureRequest, Settings, Stopping
from device_agent.runtimes import onnxruntime_profile, registry
from device_agent.runtimes.profiling import NoProfile
from device_agent.worker.launch import ArtifactFile, WorkerLimits, run_measure
from device_agent.worker.result import WorkerArtifact, WorkerResult

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
RUNTIMES = Path(__file__).parents[1] / "fixtures" / "runtimes"
QUICK = Stopping(warmup_runs=3, warmup_time_s=0, min_runs=40, min_time_s=0, max_time_s=5, precision=None)


def measured(path: Path, settings: Settings) -> WorkerArtifact:
    content = path.read_bytes()
    file = ArtifactFile(
        path=path,
        artifact=Artifact(
            sha256=hashlib.sha256(content).hexdigest(),
            format=ArtifactFormat.of_suffix(path.suffix),
            size_bytes=len(content),
            name=path.name,
        ),
    )
    request = MeasureRequest(artifacts=(file.artifact.sha256,), settings=settings, stopping=QUICK, profile_nodes=True)

    async def scenario() -> WorkerResult:
        found = [
            event
            async for event in run_measure(request, [file], limits=WorkerLimits(deadline_s=120), on_pid=lambda _: None)
            if isinstance(event, WorkerResult)
        ]
        return found[0]

    return asyncio.run(scenario()).artifacts[0]


def usable(name: str) -> None:
    reason = registry.get(name).info().unavailable
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("level", [None, *GraphOptimization])
def test_onnxruntime_names_the_sources_of_its_nodes(level: GraphOptimization | None) -> None:
    usable("onnxruntime")
    found = measured(MODELS / "tiny.onnx", Settings(threads=1, graph_optimization=level))
    assert found.nodes is not None
    assert found.nodes_unavailable is None
    sources = [name for node in found.nodes for name in node.sources]
    assert sorted(sources) == sorted(set(sources)), "no node of this file runs twice"
    assert {"/0/Conv", "/2/Conv", "/4/Conv", "/8/Gemm", "/1/Relu", "/3/Relu", "/5/Relu"} <= set(sources)
    for node in found.nodes:
        if not node.sources:
            assert node.op_type.startswith("Reorder"), "only changes of layout belong to none"
        if "/0/Conv" in node.sources:
            assert ("/1/Relu" in node.sources) == (level in (None, GraphOptimization.EXTENDED, GraphOptimization.ALL))


def test_litert_times_its_operators_in_a_worker() -> None:
    usable("litert")
    found = measured(MODELS / "nested.tflite", Settings(runtime="litert", threads=1))
    if found.nodes is None:
        pytest.skip(str(found.nodes_unavailable))
    assert {"Convolution", "Fully Connected", "Clamp"} <= {node.op_type for node in found.nodes}
    assert all(node.runs >= 40 for node in found.nodes), "warm-up is left out"


def test_tflite_runtime_tells_why_it_has_no_times() -> None:
    usable("tflite-runtime")
    found = measured(MODELS / "tiny.tflite", Settings(runtime="tflite-runtime", threads=1))
    assert found.nodes is None
    assert "litert times the operators" in str(found.nodes_unavailable)


def test_a_runtime_without_a_profiler_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(RUNTIMES))
    monkeypatch.syspath_prepend(str(RUNTIMES))
    monkeypatch.setenv("BOARDFIT_RUNTIMES", "steady=boardfit_test_runtimes:SteadyRuntime")
    found = measured(MODELS / "tiny.onnx", Settings(runtime="steady"))
    assert found.nodes is None
    assert found.nodes_unavailable == "runtime steady tells no times of single nodes"


# The sum of the nodes against the plain runs.


def of_runs(runs: list[tuple[RunKind, int, bool]], nodes: tuple[NodeTime, ...] | None) -> Measurement:
    """A measurement whose runs have these latencies in nanoseconds, one after the other."""
    made = tuple(
        Run(artifact=0, kind=kind, turn=place, start_ns=place * 1000, latency_ns=latency, disturbed=disturbed)
        for place, (kind, latency, disturbed) in enumerate(runs)
    )
    result = ArtifactResult(
        sha256="0" * 64,
        load_ns=1,
        provider="p",
        provider_share=None,
        peak_memory_bytes=None,
        peak_rss_bytes=None,
        nodes=nodes,
        verdicts=(),
        nodes_unavailable=None if nodes else "why",
    )
    return Measurement(
        request=MeasureRequest(artifacts=("0" * 64,), profile_nodes=True),
        result=MeasureResult(
            runtime="r", runtime_version="1", threads=1, artifacts=(result,), device_time_ns=1, steal_fraction=None
        ),
        runs=made,
        readings=(),
    )


NODES = tuple(NodeTime(name=name, op_type="Conv", median_ns=400.0, share=0.5, runs=9) for name in "ab")


def test_only_plain_runs_beside_the_profiled_ones_count() -> None:
    runs = [(RunKind.TIMED, 1000, False), (RunKind.PROFILED, 1500, False)] * 5 + [(RunKind.TIMED, 9000, False)] * 50
    total = layers_document(of_runs(runs, NODES), 0)["layers_total"]
    assert total == {"sum_ns": 800.0, "plain_ns": 1000.0, "ratio": 0.8}


def test_disturbed_runs_do_not_count_where_enough_others_are() -> None:
    profiled = [(RunKind.PROFILED, 1500, False)]
    many = [(RunKind.TIMED, 1000, False)] * 40 + [(RunKind.TIMED, 5000, True)] * 60 + profiled
    assert layers_document(of_runs(many, NODES), 0)["layers_total"]["plain_ns"] == 1000.0
    few = [(RunKind.TIMED, 1000, False)] * 4 + [(RunKind.TIMED, 5000, True)] * 60 + profiled
    assert layers_document(of_runs(few, NODES), 0)["layers_total"]["plain_ns"] == 5000.0


def test_without_nodes_there_is_a_reason_and_no_sum() -> None:
    runs = [(RunKind.TIMED, 1000, False)]
    assert layers_document(of_runs(runs, None), 0) == {
        "layers": None,
        "layers_total": None,
        "layers_unavailable": "why",
    }


# The trace, as ONNX Runtime writes it.


def event(name: str, op_type: str, index: int, duration_us: int) -> dict[str, object]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": duration_us,
        "args": {"op_name": op_type, "node_index": str(index), "output_type_shape": [{"float": [1, 8]}]},
    }


def trace_of(tmp_path: Path, runs: list[list[dict[str, object]]]) -> Path:
    path = tmp_path / "trace.json"
    session = {"cat": "Session", "name": "model_run", "dur": 99, "args": {}}
    path.write_text(json.dumps([session, *(one for run in runs for one in run)]))
    return path


def test_a_trace_gives_medians_shares_and_shapes(tmp_path: Path) -> None:
    runs = [[event("a", "Conv", 0, 900), event("b", "Relu", 1, 900)]]
    runs += [[event("a", "Conv", 0, 5), event("b", "Relu", 1, 0)]] * 3
    first, second = onnxruntime_profile.read(trace_of(tmp_path, runs), skip=1)
    assert (first.name, first.op_type, first.runs, first.output_shapes) == ("a", "Conv", 3, ((1, 8),))
    assert (first.median_ns, second.median_ns) == (5500, 500)
    assert first.share == pytest.approx(11 / 12)
    assert first.sources == ()


def test_nodes_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    runs = [[event("", "Conv", 0, 5), event("", "Conv", 1, 7)]]
    assert [node.median_ns for node in onnxruntime_profile.read(trace_of(tmp_path, runs))] == [5500, 7500]


def test_a_trace_without_nodes_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match="shows no nodes"):
        onnxruntime_profile.read(trace_of(tmp_path, []))


def test_a_session_whose_graph_cannot_be_written_is_made_without(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    def compiled(options: object) -> object:
        (tmp_path / "optimized.onnx").write_bytes(b"a part")
        raise RuntimeError("Unable to serialize model as it contains compiled nodes")

    assert onnxruntime_profile.keeping_graph(onnxruntime.SessionOptions(), tmp_path, compiled) is None
    assert list(tmp_path.iterdir()) == []
    assert onnxruntime_profile.keeping_graph(onnxruntime.SessionOptions(), tmp_path, lambda _: "session") == "session"


def test_a_graph_that_was_not_written_leaves_the_sources_out(tmp_path: Path) -> None:
    path = trace_of(tmp_path, [[event("/0/Conv", "Conv", 0, 5)]])
    (node,) = onnxruntime_profile.read(path, file=MODELS / "tiny.onnx", folder=tmp_path)
    assert node.sources == ()
