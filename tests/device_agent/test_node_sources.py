"""From what a runtime made of a model back to the file: pure functions on graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_agent.runtimes.litert_nodes import FileOperator, RanOperator, match
from device_agent.runtimes.onnx_graph import OnnxGraph, OnnxNode, read_graph
from device_agent.runtimes.onnxruntime_sources import sources
from device_agent.runtimes.profiling import median_ns

MODELS = Path(__file__).parents[1] / "fixtures" / "models"


# Medians within a microsecond.


def test_a_median_is_interpolated_within_its_microsecond() -> None:
    assert median_ns([3, 3, 3, 4], truncated=True) == pytest.approx(3000 + 1000 * 2 / 3)
    assert median_ns([3, 3, 3, 4], truncated=False) == pytest.approx(2500 + 1000 * 2 / 3)
    assert median_ns([7], truncated=True) == 7500
    assert median_ns([0, 0, 0], truncated=True) == 500
    assert median_ns([0, 0, 0], truncated=False) == 0


def test_uniform_times_cut_to_microseconds_give_their_true_median_back() -> None:
    times_ns = range(2_000, 6_000, 7)
    truth = sorted(times_ns)[len(times_ns) // 2]
    assert median_ns([time // 1000 for time in times_ns], truncated=True) == pytest.approx(truth, abs=10)


def test_an_outlier_does_not_move_a_median() -> None:
    assert median_ns([5] * 20 + [4000], truncated=True) == pytest.approx(5500, abs=50)


# ONNX Runtime.


def graph(*nodes: OnnxNode, inputs: str = "x", constants: str = "") -> OnnxGraph:
    return OnnxGraph(nodes=nodes, inputs=frozenset(inputs.split()), constants=frozenset(constants.split()))


def node(name: str, op_type: str, inputs: str, outputs: str, activation: str | None = None) -> OnnxNode:
    return OnnxNode(
        name=name,
        op_type=op_type,
        inputs=tuple(inputs.split()),
        outputs=tuple(outputs.split()),
        activation=activation,
    )


RESIDUAL = graph(
    node("c1", "Conv", "x w1 b1", "t1"),
    node("r1", "Relu", "t1", "t2"),
    node("c2", "Conv", "t2 w2 b2", "t3"),
    node("add", "Add", "t3 t2", "t4"),
    node("r2", "Relu", "t4", "t5"),
    node("c3", "Conv", "t5 w3 b3", "y"),
    constants="w1 b1 w2 b2 w3 b3",
)


def test_what_lies_between_tensors_that_kept_their_names_was_fused() -> None:
    optimized = graph(
        node("fused c1", "FusedConv", "x w1 b1", "t2", "Relu"),
        node("c2", "FusedConv", "t2 w2 b2 t2", "t5", "Relu"),
        node("c3", "Conv", "t5 w3 b3", "y"),
        constants="w1 b1 w2 b2 w3 b3",
    )
    assert sources(RESIDUAL, optimized) == [("c1", "r1"), ("c2", "add", "r2"), ("c3",)]


def test_blocked_layouts_rename_tensors_and_their_nodes_still_tell() -> None:
    optimized = graph(
        node("in", "ReorderInput", "x", "k0"),
        node("t2_nchwc", "Conv", "k0 w b1", "k1", "Relu"),
        node("t3_nchwc", "Conv", "k1 w b2 k1", "k2", "Relu"),
        node("y_nchwc", "Conv", "k2 w b3", "k3"),
        node("out", "ReorderOutput", "k3", "y"),
        constants="w b1 b2 b3",
    )
    assert sources(RESIDUAL, optimized) == [(), ("c1", "r1"), ("c2", "add", "r2"), ("c3",), ()]


def test_a_sum_that_cannot_be_told_apart_names_no_source_and_spoils_only_what_follows() -> None:
    optimized = graph(
        node("t2_nchwc", "Conv", "x w b1", "k1", "Relu"),
        node("t3_nchwc", "Conv", "k1 w b2 k9", "k2", "Relu"),
        node("y_nchwc", "Conv", "k2 w b3", "y"),
        constants="w b1 b2 b3",
    )
    assert sources(RESIDUAL, optimized) == [("c1", "r1"), (), ("c3",)]


def test_what_is_computed_from_constants_belongs_to_no_node_unless_it_runs() -> None:
    file = graph(
        node("shape", "Shape", "x", "s"),
        node("pick", "Gather", "s i", "n"),
        node("noise", "RandomNormal", "", "z"),
        node("flat", "Reshape", "x n", "f"),
        node("sum", "Add", "f z", "y"),
        constants="i",
    )
    folded = graph(
        node("noise", "RandomNormal", "", "z"),
        node("flat", "Reshape", "x n", "f"),
        node("sum", "Add", "f z", "y"),
        constants="n",
    )
    assert sources(file, folded) == [("noise",), ("flat",), ("sum",)]
    assert sources(file, file) == [("shape",), ("pick",), ("noise",), ("flat",), ("sum",)]


def test_nodes_without_a_name_go_by_their_first_output() -> None:
    file = graph(node("", "Conv", "x w", "a"), node("", "Relu", "a", "y"), constants="w")
    assert sources(file, graph(node("", "FusedConv", "x w", "y", "Relu"), constants="w")) == [("a", "y")]


def test_the_reader_agrees_with_the_onnx_package() -> None:
    onnx = pytest.importorskip("onnx")
    found = read_graph(MODELS / "tiny.onnx")
    expected = onnx.load(MODELS / "tiny.onnx").graph
    assert [(one.name, one.op_type, one.inputs, one.outputs) for one in found.nodes] == [
        (one.name, one.op_type, tuple(one.input), tuple(one.output)) for one in expected.node
    ]
    assert found.constants == {one.name for one in expected.initializer}
    assert found.inputs == {one.name for one in expected.input} - found.constants


def test_damaged_files_are_value_errors(tmp_path: Path) -> None:
    content = (MODELS / "tiny.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    refused = 0
    for end in range(1, len(content), 97):
        path.write_bytes(content[:end])
        try:
            read_graph(path)
        except ValueError:
            refused += 1
    assert refused > 30
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="does not end"):
        read_graph(path)


# LiteRT.


def operator(name: str, code: int, inputs: str, **fields: Any) -> FileOperator:
    return FileOperator(name=name, code=code, inputs=tuple(inputs.split()), outputs=(name,), **fields)


def ran(*tags: str) -> list[RanOperator]:
    return [RanOperator(tag=tag, number=number, delegated=True) for number, tag in enumerate(tags)]


POINTWISE = ((1, 8, 8, 4), (8, 1, 1, 4))
SPATIAL = ((1, 8, 8, 4), (8, 3, 3, 4))
IGEMM, DWCONV, GEMM = (
    "Convolution (NHWC, F32) IGEMM",
    "Convolution (NHWC, F32) DWConv",
    "Fully Connected (NC, F32) GEMM",
)


def test_operators_of_one_kind_match_in_order() -> None:
    file = [
        operator("conv", 3, "x", input_shapes=SPATIAL),
        operator("depthwise", 4, "conv"),
        operator("pointwise", 3, "depthwise", input_shapes=POINTWISE),
        operator("mean", 40, "pointwise"),
        operator("dense", 9, "mean"),
    ]
    assert match(ran(IGEMM, DWCONV, GEMM, "Mean (ND) Reduce2", GEMM), file) == [(0,), (1,), (2,), (3,), (4,)]


def test_padding_and_activations_go_to_the_operator_that_took_them_in() -> None:
    file = [operator("pad", 34, "x"), operator("conv", 3, "pad", input_shapes=SPATIAL), operator("relu", 19, "conv")]
    assert match(ran(IGEMM), file) == [(0, 1, 2)]


def test_clamps_are_activations_split_off_the_operator_before() -> None:
    own = [operator("sum", 0, "x y", activation=True), operator("conv", 3, "sum", input_shapes=SPATIAL)]
    assert match(ran("Add (ND)", "Clamp (NC)", IGEMM), own) == [(0,), (0,), (1,)]
    apart = [operator("sum", 0, "x y"), operator("relu", 19, "sum"), operator("conv", 3, "relu", input_shapes=SPATIAL)]
    assert match(ran("Add (ND)", "Clamp (NC)", IGEMM), apart) == [(0,), (1,), (2,)]


def test_an_unexplained_clamp_leaves_activations_without_a_place() -> None:
    file = [operator("conv", 3, "x", input_shapes=SPATIAL), operator("relu", 19, "conv"), operator("mean", 40, "relu")]
    assert match(ran(IGEMM, "Mean (ND)", "Clamp (NC)"), file) == [(0,), (2,), ()]


def test_counts_that_differ_name_no_source() -> None:
    file = [operator("conv", 3, "x", input_shapes=SPATIAL), operator("mean", 40, "conv")]
    assert match(ran(IGEMM, IGEMM, "Mean (ND)"), file) == [(), (), (1,)]


def test_a_spatial_convolution_is_never_a_fully_connected_layer() -> None:
    file = [operator("a", 3, "x", input_shapes=SPATIAL), operator("b", 3, "a", input_shapes=POINTWISE)]
    assert match(ran(GEMM, IGEMM), file) == [(), ()]
    assert match(ran(IGEMM, GEMM), file) == [(0,), (1,)]


def test_a_depthwise_operator_on_one_channel_runs_as_an_ordinary_convolution() -> None:
    grey, wide = ((1, 32, 32, 1), (1, 3, 3, 16)), ((1, 32, 32, 16), (1, 3, 3, 16))
    file = [operator("stem", 4, "x", input_shapes=grey), operator("depthwise", 4, "stem", input_shapes=wide)]
    assert match(ran(IGEMM, DWCONV), file) == [(0,), (1,)]
    assert match(ran(IGEMM, IGEMM), file) == [(), ()]


def test_another_order_than_the_files_names_no_source() -> None:
    file = [operator("conv", 3, "x", input_shapes=SPATIAL), operator("mean", 40, "conv")]
    assert match(ran("Mean (ND)", IGEMM), file) == [(), ()]


def test_weights_that_are_unpacked_at_load_are_passed_over() -> None:
    file = [
        operator("weights", 6, ""),
        operator("conv", 3, "x weights", input_shapes=SPATIAL),
        operator("numbers", 6, "conv"),
    ]
    assert match(ran(IGEMM), file) == [(1,)]


def odd(number: int) -> RanOperator:
    return RanOperator(tag="odd", number=number, delegated=False)


def test_parts_between_the_interpreters_own_operators_are_matched_one_by_one() -> None:
    file = [
        operator("conv", 3, "x", input_shapes=SPATIAL),
        operator("odd", 32, "conv"),
        operator("deep", 3, "odd", input_shapes=SPATIAL),
        operator("mean", 40, "deep"),
    ]
    assert match([*ran(IGEMM), odd(1), *ran(IGEMM, "Mean (ND)")], file) == [(0,), (1,), (2,), (3,)]
    assert match([*ran(IGEMM), odd(1), *ran(IGEMM, IGEMM, "Mean (ND)")], file) == [(0,), (1,), (), (), (3,)]


def test_a_part_takes_whatever_is_ready_as_the_runtime_does() -> None:
    file = [
        operator("left", 3, "x", input_shapes=SPATIAL),
        operator("odd", 32, "left"),
        operator("right", 3, "x", input_shapes=SPATIAL),
        operator("join", 0, "odd right"),
    ]
    # The right branch waits for nothing, so it runs in the first part, before an operator that stands before it in the file.
    assert match([*ran(IGEMM, IGEMM), odd(1), *ran("Add (ND)")], file) == [(0,), (2,), (1,), (3,)]


def test_another_number_of_parts_than_the_graph_has_names_only_what_is_known_by_number() -> None:
    file = [
        operator("conv", 3, "x", input_shapes=SPATIAL),
        operator("odd", 32, "conv"),
        operator("mean", 40, "odd"),
    ]
    assert match([*ran(IGEMM), *ran("Mean (ND)"), odd(1)], file) == [(), (), (1,)]
    assert match([odd(1), *ran(IGEMM, "Mean (ND)")], file) == [(1,), (), ()]


def test_tensors_of_one_name_tell_nothing() -> None:
    file = [operator("same", 3, "x", input_shapes=SPATIAL), operator("same", 40, "same")]
    assert match(ran(IGEMM, "Mean (ND)"), file) == [(), ()]
