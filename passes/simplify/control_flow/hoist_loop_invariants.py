"""Loop-invariant code motion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from .... import ir
from ....ir.shapes.symbolic import at_least, product
from ...analyses import Dim, Shapes
from ...analyses.cost import VIEWS
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register
from ..folding.constant_folding import QUANTIZATION

_FREE: Final = VIEWS | frozenset({"ConstantOfShape", "Range", "EyeLike"})
"""Operators that are only hoisted with their users: in an iteration they cost no more than a captured value."""

_LARGER: Final = 4  # largest ratio of the bytes of hoisted results, which live as long as the loop, to their inputs


@register
@dataclass(frozen=True)
class HoistLoopInvariants(Pass):
    """Hoist loop-invariant nodes out of Loop and Scan, and replace invariant loop-carried states by their start.

    A loop with a trip count of 0 must not fail for what it would not have computed: where a first iteration is not
    proven, only operators over fitting dims are hoisted that accept any content (elementwise, MatMul, Transpose). No
    result that is much larger than its inputs is hoisted, and no views alone.

    before:  y = Loop(n, , x) <body = (i, c, v) -> (c, w) { e = Exp(z); w = Mul(v, e) }>
    after:   e = Exp(z); y = Loop(n, , x) <body = (i, c, v) -> (c, w) { w = Mul(v, e) }>
    """

    name: ClassVar[str] = "hoist-loop-invariants"

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        loops = [node for node in model.graph.all_nodes() if _is_loop(node, functions)]
        for node in reversed(loops):  # inner before outer
            shapes = context.analyses.get(Shapes)
            node = _capture_states(node, shapes, context)
            moving = _Invariants(node, shapes, context).worth_moving()
            place = f"in front of the {node.op_type}"
            if moving and context.log.try_rewrite(self.name, where(node), spell(moving), place):
                for each in moving:
                    _move(each, node, context)


def _is_loop(node: ir.Node, functions: frozenset[ir.OperatorIdentifier]) -> bool:
    if node.op_type not in ("Loop", "Scan") or node.domain != "" or node.op_identifier() in functions:
        return False
    return not node.attributes["body"].is_ref() and (node.op_type == "Loop" or (node.version or 0) >= 9)


def _capture_states(loop: ir.Node, shapes: Shapes, context: PassContext) -> ir.Node:
    """Replace the uses of an invariant state, in the body and after the loop, by its start; drop it when unused."""
    invariant = [each for each in ir.loop_states(loop) if ir.origin(each.end) is each.value]
    for state in invariant:
        uses = [(user, index) for user, index in state.value.uses() if state.end not in user.outputs]
        uses += state.result.uses()
        if state.start is None or not uses or not shapes.is_tensor(state.start):
            continue
        before = f"state {state.value.name}"
        if context.log.try_rewrite(HoistLoopInvariants.name, where(loop), before, "what it starts as"):
            for user, index in uses:
                context.rewriter.set_input(user, index, state.start)
    outputs = Counter(loop.attributes["body"].as_graph().outputs)
    unused = {state.index for state in invariant if _is_unused(state, outputs)}
    if len(unused) < len(loop.outputs) and unused:
        before = f"{len(unused)} states that are only handed on"
        if context.log.try_rewrite(HoistLoopInvariants.name, where(loop), before, "nothing"):
            return ir.drop_loop_states(context.rewriter, loop, unused)
    return loop


def _is_unused(state: ir.LoopState, outputs: Mapping[ir.Value, int]) -> bool:
    """Whether an invariant state has no users, except for an Identity that forwards it."""
    if ir.is_read(state.result) or outputs[state.end] > 1 or (state.end is not state.value and state.end.uses()):
        return False
    if state.end is not state.value and state.value in outputs:
        return False
    return all(state.end in user.outputs for user, _ in state.value.uses())


class _Invariants:
    """The loop-invariant nodes of a loop's body that may be hoisted."""

    def __init__(self, loop: ir.Node, shapes: Shapes, context: PassContext) -> None:
        self.body = loop.attributes["body"].as_graph()
        self.shapes = shapes
        self.slack = context.settings.growth_bytes
        runs = _runs_at_least_once(loop, shapes)
        functions = context.functions()
        self.nodes: set[ir.Node] = set()
        for node in self.body:
            if (
                all(value is None or self._is_fixed(value) for value in node.inputs)
                and node.op_type not in QUANTIZATION
                and not any(True for _ in ir.subgraphs_of(node))
                and ir.is_deterministic(node, functions)
                and (runs or _cannot_fail(node, shapes))
                and self._is_small(node)
            ):
                self.nodes.add(node)

    def _is_fixed(self, value: ir.Value) -> bool:
        return value.graph is not self.body or value.is_initializer() or value.producer() in self.nodes

    def _is_small(self, node: ir.Node) -> bool:
        results, operands = self._bytes(node.outputs), self._bytes(value for value in node.inputs if value is not None)
        if results is None or operands is None:
            return False
        return at_least(operands * _LARGER + self.slack, results)

    def _bytes(self, values: Iterable[ir.Value]) -> Dim | None:
        total: Dim = 0
        for value in values:
            fact = self.shapes.fact(value)
            if not value.name:
                continue
            if fact.dims is None or fact.dtype is None or fact.dtype == ir.DataType.STRING:
                return None
            total = total + product(fact.dims) * -(-fact.dtype.bitwidth // 8)
        return total

    def worth_moving(self) -> list[ir.Node]:
        """The nodes that save work, and those that they use, in order."""
        hoisted: set[ir.Node] = set()
        for node in reversed(self.body):
            if node in self.nodes and (
                node.op_type not in _FREE or any(user in hoisted for value in node.outputs for user, _ in value.uses())
            ):
                hoisted.add(node)
        return [node for node in self.body if node in hoisted]


def _runs_at_least_once(loop: ir.Node, shapes: Shapes) -> bool:
    if loop.op_type == "Scan":
        count, axes = ir.attribute(loop, "num_scan_inputs"), ir.attribute(loop, "scan_input_axes") or (0,)
        if not isinstance(count, int) or not isinstance(axes, (tuple, list)):
            return False
        scanned = loop.inputs[-count]
        dims = None if scanned is None else shapes.dims(scanned)
        return dims is not None and at_least(dims[int(axes[0])], 1)
    count, condition = [*loop.inputs, None, None][:2]
    if condition is not None and ir.scalar(condition) is not True:
        return False
    elements = None if count is None else shapes.shape_value(count)
    return count is None or (elements is not None and at_least(elements[0], 1))


def _cannot_fail(node: ir.Node, shapes: Shapes) -> bool:
    """Whether the operator has a result for any content of its inputs, whose dims are proven to fit each other."""
    if node.op_type == "Constant" and node.domain == "":
        return True
    facts = [shapes.fact(value) for value in node.inputs if value is not None]
    dims = [fact.dims for fact in facts if fact.dims is not None]
    dtype = facts[0].dtype if facts else None
    if node.domain != "" or dtype in (None, ir.DataType.STRING) or len(dims) < len(facts):
        return False
    match node.op_type:
        case "Identity" | "Shape" | "Size" | "Transpose":
            return True
        case "MatMul":
            a, b = dims
            return len(a) > 1 < len(b) and a[-1] == b[-2] and _broadcast([a[:-2], b[:-2]])
        case "Div" | "Mod":  # ONNX Runtime fails on division of integers by zero, and on floats with fmod = 0
            is_supported = node.op_type == "Div" or ir.attribute(node, "fmod") == 1
            return dtype.is_floating_point() and is_supported and _broadcast(dims)
        case operator if operator in ir.UNARY:
            return all(each == () for each in dims[1:])
        case operator:
            return operator in ir.BROADCASTING and operator != "PRelu" and _broadcast(dims)


def _broadcast(operands: Sequence[tuple[Dim, ...]]) -> bool:
    """Whether these dims broadcast in every run."""
    longest = max(map(len, operands))
    padded = [(1,) * (longest - len(dims)) + dims for dims in operands]
    return all(len({dim for dim in column if dim != 1}) <= 1 for column in zip(*padded, strict=True))


def _move(node: ir.Node, loop: ir.Node, context: PassContext) -> None:
    home = loop.graph
    assert home is not None
    for value in dict.fromkeys(node.inputs):
        if value is not None and value.is_initializer() and value.graph is node.graph:
            context.rewriter.move_initializer(value, home)
    for value in node.outputs:
        if value.is_graph_output():  # outputs of a body are computed in it
            copy = ir.new_node("Identity", [value], version=node.version, provenance=HoistLoopInvariants.name)
            context.rewriter.give_back(value, copy)
    context.rewriter.move(node, before=loop)
