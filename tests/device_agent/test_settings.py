"""Each setting by its effect: in a worker, on a runtime, on what a model is fed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifact_files import file_of

from device_agent import profiles
from device_agent.agent import complete_settings
from device_agent.board import describe_board
from device_agent.contract.errors import InvalidRequest, ModelRejected
from device_agent.contract.settings import (
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)
from device_agent.runtimes import registry
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime
from device_agent.worker.inputs import make_inputs
from device_agent.worker.launch import WorkerLimits, open_infer, run_measure
from device_agent.worker.result import WorkerResult

np = pytest.importorskip("numpy")

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
RUNTIMES = Path(__file__).parents[1] / "fixtures" / "runtimes"
QUICK = Stopping(warmup_runs=2, warmup_time_s=0, min_runs=5, min_time_s=0, max_time_s=1, precision=None)
TELLING = Settings(runtime="telling", threads=1)


@pytest.fixture(autouse=True)
def _test_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RUNTIMES))
    targets = [f"{name.lower()}=boardfit_test_runtimes:{name}Runtime" for name in ("Steady", "Telling")]
    monkeypatch.setenv("BOARDFIT_RUNTIMES", ",".join(targets))


def usable(name: str) -> Runtime:
    runtime = registry.get(name)
    reason = runtime.info().unavailable
    if reason is not None:
        pytest.skip(reason)
    return runtime


def measure(path: Path, settings: Settings, *, data: Path | None = None, **changes: object) -> WorkerResult:
    """Measure shortly in a worker. `data` is the file of the inputs, named in the settings here."""
    model = file_of(path)
    inputs = None if data is None else file_of(data)
    if inputs is not None:
        settings = replace(settings, inputs=InputKind.DATA, inputs_sha256=inputs.artifact.sha256)
    request = MeasureRequest(artifacts=(model.artifact.sha256,), settings=settings, stopping=QUICK)

    async def scenario() -> WorkerResult:
        limits = WorkerLimits(deadline_s=120)
        async for event in run_measure(
            replace(request, **changes), [model], limits=limits, on_pid=lambda _: None, data=inputs
        ):
            if isinstance(event, WorkerResult):
                return event
        raise AssertionError("no result")

    return asyncio.run(scenario())


def told(settings: Settings, *, data: Path | None = None) -> dict[str, Any]:
    """Return what the telling runtime was given."""
    found: dict[str, Any] = json.loads(
        measure(MODELS / "tiny.onnx", settings, data=data).artifacts[0].provider  # any file will do
    )
    return found


# Where and how the worker runs.


def test_every_thread_of_the_worker_has_the_niceness() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    found = told(replace(TELLING, nice=min(19, own + 7)))["nice"]
    assert set(found) == {min(19, own + 7)}
    assert set(told(TELLING)["nice"]) == {own}


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="a kernel without autogroups")
def test_a_session_of_its_own_gets_the_niceness_as_well() -> None:
    code = "from device_agent.worker.process import set_nice; set_nice(7); print(open('/proc/self/autogroup').read())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, start_new_session=True)
    assert done.stdout.strip().endswith("nice 7"), done.stdout + done.stderr


def test_a_niceness_that_the_agent_may_not_give_is_refused_with_what_to_do() -> None:
    code = (
        "import os\n"
        "from device_agent.worker.process import set_nice\n"
        "from device_agent.contract.errors import InvalidRequest\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: set_nice(-5)\n"
        "except InvalidRequest as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "nice=-5: this agent has niceness" in done.stdout, done.stderr
    assert "CAP_SYS_NICE" in done.stdout


def test_the_result_says_where_the_worker_was_pinned() -> None:
    last = max(os.sched_getaffinity(0))
    assert measure(MODELS / "tiny.onnx", replace(TELLING, cpus=(last,))).cpus == (last,)
    assert measure(MODELS / "tiny.onnx", TELLING).cpus is None


def processors(root: Path, name: str, sizes: dict[int, int], offline: tuple[int, ...] = ()) -> Path:
    for number, size in sizes.items():
        path = root / f"sys/devices/system/cpu/cpu{number}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{size}\n")
        if number:
            path = root / f"sys/devices/system/cpu/cpu{number}/online"
            path.write_text("0\n" if number in offline else "1\n")
    return root


CAPACITY, CLOCK = "cpu_capacity", "cpufreq/cpuinfo_max_freq"


@pytest.mark.parametrize(
    ("name", "sizes", "offline", "big", "little"),
    [
        pytest.param(CAPACITY, {0: 485, 1: 485, 2: 1024, 3: 1024}, (), (2, 3), (0, 1), id="two kinds"),
        pytest.param(CAPACITY, {0: 286, 1: 286, 2: 760, 3: 760, 4: 1024}, (), (4,), (0, 1), id="three kinds"),
        pytest.param(CLOCK, {0: 1_800_000, 1: 1_800_000, 2: 2_400_000}, (), (2,), (0, 1), id="clocks"),
        pytest.param(CAPACITY, {0: 400, 1: 1024, 2: 985, 10: 1003}, (), (1, 2, 10), (0,), id="binned"),
        pytest.param(CAPACITY, {0: 485, 1: 485, 2: 1024, 3: 1024}, (3,), (2,), (0, 1), id="one is offline"),
    ],
)
def test_a_group_is_the_processors_of_one_kind_and_sets_the_threads(
    tmp_path: Path,
    name: str,
    sizes: dict[int, int],
    offline: tuple[int, ...],
    big: tuple[int, ...],
    little: tuple[int, ...],
) -> None:
    board = describe_board(processors(tmp_path, name, sizes, offline), usable_cpus=len(sizes))
    for group, cpus in ((CpuGroup.BIG, big), (CpuGroup.LITTLE, little)):
        found = complete_settings(Settings(cpu_group=group), board, None)
        assert (found.cpus, found.cpu_group, found.threads) == (cpus, None, len(cpus))
    few = replace(profiles.get("pi4"), threads=1)
    assert complete_settings(Settings(cpu_group=CpuGroup.LITTLE), board, few).threads == 1
    assert complete_settings(Settings(cpu_group=CpuGroup.LITTLE, threads=7), board, few).threads == 7


@pytest.mark.parametrize(
    ("name", "sizes"),
    [(CAPACITY, {0: 1024, 1: 1024}), (CLOCK, {0: 4_700_000, 1: 4_900_000}), (CAPACITY, {})],
    ids=["alike", "favoured cores", "unknown"],
)
def test_where_all_processors_are_alike_a_group_is_refused(tmp_path: Path, name: str, sizes: dict[int, int]) -> None:
    board = describe_board(processors(tmp_path, name, sizes), usable_cpus=2)
    with pytest.raises(InvalidRequest, match=r"cpu_group=big: the processors of this device are all alike.*cpus"):
        complete_settings(Settings(cpu_group=CpuGroup.BIG), board, None)


def test_a_group_of_which_nothing_may_be_used_is_refused(tmp_path: Path) -> None:
    others = max(os.sched_getaffinity(0)) + 1
    root = processors(tmp_path, CAPACITY, {0: 400, others: 1024})
    board = describe_board(root)  # with the processors that this process may use
    assert complete_settings(Settings(cpu_group=CpuGroup.LITTLE), board, None).cpus == (0,)
    with pytest.raises(InvalidRequest, match="cpu_group=big: the agent may use none"):
        complete_settings(Settings(cpu_group=CpuGroup.BIG), board, None)


# What only some runtimes know.


@pytest.mark.parametrize(
    ("runtime", "change", "message"),
    [
        ("steady", {"memory_arena": True}, "runtime steady does not know the setting memory_arena. It takes none of"),
        (
            "telling",
            {"graph_optimization": GraphOptimization.ALL},
            "does not know.*graph_optimization. It takes memory_arena;",
        ),
        ("telling", {"provider_options": (("a", "1"),)}, "telling does not know the setting provider_options"),
        (
            "litert",
            {"graph_optimization": GraphOptimization.BASIC},
            "the interpreter has no levels. It takes provider_options",
        ),
        ("litert", {"memory_arena": False}, "memory_arena: the interpreter plans one arena"),
        ("tflite-runtime", {"memory_arena": False}, "memory_arena: the interpreter plans one arena"),
    ],
)
def test_a_setting_that_a_runtime_does_not_know_is_refused(runtime: str, change: dict[str, Any], message: str) -> None:
    settings = replace(Settings(runtime=runtime, threads=1), **change)
    with pytest.raises(InvalidRequest, match=message):
        measure(MODELS / "tiny.onnx", settings)

    async def infer() -> None:
        async with open_infer(settings, file_of(MODELS / "tiny.onnx"), limits=WorkerLimits(deadline_s=60)):
            pass

    with pytest.raises(InvalidRequest, match=message):
        asyncio.run(infer())


def test_a_setting_that_an_added_runtime_names_reaches_it() -> None:
    assert told(replace(TELLING, memory_arena=False))["memory_arena"] is False
    assert told(TELLING)["memory_arena"] is None


def test_graph_optimization_decides_how_many_nodes_run(tmp_path: Path) -> None:
    usable("onnxruntime")
    path = network(tmp_path)
    counts = {}
    for level in GraphOptimization:
        settings = Settings(threads=1, graph_optimization=level)
        nodes = measure(path, settings, profile_nodes=True).artifacts[0].nodes
        assert nodes is not None
        counts[level] = [node.op_type for node in nodes]
    assert counts[GraphOptimization.DISABLED] == ["Identity", "Conv", "Relu"]
    assert counts[GraphOptimization.BASIC] == ["Conv", "Relu"]
    assert counts[GraphOptimization.EXTENDED] == ["FusedConv"]
    assert any(kind in ("ReorderInput", "ReorderOutput") for kind in counts[GraphOptimization.ALL]) or counts[
        GraphOptimization.ALL
    ] == ["FusedConv"], "the last level chooses layouts where the processor has kernels for them"


def test_without_the_memory_arena_freed_memory_goes_back_to_the_system(tmp_path: Path) -> None:
    usable("onnxruntime")
    path = wide_network(tmp_path, mib=96)
    script = """
import sys, numpy as np
from pathlib import Path
from device_agent.runtimes.base import LoadOptions
from device_agent.runtimes.onnxruntime import OnnxRuntime
arena = {"True": True, "False": False, "None": None}[sys.argv[2]]
model = OnnxRuntime().load(Path(sys.argv[1]), LoadOptions(threads=1, memory_arena=arena))
model.bind({"x": np.ones(1, np.float32)})
model.run()
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    resident = {
        arena: int(subprocess.check_output([sys.executable, "-c", script, str(path), arena], env=environment)) / 1024
        for arena in ("True", "False", "None")
    }
    assert resident["True"] - resident["False"] > 64
    assert resident["None"] - resident["False"] > 64, "the runtime's own default is to keep it"


def test_options_that_a_provider_of_onnxruntime_would_drop_are_refused() -> None:
    runtime = usable("onnxruntime")
    load: Callable[[str], LoadedModel] = lambda provider: runtime.load(  # noqa: E731
        MODELS / "tiny.onnx", LoadOptions(threads=1, provider=provider, provider_options=(("arena", "1"),))
    )
    with pytest.raises(InvalidRequest, match=r"CPUExecutionProvider has no options, so arena would do nothing"):
        load("CPUExecutionProvider")
    if "AzureExecutionProvider" in runtime.info().providers:
        with pytest.raises(
            InvalidRequest, match="AzureExecutionProvider does not heed the option arena and tells of none"
        ):
            load("AzureExecutionProvider")


def test_options_reach_a_provider_of_onnxruntime_that_has_some() -> None:
    runtime = usable("onnxruntime")
    if "OpenVINOExecutionProvider" not in runtime.info().providers:
        pytest.skip("this build of ONNX Runtime has no provider with options that runs on any processor")

    def load(*options: tuple[str, str]) -> LoadedModel:
        named = LoadOptions(threads=1, provider="OpenVINOExecutionProvider", provider_options=options)
        return runtime.load(MODELS / "tiny.onnx", named)

    assert load(("device_type", "CPU"), ("num_of_threads", "2")).provider()[0] == "OpenVINOExecutionProvider"
    with pytest.raises(InvalidRequest, match=r"refuses its options \(frobnicate=1\): .*frobnicate"):
        load(("frobnicate", "1"))


def test_options_of_the_delegate_reach_the_interpreter() -> None:
    runtime = usable("litert")

    def delegates(*options: tuple[str, str]) -> int:
        model = runtime.load(MODELS / "tiny.tflite", LoadOptions(threads=1, provider_options=options))
        return sum(one["op_name"] == "DELEGATE" for one in model._interpreter._get_ops_details())  # type: ignore[attr-defined]

    fused = delegates()
    assert delegates(("disable_delegate_node_fusion", "false")) == fused
    assert delegates(("disable_delegate_node_fusion", "true")) > fused


@pytest.mark.parametrize("name", ["litert", "tflite-runtime"])
@pytest.mark.parametrize(
    ("provider", "options", "message"),
    [
        (None, (("flags", "3"),), "flags=3 is no option of XNNPACK here; it takes .*disable_delegate_clustering"),
        (None, (("disable_delegate_clustering", "yes"),), "each true or false"),
        ("CPU", (("disable_delegate_clustering", "true"),), "the built-in kernels have no options"),
    ],
)
def test_options_that_no_delegate_has_are_refused(
    name: str, provider: str | None, options: tuple[tuple[str, str], ...], message: str
) -> None:
    runtime = usable(name)
    with pytest.raises(InvalidRequest, match=message):
        runtime.load(MODELS / "tiny.tflite", LoadOptions(threads=1, provider=provider, provider_options=options))


# What a model is fed.


def test_the_batch_is_the_first_dimension_of_every_input() -> None:
    arrays = told(replace(TELLING, batch=3))["arrays"]
    assert (len(arrays["x"]), len(arrays["x"][0]), len(arrays["n"])) == (3, 2, 3)
    arrays = told(TELLING)["arrays"]
    assert (len(arrays["x"]), len(arrays["n"])) == (1, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "litert", "tflite-runtime"])
def test_a_batch_other_than_the_fixed_one_is_refused_with_the_shape(name: str) -> None:
    usable(name)
    path = MODELS / ("tiny.onnx" if name == "onnxruntime" else "tiny.tflite")
    settings = Settings(runtime=name, threads=1)
    with pytest.raises(InvalidRequest, match=rf"model '{path.name}': batch=4: input '.*' has shape \[1, 3, 16, 16\]"):
        measure(path, replace(settings, batch=4))
    assert measure(path, replace(settings, batch=1)).artifacts[0].load_ns > 0


@pytest.mark.parametrize("name", ["onnxruntime", "litert"])
def test_a_model_with_a_dynamic_first_dimension_runs_in_batches(name: str, tmp_path: Path) -> None:
    runtime = usable(name)
    path = dynamic_onnx(tmp_path) if name == "onnxruntime" else dynamic_tflite(tmp_path)
    model = runtime.load(path, LoadOptions(threads=1))
    assert model.inputs[0].shape == (None, 3, 16, 16)
    for batch in (4, None):
        model.bind(make_inputs(model.inputs, Settings(runtime=name, batch=batch), 0, None))
        model.run()
        [output] = model.results().values()
        assert output.shape[0] == (batch or 1)
        assert np.isfinite(output).all()


def test_zeros_are_zeros() -> None:
    arrays = told(replace(TELLING, inputs=InputKind.ZEROS, batch=2))["arrays"]
    assert arrays == {"x": [[0.0, 0.0], [0.0, 0.0]], "n": [0, 0]}
    assert told(TELLING)["arrays"]["x"] != [[0.0, 0.0]]


@pytest.mark.parametrize("save", ["savez", "savez_compressed"])
def test_data_inputs_are_the_first_samples_of_the_file(tmp_path: Path, save: str) -> None:
    path = tmp_path / "inputs.npz"
    samples = np.arange(10, dtype="float32").reshape(5, 2)
    getattr(np, save)(path, x=samples, n=np.arange(5) + 7, labels=np.ones(5))
    assert told(replace(TELLING, batch=3), data=path)["arrays"] == {"x": samples[:3].tolist(), "n": [7, 8, 9]}
    assert told(TELLING, data=path)["arrays"] == {"x": [[0.0, 1.0]], "n": [7]}


def test_data_in_columns_and_of_the_other_byte_order_is_read_right(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    samples = np.arange(8, dtype=">f4").reshape(4, 2)
    np.savez(path, x=np.asfortranarray(samples), n=np.arange(4, dtype=">i8"))
    assert told(replace(TELLING, batch=3), data=path)["arrays"] == {"x": samples[:3].tolist(), "n": [0, 1, 2]}


GOOD = {"x": np.zeros((4, 2), "float32"), "n": np.zeros(4, "int64")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, r"has no array for input 'x'; it has \['n'\], and the model takes \['n', 'x'\]"),
        ({"x": np.zeros((4, 2))}, r"input 'x' wants float32 \[4, 2\], and data 'inputs.npz' has float64 \[4, 2\]"),
        ({"x": np.zeros((4, 3), "float32")}, r"input 'x' wants float32 \[4, 2\], and .* has float32 \[4, 3\]"),
        ({"n": np.zeros(3, "int64")}, r"input 'n' wants int64 \[4\], and .* has int64 \[3\]"),
        ({"n": np.zeros((4, 1), "int64")}, r"input 'n' wants int64 \[4\], and .* has int64 \[4, 1\]"),
        ({"n": np.array([1, "a", None, {}], dtype=object)}, r"has object \[4\]: Python objects, which are never read"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_input_wanted_and_given(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, **{name: array for name, array in {**GOOD, **change}.items() if array is not None})
    with pytest.raises(InvalidRequest, match=f"model 'tiny.onnx': .*{message}"):
        told(replace(TELLING, batch=4), data=path)


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, **GOOD)
    path.write_bytes(b"hello" if damage == "text" else path.read_bytes()[:-30])
    with pytest.raises(InvalidRequest, match=r"data 'inputs.npz' is no .npz file that can be read: .*numpy.savez"):
        told(TELLING, data=path)


def test_data_as_a_model_and_a_model_as_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, **GOOD)
    with pytest.raises(InvalidRequest, match=r"'inputs.npz' is a file of input arrays and no model"):
        measure(path, TELLING)
    with pytest.raises(InvalidRequest, match=r"'tiny.onnx' is a model and has no input arrays"):
        measure(MODELS / "tiny.onnx", TELLING, data=MODELS / "tiny.onnx")


def test_data_takes_dynamic_sizes_that_random_values_cannot_know(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    usable("onnxruntime")
    number, helper = onnx.TensorProto.FLOAT, onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", number, ["batch", "length"])],
        [helper.make_tensor_value_info("y", number, ["batch", "length"])],
    )
    path = save(onnx, tmp_path, graph)
    data = tmp_path / "inputs.npz"
    np.savez(data, x=np.ones((2, 7), "float32"))
    with pytest.raises(ModelRejected, match=r"dimension 1 is dynamic.*data inputs"):
        measure(path, Settings(threads=1))
    assert measure(path, Settings(threads=1, batch=2), data=data).artifacts[0].provider == "CPUExecutionProvider"


def save(onnx: Any, folder: Path, graph: Any) -> Path:
    path = folder / "made.onnx"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def network(folder: Path) -> Path:
    """An Identity, which the basic level drops, a Conv and a Relu, which the extended level fuses."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype("float32")
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Conv", ["same", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 16, 16])],
        [numbers.from_array(weights, "w")],
    )
    return save(onnx, folder, graph)


def dynamic_onnx(folder: Path) -> Path:
    """The tiny net for any number of images."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(MODELS / "tiny.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path = folder / "dynamic.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def dynamic_tflite(folder: Path) -> Path:
    """The tiny net for any number of images."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf((MODELS / "tiny.tflite").read_bytes(), 0)
    [graph] = model.subgraphs
    graph.tensors[graph.inputs[0]].shapeSignature = np.array([-1, 3, 16, 16], "int32")
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = folder / "dynamic.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def wide_network(folder: Path, *, mib: int) -> Path:
    """A net that holds this much for a moment, between a small input and a small output."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["x", "shape"], ["wide"]),
            helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [])],
        [numbers.from_array(np.array([mib << 18], "int64"), "shape")],
    )
    return save(onnx, folder, graph)
