"""Values that decide: rounding them otherwise may choose another leaf, label or branch, and not a nearby number.

A value that comes from inputs and constants by arithmetic and data movement alone is often exact (integers, grids of
sensor data), and thresholds are learnt on the very same numbers: 9 of 200,000 rows changed their leaf in a TreeEnsemble
when two shifts before it became one. Such a value must not be rounded otherwise on its way into an operator that
decides. Behind a reduction (MatMul, Conv, a mean) or a transcendental function there is noise already, which differs
between kernels and thread counts: there fusions in front of a final ArgMax stay. Whole numbers that the type holds
(images of uint8, tokens, masks) do not matter: sums and products of them are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from ... import ir

_MAX_NODES: Final = 64
_MOVEMENT: Final = ir.MOVEMENT | {"Concat", "Pad", "ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool"}
"""Operators that give elements as they are, the largest or smallest of some among them."""
_ARITHMETIC: Final = frozenset("Add Sub Mul Div Neg Abs Sum Max Min Clip Relu Cast CastLike Where".split())
_DECIDES: Final = frozenset(
    "Equal Less LessOrEqual Greater GreaterOrEqual ArgMax ArgMin TopK Round Floor Ceil Sign Hardmax NonMaxSuppression "
    "OneHot Unique QuantizeLinear DynamicQuantizeLinear IsNaN IsInf Mod".split()
)
_DECIDES_ML: Final = frozenset(
    "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor SVMClassifier LinearClassifier Binarizer LabelEncoder "
    "ArrayFeatureExtractor CategoryMapper".split()
)


Owners = Mapping[ir.Graph, ir.Node]
"""The node whose attribute a body is."""


def decided_by_rounding(value: ir.Value, owners: Owners) -> ir.Node | None:
    """An operator that decides by `value`, where that is plain arithmetic: it must not be rounded otherwise."""
    decision = reaches_decision(value, owners)
    return decision if decision is not None and is_plain_arithmetic(value, owners) else None


def reaches_decision(value: ir.Value, owners: Owners) -> ir.Node | None:
    """An operator that decides by `value`, directly or behind arithmetic and movement; None where none is near.

    Into and out of the bodies of If, Loop and Scan, and from one iteration to the next.
    """
    pending, seen = [value], set[ir.Value]()
    while pending and len(seen) < _MAX_NODES:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        for user, index in each.uses():
            if _decides(user, each) or (user.domain == "" and (user.op_type, index) in _CONDITIONS):
                return user
            if user.domain == "" and user.op_type in _MOVEMENT | _ARITHMETIC:
                pending += user.outputs
            pending += _into_body(user, index)
        pending += _out_of_body(each, owners)
    return None


def is_plain_arithmetic(value: ir.Value, owners: Owners) -> bool:
    """Whether `value` comes from inputs and constants by arithmetic and movement alone, as far as is looked."""
    pending, seen = [value], set[ir.Value]()
    while pending:
        each = pending.pop()
        if each in seen or ir.is_constant(each):
            continue
        seen.add(each)
        node = each.producer()
        if node is None:
            pending += _from_outside(each, owners)
            continue
        sources = _of_bodies(node, each)
        if len(seen) > _MAX_NODES:
            return False
        if sources is None:
            if node.domain != "" or node.op_type not in _MOVEMENT | _ARITHMETIC:
                return False
            sources = [given for given in node.inputs if given is not None]
        pending += sources
    return True


# --- the bodies of If, Loop and Scan ----------------------------------------------------------------------------------

_CONDITIONS: Final = frozenset({("If", 0), ("Loop", 0), ("Loop", 1)})
_BODIES: Final = frozenset({"If", "Loop", "Scan"})


def _is_body_owner(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in _BODIES


def _body(node: ir.Node) -> ir.Graph:
    return next(iter(ir.subgraphs_of(node)))


def _into_body(user: ir.Node, index: int) -> list[ir.Value]:
    """The body input of an input of a Loop or Scan, and the result that it becomes after no iteration."""
    if not _is_body_owner(user) or user.op_type == "If":
        return []
    first, _ = ir.state_offsets(user)
    inside = _body(user).inputs
    found = [inside[index]] if first <= index < len(inside) else []
    if found and user.op_type == "Loop" and index - first < len(user.outputs):
        found.append(user.outputs[index - first])
    return found


def _out_of_body(value: ir.Value, owners: Owners) -> list[ir.Value]:
    """The values that an output of a body becomes: a result of the node, and an input of the next iteration."""
    graph = _graph_of(value)
    owner = None if graph is None else owners.get(graph)
    if graph is None or owner is None or not _is_body_owner(owner):
        return []
    first_input, first_output = ir.state_offsets(owner)
    found = []
    for place in (index - first_output for index, output in enumerate(graph.outputs) if output is value):
        if 0 <= place < len(owner.outputs):
            found.append(owner.outputs[place])
        if owner.op_type != "If" and 0 <= place < _states(owner):
            found.append(graph.inputs[first_input + place])
    return found


def _from_outside(value: ir.Value, owners: Owners) -> list[ir.Value]:
    """The sources of an input of a body: an input of the node, or an output of the previous iteration."""
    graph = _graph_of(value)
    owner = None if graph is None else owners.get(graph)
    if graph is None or owner is None or not _is_body_owner(owner) or owner.op_type == "If":
        return []
    first_input, first_output = ir.state_offsets(owner)
    place = next((index for index, each in enumerate(graph.inputs) if each is value), 0)
    if place < first_input:
        return []  # the number of the iteration, or the condition
    outside = owner.inputs[place] if place < len(owner.inputs) else None
    found = [] if outside is None else [outside]
    if place - first_input < _states(owner):
        found.append(graph.outputs[first_output + place - first_input])
    return found


def _of_bodies(node: ir.Node, value: ir.Value) -> list[ir.Value] | None:
    """The sources of a result of If, Loop or Scan; None for other operators."""
    if not _is_body_owner(node):
        return None
    first_input, first_output = ir.state_offsets(node)
    place = next(index for index, each in enumerate(node.outputs) if each is value)
    found = [body.outputs[first_output + place] for body in ir.subgraphs_of(node)]
    if node.op_type == "Loop" and place < _states(node):
        start = node.inputs[first_input + place] if first_input + place < len(node.inputs) else None
        found += [] if start is None else [start]
    return found


def _states(node: ir.Node) -> int:
    """How many values a Loop or Scan hands from one iteration to the next."""
    return sum(1 for _ in ir.loop_states(node))


def _graph_of(value: ir.Value) -> ir.Graph | None:
    graph = value.graph
    return graph if isinstance(graph, ir.Graph) else None


# --- whole numbers ----------------------------------------------------------------------------------------------------

_EXACT_UP_TO: Final[Mapping[ir.DataType, int]] = {
    ir.DataType.BFLOAT16: 1 << 8,
    ir.DataType.FLOAT16: 1 << 11,
    ir.DataType.FLOAT: 1 << 24,
    ir.DataType.DOUBLE: 1 << 53,
}
"""Up to this magnitude a type holds every whole number (IEEE 754-2019, table 3.5: the digits of the significand)."""

_RANGES: Final[Mapping[ir.DataType, tuple[int, int]]] = {
    ir.DataType.BOOL: (0, 1),
    ir.DataType.INT8: (-(1 << 7), (1 << 7) - 1),
    ir.DataType.UINT8: (0, (1 << 8) - 1),
    ir.DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    ir.DataType.UINT16: (0, (1 << 16) - 1),
    ir.DataType.INT32: (-(1 << 31), (1 << 31) - 1),
    ir.DataType.UINT32: (0, (1 << 32) - 1),
}
Interval = tuple[float, float]
DTypes = Callable[[ir.Value], ir.DataType | None]


class WholeNumbers:
    """Values proven to be whole numbers of a magnitude that their type holds, and the intervals that they lie in.

    Sums, differences and products of such numbers are exact, in any order, as long as all of them are such numbers.
    """

    def __init__(self, dtype: DTypes) -> None:
        self._dtype = dtype
        self._known: dict[ir.Value, Interval | None] = {}

    def are_exact(self, nodes: Iterable[ir.Node]) -> bool:
        """Whether all results of `nodes` are such numbers."""
        return all(self.interval(value) is not None for node in nodes for value in node.outputs)

    def interval(self, value: ir.Value | None) -> Interval | None:
        """The least and the largest that an element can be; None where it may be another number."""
        if value is None:
            return None
        if value not in self._known:
            if len(self._known) >= _MAX_NODES:
                return None
            self._known[value] = None
            found, dtype = self._compute(value), self._dtype(value)
            limit = _EXACT_UP_TO.get(dtype) if dtype is not None else None
            if found is not None and limit is not None and -limit <= found[0] <= found[1] <= limit:
                self._known[value] = found
        return self._known[value]

    def _compute(self, value: ir.Value) -> Interval | None:
        node = value.producer()
        if node is None or ir.is_constant(value):
            return _whole_constant(value)
        if node.domain != "" or not node.inputs:
            return None
        if node.op_type == "Cast":
            source = node.inputs[0]
            dtype = None if source is None else self._dtype(source)
            return _RANGES[dtype] if dtype is not None and dtype in _RANGES else self.interval(source)
        if node.op_type in ir.MOVEMENT:
            return self.interval(node.inputs[0])
        given = node.inputs[1:] if node.op_type == "Where" else node.inputs
        known = [each for each in map(self.interval, given) if each is not None]
        if len(known) != len(given):
            return None
        return _of_operator(node.op_type, known)


def _of_operator(op_type: str, given: Sequence[Interval]) -> Interval | None:
    lows, highs = [low for low, _ in given], [high for _, high in given]
    match op_type:
        case "Add" | "Sum":
            return sum(lows), sum(highs)
        case "Sub":
            return lows[0] - highs[1], highs[0] - lows[1]
        case "Mul":
            ends = [one * other for one in given[0] for other in given[1]]
            return min(ends), max(ends)
        case "Neg":
            return -highs[0], -lows[0]
        case "Abs":
            return 0.0, max(-lows[0], highs[0])
        case "Relu":
            return max(lows[0], 0.0), max(highs[0], 0.0)
        case "Where" | "Concat" | "Min" | "Max":
            return min(lows), max(highs)
    return None


def _whole_constant(value: ir.Value) -> Interval | None:
    """Of a constant, or of one that is in no graph yet."""
    if value.graph is None and value.const_value is not None:
        content = np.asarray(value.const_value.numpy())
    else:
        known = ir.constant(value)
        if known is None:
            return None
        content = known
    if not content.size or content.size > 1 << 16 or content.dtype.kind not in "fViu":
        return None
    numbers = content.astype(np.float64)
    if not np.isfinite(numbers).all() or np.any(numbers != np.round(numbers)):
        return None
    return float(numbers.min()), float(numbers.max())


def _decides(node: ir.Node, value: ir.Value) -> bool:
    if node.domain == "ai.onnx.ml":
        return node.op_type in _DECIDES_ML
    if node.domain != "":
        return False
    if node.op_type == "Cast":
        return _is_discrete(ir.attribute(node, "to"))
    return node.op_type in _DECIDES or (node.op_type == "Where" and node.inputs[0] is value)


def _is_discrete(code: object) -> bool:
    return isinstance(code, int) and not ir.DataType(code).is_floating_point()
