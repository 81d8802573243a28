"""Node times of whole jobs in workers, for every runtime: what there is, and why there is nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from device_agent.contract.artifact import Artifact, ArtifactFormat
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


def test_a_graph_that_was_not_written_leaves_the_sources_out(tmp_path: Path) -> None:
    path = trace_of(tmp_path, [[event("/0/Conv", "Conv", 0, 5)]])
    (node,) = onnxruntime_profile.read(path, file=MODELS / "tiny.onnx", folder=tmp_path)
    assert node.sources == ()
