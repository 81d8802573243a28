"""Small models, built from their nodes, for benchmarks that need a file and no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.table import CannotMeasure


def write_convolutions(path: Path, *, channels: int, size: int, layers: int, seed: int = 0) -> Path:
    """Write a chain of 3x3 convolutions with ReLU, an average pool and a linear layer, and return `path`.

    Input `x` [1, 3, size, size] float32, output `y` [1, 10]; opset 17, IR 8, which every ONNX Runtime since 1.12 loads.
    """
    try:
        import numpy as np
        from onnx import TensorProto, checker, helper, numpy_helper, save
    except ImportError as error:
        raise CannotMeasure(f"building a model needs {error.name}; run: pip install 'boardfit[test]'") from error
    generator = np.random.default_rng(seed)
    nodes, weights, last, width = [], [], "x", 3

    def weight(name: str, *shape: int) -> str:
        scale = (2 / np.prod(shape[1:])) ** 0.5
        weights.append(numpy_helper.from_array((scale * generator.standard_normal(shape)).astype(np.float32), name))
        return name

    for layer in range(layers):
        kernel = weight(f"w{layer}", channels, width, 3, 3)
        nodes.append(helper.make_node("Conv", [last, kernel], [f"c{layer}"], pads=[1, 1, 1, 1], name=f"conv{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], name=f"relu{layer}"))
        last, width = f"r{layer}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", weight("head", 10, width)], ["y"], transB=1, name="head"))
    graph = helper.make_graph(
        nodes, "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))
    return path


def write_tflite_convolutions(path: Path, *, channels: int, size: int, layers: int, seed: int = 0) -> Path:
    """Write a chain of 3x3 convolutions with ReLU and an average pool as TFLite, and return `path`.

    Input `x` [1, size, size, 3] float32, output `y` [1, 1, 1, channels]. Put together from the schema that LiteRT ships.
    """
    try:
        import flatbuffers
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise CannotMeasure(
            f"building a TFLite model needs {error.name}; run: pip install 'boardfit[litert]'"
        ) from error
    generator = np.random.default_rng(seed)
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators, model.buffers = [], [], [schema.BufferT()]

    def tensor(name: str, shape: tuple[int, ...], values: Any = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), schema.TensorType.FLOAT32, 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code: int, kind: int, options: Any, inputs: list[int], output: int) -> None:
        made = schema.OperatorT()
        made.opcodeIndex, made.builtinOptionsType, made.builtinOptions = code, kind, options
        made.inputs, made.outputs = inputs, [output]
        graph.operators.append(made)

    last, width = tensor("x", (1, size, size, 3)), 3
    graph.inputs = [last]
    for layer in range(layers):
        shape = (channels, 3, 3, width)
        scale = (2 / (9 * width)) ** 0.5
        kernel = tensor(f"w{layer}", shape, scale * generator.standard_normal(shape))
        bias = tensor(f"b{layer}", (channels,), np.zeros(channels))
        output = tensor(f"r{layer}", (1, size, size, channels))
        options = schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator(0, schema.BuiltinOptions.Conv2DOptions, options, [last, kernel, bias], output)
        last, width = output, channels
    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH = schema.Padding.VALID, 1, 1
    pool.filterWidth = pool.filterHeight = size
    graph.outputs = [tensor("y", (1, 1, 1, channels))]
    operator(1, schema.BuiltinOptions.Pool2DOptions, pool, [last], graph.outputs[0])

    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    for kind in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.AVERAGE_POOL_2D):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        model.operatorCodes.append(code)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
