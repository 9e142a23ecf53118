"""The models of the golden files as fragments of larger ones: hits and near misses in company."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx
from onnx import TensorProto
from optimize_graph.testing.golden import parse
from optimize_graph.testing.variation_feeds import reduces_backwards
from support.catalogue import CASES
from support.cuda_operators import runs_on_cuda_alone

Dim = int | str
Port = tuple[str, int, tuple[Dim, ...]]
LARGEST = 1 << 14  # elements of a weight: random models are small

# What an operator does with integers that a caller gives is beyond random ones: most would be no legal index.
TYPES = (TensorProto.FLOAT, TensorProto.BOOL)


@dataclass(frozen=True)
class Fragment:
    """A graph that can be spliced into another of its opset. Ports: name, element type, dims."""

    name: str
    graph: onnx.GraphProto
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    domains: Mapping[str, int]

    def renamed(
        self, names: dict[str, str], fresh: Callable[[], str]
    ) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Its nodes and initializers under fresh names, its inputs called as `names` says; `names` learns the rest."""
        names[""] = ""
        initializers = [_copy(tensor) for tensor in self.graph.initializer]
        for tensor in initializers:
            names[tensor.name] = tensor.name = fresh()
        return _renamed(self.graph.node, names, fresh), initializers


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    return made


def _renamed(nodes: Sequence[onnx.NodeProto], names: dict[str, str], fresh: Callable[[], str]) -> list[onnx.NodeProto]:
    made = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = fresh()
        copy.input[:] = [names[name] for name in node.input]
        for attribute in copy.attribute:
            _rename_body(attribute.g, dict(names), fresh) if attribute.HasField("g") else None
        names.update({name: fresh() for name in node.output if name})
        copy.output[:] = [names[name] for name in node.output]
        made.append(copy)
    return made


def _rename_body(graph: onnx.GraphProto, names: dict[str, str], fresh: Callable[[], str]) -> None:
    for value in (*graph.input, *graph.initializer):
        names[value.name] = value.name = fresh()
    nodes = _renamed(graph.node, names, fresh)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for value in graph.output:
        value.name = names[value.name]


@cache
def of_opset(opset: int) -> tuple[Fragment, ...]:
    return tuple(_all()[opset])


@cache
def _all() -> Mapping[int, Sequence[Fragment]]:
    found: dict[int, list[Fragment]] = defaultdict(list)
    for case in CASES:
        model = parse(case.before)
        imports = {each.domain: each.version for each in model.opset_import}
        opset = imports.pop("")
        given = {tensor.name for tensor in model.graph.initializer}
        small = all(len(tensor.SerializeToString()) <= 4 * LARGEST for tensor in model.graph.initializer)
        if model.functions or not small or given & {value.name for value in model.graph.input}:
            continue
        inputs, outputs = _ports(model.graph.input), _ports(model.graph.output)
        if reduces_backwards(model) or runs_on_cuda_alone(model):
            continue
        if inputs is not None and outputs is not None and all(dtype in TYPES for _, dtype, _ in inputs):
            found[opset].append(Fragment(str(case), model.graph, inputs, outputs, imports))
    return found


def _ports(values: Sequence[onnx.ValueInfoProto]) -> tuple[Port, ...] | None:
    """None where a rank or a dim has no name."""
    found = []
    for value in values:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        dims = [each.dim_value if each.HasField("dim_value") else each.dim_param for each in tensor.shape.dim]
        if "" in dims:
            return None
        found.append((value.name, tensor.elem_type, tuple(dims)))
    return tuple(found)
