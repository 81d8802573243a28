"""LiteRT's profiler through its C API, on files that its converter made."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import ModelRejected
from device_agent.runtimes import litert_c_api, registry
from device_agent.runtimes.base import LoadedModel, LoadOptions
from device_agent.runtimes.litert_c_api import Library, NotSupported, open_library
from device_agent.runtimes.profiling import NoProfile

np = pytest.importorskip("numpy")
package = pytest.importorskip("ai_edge_litert")

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
FILES = ("tiny.tflite", "nested.tflite", "nested-dynamic.tflite", "pair.tflite")
WHEEL = Path(package.__file__).parent

if package.__version__ not in litert_c_api.KNOWN:
    pytest.skip(f"LiteRT {package.__version__} is not profiled", allow_module_level=True)


def load(file: str, folder: Path, **options: Any) -> Any:
    return registry.get("litert").load(MODELS / file, LoadOptions(threads=1, profile_folder=folder, **options))


def arrays(model: LoadedModel) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    return {spec.name: (generator.standard_normal(spec.shape) * 3).astype(spec.dtype) for spec in model.inputs}


@pytest.fixture(params=FILES)
def twin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    model = load(request.param, tmp_path)
    model.bind(arrays(model))
    model.file = request.param
    yield model
    model.close()


def test_the_twin_computes_what_the_interpreter_does(twin: Any) -> None:
    plain = registry.get("litert").load(MODELS / twin.file, LoadOptions(threads=1))
    assert {(spec.name, spec.dtype, spec.shape) for spec in plain.inputs} == {
        (spec.name, spec.dtype, spec.shape) for spec in twin.inputs
    }
    inputs = arrays(twin)
    plain.bind(inputs)
    plain.run()
    twin.run()
    expected, found = plain.results(), twin.results()
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_every_operator_with_weights_is_the_source_of_one_node(twin: Any) -> None:
    for _ in range(5):
        twin.run()
    nodes = twin.node_times(skip=2)
    weighted = {operator.name for operator in twin._operators if operator.code in (3, 4, 9)}
    count = Counter(name for node in nodes for name in node.sources)
    assert weighted
    assert {name: count[name] for name in weighted} == dict.fromkeys(weighted, 1)
    assert {node.runs for node in nodes} == {3}
    assert sum(node.share for node in nodes) == pytest.approx(1)
    assert all(node.median_ns > 0 for node in nodes)
    for node in nodes:
        assert (node.sources and node.output_shapes) or node.op_type == "Convert", "these files leave no doubt"


def test_shapes_are_those_of_the_files_operators(tmp_path: Path) -> None:
    model = load("tiny.tflite", tmp_path)
    model.bind(arrays(model))
    model.run()
    first = next(node for node in model.node_times(skip=0) if node.op_type == "Convolution")
    assert first.input_shapes[0] in ((1, 16, 16, 3), (1, 18, 18, 3))
    assert first.output_shapes[0] == (1, 8, 8, 8)
    model.close()


def test_built_in_kernels_run_the_files_own_operators(tmp_path: Path) -> None:
    model = load("nested.tflite", tmp_path, provider="CPU")
    model.bind(arrays(model))
    model.run()
    nodes = model.node_times(skip=0)
    assert [node.sources for node in nodes] == [(operator.name,) for operator in model._operators]
    assert "CONV_2D" in {node.op_type for node in nodes}
    assert model.provider() == ("CPU", 1.0)
    model.close()


def test_closing_frees_the_profilers_buffer(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def once() -> int:
        model = load("tiny.tflite", tmp_path)
        model.bind(arrays(model))
        model.run()
        held = resident()
        model.close()
        return held

    once()
    before = resident()
    held = [once() for _ in range(5)]
    buffer = held[0] - before
    assert buffer > 10e6, "the buffer for events is large"
    assert resident() - before < buffer


def test_wheels_that_are_not_known_say_so(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match=r"LiteRT 1\.4\.0 is not known; .*ai-edge-litert==2\.3\.0"):
        open_library(WHEEL, "1.4.0")
    with pytest.raises(NotSupported, match="LiteRT of unknown version"):
        open_library(WHEEL, "of unknown version")
    with pytest.raises(NotSupported, match=r"2\.3\.0 has no libLiteRt\.so"):
        open_library(tmp_path, "2.3.0")
    (tmp_path / "libLiteRt.so").write_bytes(b"not a library")
    with pytest.raises(NotSupported, match="does not load"):
        open_library(tmp_path, "2.2.0")
    with pytest.raises(NotSupported, match=r"LiteRT 2\.3\.1 is not known"):
        open_library(WHEEL, "2.3.1")
    with pytest.raises(NotSupported, match=r"lacks LiteRt\w+ and \d+ other functions"):
        Library(ctypes.CDLL("libm.so.6"))


def test_an_unknown_version_is_a_reason_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_agent.runtimes.litert._version", lambda: "9.9.9")
    with pytest.raises(NoProfile, match=r"LiteRT 9\.9\.9"):
        load("tiny.tflite", tmp_path)


def test_options_of_the_delegate_cannot_be_given_to_the_twin(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match="provider_options"):
        load("tiny.tflite", tmp_path, provider_options=(("disable_delegate_clustering", "true"),))


class _FailsLater(Library):
    """Runs a model `good` times, and then as LiteRT does with outputs whose size is found at run time: never again."""

    good = 1

    def call(self, name: str, *arguments: Any) -> None:
        if name == "RunCompiledModel":
            if self.good == 0:
                raise NotSupported("LiteRtRunCompiledModel failed with status 3")
            self.good -= 1
        super().call(name, *arguments)


def test_a_file_that_runs_only_once_is_a_reason_and_later_failures_are_rejections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _FailsLater(ctypes.CDLL(str(WHEEL / "libLiteRt.so")))
    monkeypatch.setattr(litert_c_api, "open_library", lambda *_: library)
    model = load("tiny.tflite", tmp_path)
    with pytest.raises(NoProfile, match=r"cannot run this file twice.*fixed sizes"):
        model.bind(arrays(model))
    library.good = 3
    model.bind(arrays(model))
    model.run()
    with pytest.raises(ModelRejected, match="measure without times of layers"):
        model.run()
    assert len(model.node_times(skip=0)) > 0
    model.close()


def test_what_is_no_model_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"no model at all " * 20)
    with pytest.raises(NoProfile, match="cannot load this file: LiteRt"):
        registry.get("litert").load(path, LoadOptions(threads=1, profile_folder=tmp_path))


def test_tflite_runtime_says_who_can(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match="litert times the operators"):
        registry.get("tflite-runtime").load(MODELS / "tiny.tflite", LoadOptions(threads=1, profile_folder=tmp_path))
