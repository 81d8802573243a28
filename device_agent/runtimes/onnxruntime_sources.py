"""From the nodes that ONNX Runtime made back to those of the file, by comparing the file's graph with the optimised one.

A tensor keeps its name through ONNX Runtime's optimisations, so what lies between the named tensors of the optimised graph was
fused into the node between them. Only the blocked layout (NCHWc) renames tensors; its nodes bear the name of the tensor that they
made before sums and activations were added, which their inputs and attributes show.
"""

from __future__ import annotations

import re

from device_agent.runtimes.onnx_graph import OnnxGraph, OnnxNode

# ONNX Runtime 1.32 puts these around a name: "_nchwc" for blocked layouts, "fused " for an activation taken in, "_token_12" where
# a name was taken already.
_AFFIXES = re.compile(r"^fused |(_nchwc|_nhwc|_token_\d+)$")
#: They move data only, if the file has no node of their name: another layout, another shape, another memory, another type.
_MOVES = frozenset({"ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Cast", "MemcpyFromHost", "MemcpyToHost"})
#: Operators that draw their output: without inputs, yet no constants.
_DRAWN = ("Random", "Bernoulli", "Multinomial")
#: Inputs of a convolution without a sum taken in: data, weights, bias.
_CONV_INPUTS = 3


def sources(file: OnnxGraph, optimized: OnnxGraph) -> list[tuple[str, ...]]:
    """Return for each node of `optimized` the names of the file's nodes that it computes, in the order of the file.

    Nodes without a name go by their first output. Empty for nodes that only move data, and where the graphs do not tell.
    """
    return _Matching(file, optimized).run()


class _Matching:
    def __init__(self, file: OnnxGraph, optimized: OnnxGraph) -> None:
        self._file = file
        self._optimized = optimized
        self._maker = {name: place for place, node in enumerate(file.nodes) for name in node.outputs if name}
        self._by_name = {node.name: node for node in file.nodes if node.name}
        self._users: dict[str, list[OnnxNode]] = {}
        for node in file.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        made = {name for node in optimized.nodes for name in node.outputs if name}
        self._constants = self._constants_of(made)
        known = (set(self._maker) | file.inputs) - self._constants
        self._present: set[str] = set()
        #: Tensor of the optimised graph -> the same one of the file, up to its layout.
        self._same = {name: name for name in made | optimized.inputs if name in known}

    def _constants_of(self, made: set[str]) -> set[str]:
        """Return the file's constants and what was computed from them, or from sizes of tensors, when the model was loaded."""
        constants = set(self._file.constants)
        for node in self._file.nodes:
            steady = node.op_type == "Shape" or (
                all(name in constants for name in node.inputs if name) and not node.op_type.startswith(_DRAWN)
            )
            if steady and made.isdisjoint(node.outputs):
                constants.update(node.outputs)
        return constants

    def run(self) -> list[tuple[str, ...]]:
        for node in reversed(self._optimized.nodes):
            # What a change of layout restores is known by the file's name; so is what it was made from.
            if self._moves(node) and node.outputs[0] in self._same:
                self._same.setdefault(node.inputs[0], self._same[node.outputs[0]])
        self._present = set(self._same.values())
        return [self._sources_of(node) for node in self._optimized.nodes]

    def _moves(self, node: OnnxNode) -> bool:
        if node.op_type not in _MOVES or node.name in self._by_name:
            return False
        # It may also be made of several of the file's nodes, and end where one of the same kind did.
        place = self._maker.get(node.outputs[0])
        return place is None or self._file.nodes[place].op_type != node.op_type

    def _sources_of(self, node: OnnxNode) -> tuple[str, ...]:
        inputs = [name for name in node.inputs if name and name not in self._optimized.constants]
        if self._moves(node):
            if inputs and inputs[0] in self._same:
                self._same.setdefault(node.outputs[0], self._same[inputs[0]])
            return ()
        if node.outputs[0] not in self._same and (tensor := self._tensor_by_name(node)) is not None:
            self._same[node.outputs[0]] = tensor
            self._present.add(tensor)
        outputs = [self._same[name] for name in node.outputs if name in self._same]
        if all(name in self._same for name in inputs):
            return tuple(_title(one) for one in self._between(outputs))
        # Made from something that cannot be told. A convolution holds one of the file's; another may still be the file's own.
        if node.op_type in ("Conv", "FusedConv"):
            found = self._between(outputs, up_to="Conv")
            return tuple(_title(one) for one in found if sum(one.op_type == "Conv" for one in found) == 1)
        original = self._by_name.get(node.name)
        return (node.name,) if original is not None and original.op_type == node.op_type else ()

    def _between(self, outputs: list[str], *, up_to: str | None = None) -> list[OnnxNode]:
        """Return the nodes that lead to `outputs` from tensors that the optimised graph still has; none before an `up_to`."""
        found: set[int] = set()
        open_ends = list(outputs)
        while open_ends:
            name = open_ends.pop()
            place = self._maker.get(name)
            if place is None or place in found or name in self._constants:
                continue
            if name in self._present and name not in outputs:
                continue
            found.add(place)
            if self._file.nodes[place].op_type != up_to:
                open_ends.extend(self._file.nodes[place].inputs)
        return [self._file.nodes[place] for place in sorted(found)]

    def _tensor_by_name(self, node: OnnxNode) -> str | None:
        """Return the file's tensor that a node of the blocked layout makes, from its name, a sum and an activation taken in."""
        name = node.name
        while name not in self._maker and name not in self._by_name:
            shorter = _AFFIXES.sub("", name, count=1)
            if shorter == name:
                return None
            name = shorter
        tensor = name if name in self._maker else self._by_name[name].outputs[0]
        if node.op_type == "Conv" and len(node.inputs) > _CONV_INPUTS and node.inputs[_CONV_INPUTS]:
            other = self._same.get(node.inputs[_CONV_INPUTS])
            sums = [one for one in self._users.get(tensor, ()) if one.op_type in ("Add", "Sum") and other in one.inputs]
            if len(sums) != 1:
                return None
            tensor = sums[0].outputs[0]
        if node.activation is not None and self._file.nodes[self._maker[tensor]].op_type != node.activation:
            users = self._users.get(tensor, [])
            if len(users) != 1 or users[0].op_type != node.activation:
                return None
            tensor = users[0].outputs[0]
        return tensor


def _title(node: OnnxNode) -> str:
    return node.name or node.outputs[0]
