"""Common subexpression elimination by content, across scopes."""

from __future__ import annotations

import struct
from collections import ChainMap
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ir
from ..analyses import Shapes
from ..analyses.manager import Analysis
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import Pass, PassContext, spell, where
from ..pipeline.registry import register

COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Max", "Min"}
)
"""Operators whose operands may stand in any order."""

_COMMUTATIVE_PAIRS = frozenset({"Sum", "Mean"})
"""With two operands alone: the sum of three is rounded by their order."""

ORDERED_ZEROS = frozenset({"Max", "Min"})
"""Of 0.0 and -0.0 (and of two NaNs) these take one by its place."""

_SCATTERS = frozenset({"ScatterElements", "ScatterND"})
Table = ChainMap[Hashable, ir.Node]


@register
@dataclass(frozen=True)
class CommonSubexpressionElimination(Pass):
    """Compute each thing once: a node that repeats an earlier one, in its own scope or an outer one, goes.

    So does an integer tensor that is proven to hold the sizes that an earlier one holds, however it was computed.
    Only nodes whose results depend on nothing but their inputs, with their bodies (If, Loop, Scan). Attributes compare
    bit for bit (0.0 is not -0.0), spelled out or by default; axes compare counted from the front.

    before:  a = Add(x, y); b = Add(y, x); z = Mul(a, b)
    after:   a = Add(x, y); z = Mul(a, a)
    """

    name: ClassVar[str] = "cse"
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        shapes = context.analyses.get(Shapes)
        shapes.refresh(model)
        keys = NodeKeys(shapes)
        for root in (model.graph, *(function.graph for function in model.functions.values())):
            for node, seen in _with_table(root):
                if not _may_merge(node, functions):
                    continue
                for key in (_known_elements(node, shapes), keys.of(node)):
                    if key is not None and self._visit(node, key, seen, context, shapes):
                        break

    def _visit(self, node: ir.Node, key: Hashable, seen: Table, context: PassContext, shapes: Shapes) -> bool:
        """Note `node`, or let its users read what stands under `key` already; whether it is gone."""
        earlier = seen.setdefault(key, node)
        if earlier is node:
            return False
        pairs = zip(node.outputs, earlier.outputs, strict=True)
        if not all(context.rewriter.can_redirect(old, new, before=node) for old, new in pairs):
            return False
        exactness = Exactness.EXACT
        if node.op_type in ORDERED_ZEROS and list(node.inputs) != list(earlier.inputs):
            dtype = shapes.dtype(node.outputs[0])
            if dtype is None or dtype.is_floating_point():
                exactness = Exactness.SPECIAL_VALUES
        after = f"the value of {where(earlier)}"
        if not context.log.try_rewrite(self.name, where(node), spell([node]), after, exactness):
            return False
        context.rewriter.replace(node, list(earlier.outputs))
        return True


def _may_merge(node: ir.Node, functions: frozenset[ir.OperatorIdentifier]) -> bool:
    if node.op_type in ("Constant", "Identity"):  # constants are lifted and deduplicated; Identity holds a name
        return False
    return not _is_written_over(node) and ir.is_deterministic(node, functions)


def _is_written_over(node: ir.Node) -> bool:
    """Whether a scatter adds into the fresh tensor that `node` makes: ONNX Runtime does it in place.

    Shared by two, each would copy it first: 12.9 ms against 11.3 ms in the scatters of a graph attention network.
    """
    if node.op_type != "ConstantOfShape" or node.domain != "":
        return False
    return any(user.op_type in _SCATTERS and index == 0 for user, index in node.outputs[0].uses())


def _with_table(root: ir.Graph) -> Iterator[tuple[ir.Node, Table]]:
    """Every node with what its scope has computed so far; a body sees what stands above its owner.

    A node comes after its bodies: none of them may use its results, which can be known to hold what the body computes.
    """
    pending: list[tuple[Iterator[ir.Node], Table, bool]] = [(iter(root), Table(), False)]
    while pending:
        nodes, seen, is_owner = pending[-1]
        node = next(nodes, None)
        if node is None:
            pending.pop()
            continue
        bodies = [] if is_owner else list(ir.subgraphs_of(node))
        if not bodies:
            yield node, seen
            continue
        pending.append((iter((node,)), seen, True))
        pending += [(iter(body), seen.new_child(), False) for body in reversed(bodies)]


def _known_elements(node: ir.Node, shapes: Shapes) -> Hashable | None:
    """What an integer tensor holds, as sizes and symbols: equal ones are equal however they were computed."""
    if len(node.outputs) != 1:
        return None
    fact = shapes.fact(node.outputs[0])
    if fact.elements is None or fact.dims is None or fact.dtype is None:
        return None
    return ("elements", fact.dtype, fact.dims, fact.elements)


class NodeKeys:
    """What a node computes: operator, operands and attributes, in one spelling."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._numbers: dict[object, int] = {}

    def _number(self, value: object) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def of(self, node: ir.Node, local: Mapping[ir.Value, Hashable] | None = None) -> Hashable | None:
        """Equal for nodes with equal results; None where they are not compared (sparse tensors, types).

        `local` names the values of the bodies around the node by place: they are other objects in an equal body.
        """
        operands: list[Hashable] = [
            local[value] if value is not None and local and value in local else self._number(value)
            for value in node.inputs
        ]
        absent = self._number(None)
        while operands and operands[-1] == absent:
            operands.pop()
        if _is_commutative(node):
            operands.sort(key=repr)
        axes = self._axes(node)
        for place, axis in axes.items():
            if isinstance(place, int) and place < len(operands):
                operands[place] = axis
        attributes: list[tuple[str, Hashable]] = []
        defaults = ir.defaults_of(node)
        for name in sorted(node.attributes):
            given = node.attributes[name]
            if name in axes or (not given.is_ref() and _is_default(given, defaults.get(name))):
                continue
            content = self._content(given, local or {})
            if content is None:
                return None
            attributes.append((name, content))
        attributes += [(name, content) for name, content in axes.items() if isinstance(name, str)]
        outputs = tuple(bool(value.name) for value in node.outputs)  # an output may be left out
        return (node.op_identifier(), node.version, tuple(operands), tuple(attributes), outputs)

    def _axes(self, node: ir.Node) -> dict[str | int, Hashable]:
        """The axes of a node counted from the front, by attribute name or place of the input; where they are known."""
        if node.domain != "" or node.op_type in _OTHER_AXES or not node.inputs or node.inputs[0] is None:
            return {}
        rank = self._shapes.rank(node.inputs[0])
        known = ir.schema_of(node)
        if rank is None or known is None:
            return {}
        found: dict[str | int, Hashable] = {}
        axis = ir.attribute(node, "axis") if "axis" in known.attributes else None
        if isinstance(axis, int) and not isinstance(axis, bool):
            found["axis"] = ("axis", axis % rank if -rank <= axis < rank else axis)
        axes = ir.parameter(node, "axes")
        if node.op_type in _UNORDERED_AXES and isinstance(axes, np.ndarray) and axes.size:
            content = ("axes", tuple(sorted(int(each) % rank if rank else int(each) for each in axes.reshape(-1))))
            found["axes" if "axes" in known.attributes else 1] = content
        return found

    def _content(self, attribute: ir.Attr, local: Mapping[ir.Value, Hashable]) -> Hashable | None:
        """An attribute's content, equal only for equal bits."""
        if attribute.is_ref():
            return ("reference", attribute.ref_attr_name)
        if isinstance(attribute, ir.EncodedAttr):
            return (attribute.type, attribute.digest())
        kind, value = attribute.type, attribute.value
        match kind:
            case ir.AttributeType.FLOAT:
                return (kind, struct.pack("<d", value))
            case ir.AttributeType.FLOATS:
                return (kind, struct.pack(f"<{len(value)}d", *value))
            case ir.AttributeType.INT | ir.AttributeType.STRING:
                return (kind, value)
            case ir.AttributeType.INTS | ir.AttributeType.STRINGS:
                return (kind, tuple(value))
            case ir.AttributeType.TENSOR:
                return (kind, ir.digest(value))
            case ir.AttributeType.GRAPH:
                return self._body(attribute.as_graph(), local)
            case _:
                return None

    def _body(self, graph: ir.Graph, local: Mapping[ir.Value, Hashable]) -> Hashable | None:
        """What a body computes: its nodes in order, over its own values by place and captured ones as they are."""
        depth = len({key[1] for key in local.values() if isinstance(key, tuple)})
        names: dict[ir.Value, Hashable] = dict(local)
        for index, value in enumerate(graph.inputs):
            names[value] = ("input", depth, index)
        for value in graph.initializers.values():
            if value not in names and value.const_value is not None:
                names[value] = ("constant", depth, ir.digest(value.const_value))
        nodes: list[Hashable] = []
        for place, node in enumerate(graph):
            key = self.of(node, names)
            if key is None:
                return None
            nodes.append(key)
            for index, value in enumerate(node.outputs):
                names[value] = ("result", depth, place, index)
        outputs = tuple(names[value] if value in names else self._number(value) for value in graph.outputs)
        inputs = tuple((value.dtype, str(value.shape)) for value in graph.inputs)
        return ("body", inputs, tuple(nodes), outputs)


_OTHER_AXES = frozenset({"OneHot", "Unsqueeze", "ConcatFromSequence", "SplitToSequence", "Flatten"})
"""Operators whose axes count the dims of something else than the first input."""

_UNORDERED_AXES = frozenset(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Squeeze".split()
)


def _is_commutative(node: ir.Node) -> bool:
    if node.domain != "":
        return False
    return node.op_type in COMMUTATIVE or (node.op_type in _COMMUTATIVE_PAIRS and len(node.inputs) == 2)


def _is_default(given: ir.Attr, default: object) -> bool:
    if isinstance(given, ir.EncodedAttr):
        return False
    value = tuple(given.value) if given.type in (ir.AttributeType.INTS, ir.AttributeType.STRINGS) else given.value
    if default is None or type(default) is not type(value):
        return isinstance(value, tuple) and isinstance(default, list) and value == tuple(default)
    if isinstance(default, float):
        return struct.pack("<d", default) == struct.pack("<d", value)
    return bool(value == default)
