"""The operators and tensors of a `.tflite` file, as LiteRT's C API tells them."""

from __future__ import annotations

import ctypes as c

from device_agent.runtimes.litert_c_api import Library, RankedTensorType
from device_agent.runtimes.litert_nodes import FileOperator

_RANKED = 0
#: Operator code -> the function that tells its fused activation (0: none).
_ACTIVATIONS = {0: "Add", 3: "Conv2d", 4: "DepthwiseConv2d", 9: "FullyConnected", 18: "Mul", 41: "Sub", 42: "Div"}


def operators(library: Library, subgraph: c.c_void_p) -> list[FileOperator]:
    """Return the operators in the order of the file, which is that of their numbers."""
    count = library.number("GetNumSubgraphOps", subgraph)
    return [_operator(library, library.handle("GetSubgraphOp", subgraph, place)) for place in range(count)]


def _operator(library: Library, operator: c.c_void_p) -> FileOperator:
    code = c.c_int()
    library.call("GetOpCode", operator, c.byref(code))
    inputs = [
        library.handle("GetOpInput", operator, place) for place in range(library.number("GetNumOpInputs", operator))
    ]
    outputs = [
        library.handle("GetOpOutput", operator, place) for place in range(library.number("GetNumOpOutputs", operator))
    ]
    names = tuple(tensor_name(library, tensor) for tensor in outputs)
    return FileOperator(
        name=names[0] if names else "",
        code=code.value,
        inputs=tuple(tensor_name(library, tensor) for tensor in inputs if not _is_constant(library, tensor)),
        outputs=names,
        input_shapes=_shapes(library, inputs),
        output_shapes=_shapes(library, outputs),
        activation=_activation(library, operator, code.value),
    )


def _activation(library: Library, operator: c.c_void_p, code: int) -> bool:
    name = _ACTIVATIONS.get(code)
    if name is None:
        return False
    kind = c.c_uint32()
    library.call(f"Get{name}FusedActivationOption", operator, c.byref(kind))
    return kind.value != 0


def _is_constant(library: Library, tensor: c.c_void_p) -> bool:
    """Whether the file holds the tensor's values: then it has bytes."""
    weights = library.handle("GetTensorWeights", tensor)
    address, size = c.c_void_p(), c.c_size_t()
    library.call("GetWeightsBytes", weights, c.byref(address), c.byref(size))
    return size.value > 0


def tensor_name(library: Library, tensor: c.c_void_p) -> str:
    """Return the tensor's name in the file."""
    name = c.c_char_p()
    library.call("GetTensorName", tensor, c.byref(name))
    return (name.value or b"").decode(errors="replace")


def tensor_type(library: Library, tensor: c.c_void_p) -> RankedTensorType:
    """Return element type and sizes. NotSupported for a tensor without a fixed number of dimensions."""
    found = RankedTensorType()
    library.call("GetRankedTensorType", tensor, c.byref(found))
    return found


def _shapes(library: Library, tensors: list[c.c_void_p]) -> tuple[tuple[int, ...], ...]:
    """Return the sizes that the file fixes; a tensor with an open one is left out."""
    found = []
    for tensor in tensors:
        kind = c.c_int()
        library.call("GetTensorTypeId", tensor, c.byref(kind))
        if kind.value == _RANKED:
            layout = tensor_type(library, tensor).layout
            found.append(tuple(layout.dimensions[: layout.rank]))
    return tuple(shape for shape in found if all(size >= 0 for size in shape))
