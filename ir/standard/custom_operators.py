"""Definitions of operators outside the standard, registered by the passes that emit them.

A rule that emits a vendor's operator is verified against this meaning where the vendor's library is not at hand: as a
function body in ONNX, or as a Python function over numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

from ..diagnostics import Diagnostic, PipelineError
from ..io.proto_graphs import bodies_of, graphs_within

Reference: TypeAlias = Callable[..., Any]
"""Takes an operator's inputs as arrays (None for an absent one, nothing for those at the end) and its attributes by
keyword; gives an array, or a tuple of as many as the operator has outputs."""
Operator: TypeAlias = tuple[str, str]

_FUNCTIONS: dict[Operator, onnx.FunctionProto] = {}
_REFERENCES: dict[Operator, Reference] = {}


def operator_function(text: str | onnx.FunctionProto) -> onnx.FunctionProto:
    """Register the meaning of an operator as a function body, in ONNX text or as protobuf.

    The operator is the function's domain and name. A later registration of the same operator replaces an earlier one.
    Raises PipelineError for a text that does not parse, or one for a standard operator.
    """
    try:
        function = onnx.parser.parse_function(text) if isinstance(text, str) else text
    except onnx.parser.ParseError as error:
        raise PipelineError(Diagnostic("operator-semantics", f"the function body does not parse: {error}")) from None
    operator = _checked((function.domain, function.name))
    _REFERENCES.pop(operator, None)
    _FUNCTIONS[operator] = function
    return function


def operator_reference(domain: str, op_type: str) -> Callable[[Reference], Reference]:
    """Decorator: register a Python function as the meaning of an operator, see `Reference`.

    Raises PipelineError for a standard operator.
    """
    operator = _checked((domain, op_type))

    def register(function: Reference) -> Reference:
        _FUNCTIONS.pop(operator, None)
        _REFERENCES[operator] = function
        return function

    return register


def forget_operator(domain: str, op_type: str) -> None:
    """Drop what was registered for an operator, if anything was."""
    _FUNCTIONS.pop((domain, op_type), None)
    _REFERENCES.pop((domain, op_type), None)


def _checked(operator: Operator) -> Operator:
    if operator[0] in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft"):
        message = f"{operator[1]!r} of domain {operator[0] or 'ai.onnx'!r} has a meaning of its own"
        raise PipelineError(Diagnostic("operator-semantics", message, hint="name a vendor's domain"))
    return operator


@dataclass(frozen=True)
class Interpreted:
    """A model that is run by registered meanings: `proto` calls functions, and `references` are left to Python."""

    proto: onnx.ModelProto
    references: Mapping[Operator, Reference]


def interpreted(source: Path | bytes) -> Interpreted | None:
    """A model in terms of registered meanings, with all weights in it; None where it calls no operator that has one.

    Functions are added to the model's own, those that they call too.
    """
    if not _FUNCTIONS and not _REFERENCES:
        return None
    if isinstance(source, bytes):
        proto = onnx.load_model_from_string(source)
    else:
        proto = onnx.load_model(source, load_external_data=False)
    called = _called(proto)
    if not called:
        return None
    if isinstance(source, Path):
        proto = onnx.load_model(source)
    proto.functions.extend(_FUNCTIONS[operator] for operator in called if operator in _FUNCTIONS)
    imported = {each.domain for each in proto.opset_import}
    for domain in dict.fromkeys(domain for domain, _ in called):
        if domain not in imported:
            proto.opset_import.add(domain=domain, version=1)
    return Interpreted(proto, {each: _REFERENCES[each] for each in called if each in _REFERENCES})


def has_meaning(proto: onnx.ModelProto) -> bool:
    """Whether a model calls an operator whose meaning is registered."""
    return bool((_FUNCTIONS or _REFERENCES) and _called(proto))


def _called(proto: onnx.ModelProto) -> list[Operator]:
    """The operators with a registered meaning that a model calls, itself or through registered functions."""
    known = _FUNCTIONS.keys() | _REFERENCES.keys()
    own = {(function.domain, function.name) for function in proto.functions}
    called: dict[Operator, None] = {}
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        for node in _nodes(pending.pop()):
            operator = node.domain, node.op_type
            if operator in known and operator not in own and operator not in called:
                called[operator] = None
                if operator in _FUNCTIONS:
                    pending.append(_FUNCTIONS[operator])
    return list(called)


def _nodes(*roots: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of graphs, and of those that they hold."""
    for graph in graphs_within(*roots):
        yield from graph.node


# --- stages -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """Part of a model between two calls of Python references: a model of its own, or one call.

    `inputs` and `outputs` are the names of values; absent ones of a call are empty.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    call: Reference | None = None


def stages(model: Interpreted) -> list[Stage]:
    """The parts of a model's main graph in an order that can run.

    Raises PipelineError where a body or a function calls a reference: only the main graph can be taken apart.
    """
    proto, graph = model.proto, model.proto.graph
    inner = list(_nodes(*proto.functions))
    inner += [node for outer in graph.node for node in _inner(outer)]
    for node in inner:
        if (node.domain, node.op_type) in model.references:
            message = f"{node.domain}.{node.op_type} is called inside a body, where its Python reference cannot run"
            raise PipelineError(Diagnostic("operator-semantics", message, hint="give a function body in ONNX instead"))
    outer = {name for node in graph.node for name in node.output}
    outer |= {value.name for value in (*graph.input, *graph.initializer)}
    level: dict[str, int] = {}
    groups: dict[int, list[onnx.NodeProto]] = {}
    calls: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.node:
        depth = max((level.get(name, 0) for name in (*node.input, *_captured(node))), default=0)
        is_call = (node.domain, node.op_type) in model.references
        (calls if is_call else groups).setdefault(depth, []).append(node)
        level.update(dict.fromkeys(node.output, depth + is_call))
    needed = {output.name for output in graph.output}
    found: list[Stage] = []
    for depth in sorted(groups.keys() | calls.keys(), reverse=True):
        for node in calls.get(depth, []):
            call = model.references[node.domain, node.op_type]
            found.append(Stage(tuple(node.input), tuple(node.output), (node,), call))
            needed |= set(node.input)
        nodes = groups.get(depth, [])
        results = {name for node in nodes for name in node.output if name}
        reads = {name for node in nodes for name in (*node.input, *_captured(node))} & outer - results
        if nodes:
            found.append(Stage(tuple(sorted(reads)), tuple(sorted(results & needed)), tuple(nodes)))
            needed |= reads
    return found[::-1]


def stage_model(model: Interpreted, stage: Stage, types: Mapping[str, tuple[int, int]]) -> bytes:
    """A serialized model that computes one stage; `types`: element type and rank of the inputs that are no weights."""
    proto = model.proto
    weights = [each for each in proto.graph.initializer if each.name in stage.inputs and each.name not in types]
    inputs = [
        onnx.helper.make_tensor_value_info(name, types[name][0], [None] * types[name][1])
        for name in stage.inputs
        if name in types
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in stage.outputs]
    graph = onnx.helper.make_graph(list(stage.nodes), "stage", inputs, outputs, initializer=weights)
    made = onnx.helper.make_model(graph, opset_imports=list(proto.opset_import), functions=list(proto.functions))
    made.ir_version = proto.ir_version
    data: bytes = made.SerializeToString()
    return data


def weights_of(model: Interpreted) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The initializers of the main graph by name."""
    return {each.name: onnx.numpy_helper.to_array(each) for each in model.proto.graph.initializer}


def ports_of(values: Sequence[onnx.ValueInfoProto]) -> list[tuple[str, str, tuple[int | str | None, ...]]]:
    """Name, type as ONNX Runtime writes it (`tensor(float)`) and dims of tensors in the interface of a model."""
    found = []
    for value in values:
        kind = value.type.tensor_type
        dims = tuple(getattr(dim, dim.WhichOneof("value") or "", None) for dim in kind.shape.dim)
        found.append((value.name, f"tensor({onnx.TensorProto.DataType.Name(kind.elem_type).lower()})", dims))
    return found


def call_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name, as Python values; tensors as arrays."""
    found = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    return {name: _plain(each) for name, each in found.items()}


def _plain(value: object) -> object:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value.decode() if isinstance(value, bytes) else value


def _inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    return _nodes(*bodies_of(node))


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that bodies of a node read; some may be their own."""
    results = {output.name for body in bodies_of(node) for output in body.output}
    return results | {name for each in _inner(node) for name in each.input}
