"""The runtimes: one conformance suite over all that are installed, and what is particular to each.

The files in tests/fixtures/models hold one small net with the same weights in both formats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from artifact_files import file_of

from device_agent.contract.artifact import ArtifactFormat, Tensor
from device_agent.contract.errors import InvalidRequest, ModelRejected, RuntimeUnavailable, WorkerOutOfMemory
from device_agent.contract.measurement import Run, RunBatch, RunKind
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.contract.verdicts import judge
from device_agent.runtimes import registry
from device_agent.runtimes.base import LoadOptions, Runtime
from device_agent.runtimes.words import shorten
from device_agent.worker.launch import ArtifactFile, WorkerLimits, open_infer, run_measure
from device_agent.worker.result import WorkerResult

np = pytest.importorskip("numpy")

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
FILES = {"onnxruntime": "tiny.onnx", "litert": "tiny.tflite", "tflite-runtime": "tiny.tflite"}
#: The net's output for `example()`, as PyTorch computed it when the fixtures were made (first three of ten).
EXPECTED = [-0.04417507, 0.2305306, 0.09061874]
QUICK = Stopping(warmup_runs=3, warmup_time_s=0, min_runs=40, min_time_s=0, max_time_s=5, precision=None)

GENEROUS = WorkerLimits(deadline_s=120)


def usable(name: str) -> Runtime:
    """Return the runtime, or skip the test with the runtime's own reason."""
    runtime = registry.get(name)
    reason = runtime.info().unavailable
    if reason is not None:
        pytest.skip(reason)
    return runtime


@pytest.fixture(params=list(FILES))
def name(request: pytest.FixtureRequest) -> str:
    usable(request.param)
    return str(request.param)


def example() -> Any:
    return np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype("float32")


def measure(
    request: MeasureRequest, files: Sequence[ArtifactFile], limits: WorkerLimits = GENEROUS
) -> tuple[list[Run], WorkerResult]:
    async def scenario() -> tuple[list[Run], WorkerResult]:
        runs: list[Run] = []
        found: WorkerResult | None = None
        async for event in run_measure(request, files, limits=limits, on_pid=lambda _: None):
            if isinstance(event, RunBatch):
                runs.extend(event.runs)
            elif isinstance(event, WorkerResult):
                found = event
        assert found is not None
        return runs, found

    return asyncio.run(scenario())


def test_at_least_one_runtime_is_installed() -> None:
    assert any(registry.get(one).info().unavailable is None for one in FILES), "every other test here was skipped"


# Conformance: every runtime.


def test_it_describes_itself(name: str) -> None:
    info = registry.get(name).info()
    assert info.name == name
    assert info.version
    assert info.providers
    assert info.formats == (ArtifactFormat.of_suffix(Path(FILES[name]).suffix),)


def test_it_computes_what_pytorch_computes(name: str) -> None:
    runtime = registry.get(name)
    for provider in (None, *runtime.info().providers):
        model = runtime.load(MODELS / FILES[name], LoadOptions(threads=1, provider=provider))
        (spec,) = model.inputs
        assert (spec.dtype, spec.shape) == ("float32", (1, 3, 16, 16))
        assert (model.outputs[0].dtype, model.outputs[0].shape) == ("float32", (1, 10))
        model.bind({spec.name: example()})
        model.run()
        (output,) = model.results().values()
        assert output.shape == (1, 10)
        assert output[0, :3] == pytest.approx(EXPECTED, abs=1e-5)
        model.close()


def test_results_are_copies_and_a_new_binding_counts(name: str) -> None:
    model = registry.get(name).load(MODELS / FILES[name], LoadOptions(threads=2))
    (spec,) = model.inputs
    model.bind({spec.name: example()})
    model.run()
    (first,) = model.results().values()
    kept = first.copy()
    model.bind({spec.name: 2 * example()})
    model.run()
    (second,) = model.results().values()
    assert (first == kept).all()
    assert not np.allclose(first, second)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "flipped"])
def test_a_damaged_file_is_rejected_in_short_words(name: str, damage: str, tmp_path: Path) -> None:
    good = (MODELS / FILES[name]).read_bytes()
    content = {
        "cut": good[: len(good) // 3],
        "text": b"this is not a model, whatever its name says" * 100,
        "empty": b"",
        "flipped": good[:4] + bytes(255 - byte for byte in good[4:400]) + good[400:],
    }[damage]
    path = tmp_path / FILES[name]
    path.write_bytes(content)

    def load() -> None:
        registry.get(name).load(path, LoadOptions(threads=1))

    # The interpreter does not check a flatbuffer's inner offsets: in a child it may crash, which the worker reports.
    if damage == "cut" and name != "onnxruntime":
        request = MeasureRequest(
            artifacts=(file_of(path).artifact.sha256,), settings=Settings(runtime=name), stopping=QUICK
        )
        with pytest.raises(Exception, match=path.name):
            measure(request, [file_of(path)])
        return
    with pytest.raises(ModelRejected) as caught:
        load()
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


def test_the_other_format_is_refused_by_content_not_by_name(name: str, tmp_path: Path) -> None:
    other = "tiny.tflite" if FILES[name] == "tiny.onnx" else "tiny.onnx"
    path = tmp_path / FILES[name]
    path.write_bytes((MODELS / other).read_bytes())
    with pytest.raises(ModelRejected, match="TFLite file"):
        registry.get(name).load(path, LoadOptions(threads=1))


def test_a_file_without_a_suffix_loads(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("0" * 64)
    path.write_bytes((MODELS / FILES[name]).read_bytes())
    assert registry.get(name).load(path, LoadOptions(threads=1)).inputs


def test_an_unknown_provider_lists_the_available_ones(name: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"'NoSuchProvider'.*available: \w+"):
        registry.get(name).load(MODELS / FILES[name], LoadOptions(threads=1, provider="NoSuchProvider"))


def test_it_measures_in_a_worker(name: str) -> None:
    file = file_of(MODELS / FILES[name])
    request = MeasureRequest(
        artifacts=(file.artifact.sha256,), settings=Settings(runtime=name, threads=1), stopping=QUICK
    )
    runs, result = measure(request, [file])
    assert sum(run.kind is RunKind.TIMED for run in runs) >= 40
    (one,) = result.artifacts
    assert one.load_ns > 0
    assert one.peak_memory_bytes is not None
    assert one.peak_rss_bytes is not None
    assert 0 < one.peak_memory_bytes < one.peak_rss_bytes
    assert one.nodes is None
    assert result.runtime_version == registry.get(name).info().version


def test_it_infers_in_a_worker_and_wrong_inputs_are_named(name: str) -> None:
    array = example()

    async def scenario() -> None:
        async with open_infer(
            Settings(runtime=name, threads=1), file_of(MODELS / FILES[name]), limits=WorkerLimits(deadline_s=60)
        ) as session:
            input_name = registry.get(name).load(MODELS / FILES[name], LoadOptions(threads=1)).inputs[0].name
            good = Tensor(name=input_name, dtype="float32", shape=array.shape, data=array.tobytes())
            (output,) = await session.run([good])
            assert (output.dtype, output.shape) == ("float32", (1, 10))
            assert np.frombuffer(output.data, "<f4")[:3] == pytest.approx(EXPECTED, abs=1e-5)
            wide = Tensor(name=input_name, dtype="float32", shape=(1, 3, 16, 17), data=bytes(4 * 3 * 16 * 17))
            with pytest.raises(
                InvalidRequest, match=r"is float32 \[1, 3, 16, 17\]; the model takes float32 \[1, 3, 16, 16\]"
            ):
                await session.run([wide])
            short = Tensor(name=input_name, dtype="float32", shape=array.shape, data=b"1234")
            with pytest.raises(InvalidRequest, match="4 bytes are not"):
                await session.run([short])
            integers = Tensor(name=input_name, dtype="int32", shape=array.shape, data=array.tobytes())
            with pytest.raises(InvalidRequest, match="is int32"):
                await session.run([integers])
            (again,) = await session.run([good])
            assert again.data == output.data

    asyncio.run(scenario())


# What is particular to one.


def onnx_model(
    tmp_path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, Any, Sequence[Any]]],
    outputs: Sequence[tuple[str, Any, Sequence[Any]]],
    *,
    opset: int = 17,
    ir: int = 8,
    domains: Sequence[str] = (),
) -> Path:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path = tmp_path / "made.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=ir).SerializeToString())
    return path


def test_onnxruntime_profiles_nodes_in_a_twin_of_its_own() -> None:
    usable("onnxruntime")
    file = file_of(MODELS / "tiny.onnx")
    request = MeasureRequest(
        artifacts=(file.artifact.sha256,),
        settings=Settings(threads=1),
        stopping=Stopping(warmup_runs=3, warmup_time_s=0, min_runs=120, min_time_s=0, max_time_s=5, precision=None),
        profile_nodes=True,
    )
    runs, result = measure(request, [file])
    kinds = {kind: sum(run.kind is kind for run in runs) for kind in RunKind}
    (one,) = result.artifacts
    assert one.nodes is not None
    assert 100 <= kinds[RunKind.PROFILED] <= 120
    assert kinds[RunKind.TIMED] >= 120
    assert one.peak_memory_bytes is not None
    assert "Conv" in {node.op_type for node in one.nodes}
    assert sum(node.share for node in one.nodes) == pytest.approx(1.0)
    for node in one.nodes:
        assert node.runs == kinds[RunKind.PROFILED] - 3, "warm-up runs of the twin are left out"
    convolution = next(node for node in one.nodes if node.op_type == "Conv")
    assert convolution.input_shapes[0] == (1, 3, 16, 16)
    assert convolution.output_shapes


def test_onnxruntime_shapes_that_follow_the_input_and_those_that_depend_on_the_data(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = usable("onnxruntime")
    number = onnx.TensorProto
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"]), onnx.helper.make_node("NonZero", ["y"], ["z"])]
    path = onnx_model(
        tmp_path,
        nodes,
        [("x", number.FLOAT, ["batch", 4])],
        [("y", number.FLOAT, ["batch", 4]), ("z", number.INT64, [2, "found"])],
    )
    model = runtime.load(path, LoadOptions(threads=1))
    assert model.inputs[0].shape == (None, 4)
    for batch in (1, 3):
        array = np.arange(batch * 4, dtype="float32").reshape(batch, 4) - 2
        model.bind({"x": array})
        model.run()
        results = model.results()
        assert (results["y"] == np.maximum(array, 0)).all()
        assert results["z"].shape == (2, int((array > 0).sum()))


def test_weights_outside_the_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = usable("onnxruntime")
    model = onnx.load(MODELS / "tiny.onnx")
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelRejected, match="save the model with its weights inside"):
        runtime.load(path, LoadOptions(threads=1))


def test_outputs_that_numpy_has_no_type_for_still_run(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = usable("onnxruntime")
    number = onnx.TensorProto
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=number.BFLOAT16)
    path = onnx_model(tmp_path, [node], [("x", number.FLOAT, [4])], [("y", number.BFLOAT16, [4])])
    model = runtime.load(path, LoadOptions(threads=1))
    assert model.outputs[0].dtype == "bfloat16"
    model.bind({"x": np.ones(4, "float32")})
    model.run()


def test_an_unsupported_operator_is_named_with_what_to_do(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    usable("onnxruntime")
    number = onnx.TensorProto
    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")
    path = onnx_model(tmp_path, [node], [("x", number.FLOAT, [1])], [("y", number.FLOAT, [1])], domains=["acme"])
    file = file_of(path)
    request = MeasureRequest(artifacts=(file.artifact.sha256,), stopping=QUICK)
    with pytest.raises(ModelRejected, match=r"model 'made.onnx': ONNX Runtime .*Frobnicate.*replace that operator"):
        measure(request, [file])


def test_onnxruntime_that_runs_out_of_memory_is_told_so_with_the_limit(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    usable("onnxruntime")
    number = onnx.TensorProto
    shape = onnx.helper.make_node(
        "Constant", [], ["s"], value=onnx.helper.make_tensor("s", number.INT64, [2], [1 << 16, 1 << 15])
    )
    nodes = [
        shape,
        onnx.helper.make_node("Expand", ["x", "s"], ["wide"]),
        onnx.helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=0),
    ]
    path = onnx_model(tmp_path, nodes, [("x", number.FLOAT, [1])], [("y", number.FLOAT, [])])
    file = file_of(path)
    request = MeasureRequest(artifacts=(file.artifact.sha256,), stopping=QUICK)
    limits = WorkerLimits(deadline_s=60, memory_bytes=300 << 20)
    with pytest.raises(WorkerOutOfMemory, match=r"'made.onnx'.*300 MiB"):
        measure(request, [file], limits)


def test_a_dynamic_inner_dimension_is_refused_by_name(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    usable("onnxruntime")
    number = onnx.TensorProto
    path = onnx_model(
        tmp_path,
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        [("x", number.FLOAT, [1, 3, "height", 8])],
        [("y", number.FLOAT, [1, 3, "height", 8])],
    )
    request = MeasureRequest(artifacts=(file_of(path).artifact.sha256,), stopping=QUICK)
    with pytest.raises(ModelRejected, match=r"'x' has shape \[1, 3, \?, 8\]: dimension 2 is dynamic"):
        measure(request, [file_of(path)])


def test_the_limits_are_those_that_onnxruntime_really_takes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = usable("onnxruntime")
    info = runtime.info()
    assert info.max_onnx_opset is not None
    assert info.max_onnx_ir is not None
    number = onnx.TensorProto

    def load(opset: int, ir: int) -> None:
        path = onnx_model(
            tmp_path,
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            [("x", number.FLOAT, [1])],
            [("y", number.FLOAT, [1])],
            opset=opset,
            ir=ir,
        )
        runtime.load(path, LoadOptions(threads=1))

    load(info.max_onnx_opset, info.max_onnx_ir)
    with pytest.raises(ModelRejected, match="opset"):
        load(info.max_onnx_opset + 1, info.max_onnx_ir)
    with pytest.raises(ModelRejected, match="IR version"):
        load(info.max_onnx_opset, info.max_onnx_ir + 1)


def test_a_provider_that_ran_nothing_is_reported_and_judged() -> None:
    runtime = usable("onnxruntime")
    if "AzureExecutionProvider" not in runtime.info().providers:
        pytest.skip("this build of ONNX Runtime has no provider that runs no node of a common net")
    file = file_of(MODELS / "tiny.onnx")
    settings = Settings(threads=1, provider="AzureExecutionProvider")
    request = MeasureRequest(artifacts=(file.artifact.sha256,), settings=settings, stopping=QUICK)
    runs, result = measure(request, [file])
    assert (result.artifacts[0].provider, result.artifacts[0].provider_share) == ("CPUExecutionProvider", 1.0)
    codes = {verdict.code.value for verdict in judge(request, 0, runs, (), result)}
    assert "fell-back" in codes


def test_the_trace_of_a_run_names_the_providers_too() -> None:
    """Versions before 1.24 tell in no other way who ran a node."""
    model = usable("onnxruntime").load(MODELS / "tiny.onnx", LoadOptions(threads=1))
    model.bind({"x": example()})
    counts = model.profiled_providers()  # type: ignore[attr-defined]
    assert list(counts) == ["CPUExecutionProvider"]
    assert counts["CPUExecutionProvider"] > 3


def test_tflite_runs_xnnpack_unless_told_otherwise() -> None:
    for name in ("litert", "tflite-runtime"):
        runtime = registry.get(name)
        if runtime.info().unavailable is None:
            load = runtime.load
            path = MODELS / "tiny.tflite"
            assert load(path, LoadOptions(threads=1)).provider()[0] == "XNNPACK"
            assert load(path, LoadOptions(threads=1, provider="CPU")).provider() == ("CPU", 1.0)
            return
    pytest.skip("neither LiteRT nor tflite-runtime is installed")


def test_tflite_runtime_says_that_numpy_2_is_the_trouble() -> None:
    from device_agent.runtimes.tflite_runtime import numpy_conflict

    assert numpy_conflict("2.14.0", "1.26.4") is None
    words = numpy_conflict("2.14.0", "2.4.6")
    assert words is not None
    for part in ("tflite-runtime 2.14.0", "numpy 2.4.6", "pip install 'numpy<2'"):
        assert part in words


def test_every_runtime_is_described_and_the_missing_ones_say_how_to_get_them() -> None:
    for info in registry.describe_all():
        assert (info.unavailable is None) == bool(info.providers)
        if info.unavailable is not None:
            assert "pip install" in info.unavailable


def test_a_wrong_entry_for_third_parties_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFIT_RUNTIMES", "acme")
    with pytest.raises(InvalidRequest, match=r"write NAME=package.module:Class"):
        registry.known()
    monkeypatch.setenv("BOARDFIT_RUNTIMES", "acme=os:getcwd,onnxruntime=evil:X")
    with pytest.raises(RuntimeUnavailable, match="os:getcwd is not a"):
        registry.get("acme")
    assert registry.known()["onnxruntime"] == registry.BUILT_IN["onnxruntime"], "built-in names cannot be taken"


def test_long_words_are_cut_in_the_middle() -> None:
    text = "start " + "x" * 5000 + " end"
    short = shorten(text, 100)
    assert len(short) <= 100
    assert short.startswith("start")
    assert short.endswith("end")
    assert shorten("one\n  two") == "one two"


def test_random_inputs_are_seeded_and_of_the_right_kinds() -> None:
    from device_agent.contract.artifact import TensorSpec
    from device_agent.worker.inputs import random_inputs

    specs = [
        TensorSpec(name="image", dtype="float32", shape=(None, 3, 64, 64)),
        TensorSpec(name="half", dtype="float16", shape=(2, 2)),
        TensorSpec(name="pixels", dtype="uint8", shape=(1, 64, 64)),
        TensorSpec(name="quantized", dtype="int8", shape=(1, 64, 64)),
        TensorSpec(name="index", dtype="int64", shape=(1, 100)),
        TensorSpec(name="mask", dtype="bool", shape=(100,)),
    ]
    first, same, other = (random_inputs(specs, seed) for seed in (1, 1, 2))
    for spec in specs:
        array = first[spec.name]
        assert array.dtype.name == spec.dtype
        assert array.shape == tuple(size or 1 for size in spec.shape)
        assert (array == same[spec.name]).all()
    assert not (first["image"] == other["image"]).all()
    assert abs(float(first["image"].mean())) < 0.05
    assert float(first["image"].std()) == pytest.approx(1.0, abs=0.05)
    assert (first["quantized"].min(), first["quantized"].max()) == (-128, 127)
    assert (first["pixels"].min(), first["pixels"].max()) == (0, 255)
    assert set(first["index"].ravel().tolist()) == {0, 1}
    with pytest.raises(ModelRejected, match="'words' has type 'str'"):
        random_inputs([TensorSpec(name="words", dtype="str", shape=(1,))], 0)
