"""Propagate a constant scale up through operators that commute with it, into constants.

All operators on the way are linear in the scaled value, and their results have no other users: additions,
concatenations and data movement scale every operand, products one of them, an operator with weights its weight and
bias. The search is bounded (`_MOST_NODES`, `_MOST_STEPS`), whatever the size of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import Vector, round_weight
from .per_axis_constant import PerAxisConstant, before, fits, read

x, y, c = values("x y c")

_MOST_NODES = 24
_MOST_STEPS = 96
_SMALL = 1 << 12  # elements of a constant that may be stored twice

Way = list[tuple[int, PerAxisConstant]]
Slot = tuple[ir.Node, int]


@dataclass(frozen=True)
class Plan:
    """The factors of the scaled values (inner ones and constants), and the operand slots that use them scaled."""

    scaled: dict[ir.Value, PerAxisConstant]
    slots: dict[ir.Value, frozenset[Slot]]

    def with_demand(self, value: ir.Value, by: PerAxisConstant, slot: Slot) -> Plan | None:
        """The plan that scales `value` too, as `slot` uses it; None where it has another factor already."""
        old = self.scaled.get(value)
        if old is not None and (old.axis != by.axis or not np.array_equal(old.numbers, by.numbers)):
            return None
        slots = self.slots.get(value, frozenset()) | {slot}
        return Plan({**self.scaled, value: by}, {**self.slots, value: slots})

    def is_closed(self) -> bool:
        """Whether all users of the scaled values expect them scaled, small constants apart: those are copied."""
        return all(
            (not value.is_graph_output() and set(value.uses()) == {(*slot,) for slot in self.slots[value]})
            or _is_small_constant(value)
            for value in self.scaled
        )

    def scaled_constants(self) -> dict[ir.Value, ir.Array] | None:
        """The scaled constants in their own types; None where a type cannot hold one."""
        contents: dict[ir.Value, ir.Array] = {}
        for value, by in self.scaled.items():
            if ir.is_constant(value):
                content = _scaled_constant(value, by)
                if content is None:
                    return None
                contents[value] = content
        return contents


@dataclass(frozen=True)
class Solution:
    """A closed plan, and the content of its scaled constants."""

    plan: Plan
    constants: dict[ir.Value, ir.Array]


def _is_small_constant(value: ir.Value) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size <= _SMALL


def _ways(m: Match, node: ir.Node, value: ir.Value, by: PerAxisConstant) -> Iterator[Way]:
    """The alternatives to scale `value`, a result of `node`, by scaling operands: (input, its factor) for each."""
    if node.domain != "" or node.graph is not m.root.graph or any(map(ir.is_read, node.outputs[1:])):
        return
    rank = m.shapes.rank(value)
    moved = before(node, by, m.shapes)
    if moved is not None:
        yield [(0, moved)]
    elif node.op_type == "Concat":
        axis = ir.attribute(node, "axis")
        if by.axis is None or (isinstance(axis, int) and rank is not None and by.axis not in (axis, axis - rank)):
            yield [(index, by) for index in range(len(node.inputs))]
    elif node.op_type == "MatMul":
        yield from _ways_of_matmul(m, node, by)
    else:
        yield from _ways_of_arithmetic(node, by)
        yield from _ways_of_weights(m, node, by, None if rank is None else 1 - rank)


def _ways_of_arithmetic(node: ir.Node, by: PerAxisConstant) -> Iterator[Way]:
    match node.op_type:
        case "Neg":
            yield [(0, by)]
        case "Relu" | "LeakyRelu":  # homogeneous
            if np.all(by.numbers > 0):
                yield [(0, by)]
        case "ReduceSum" | "ReduceMean" | "GlobalAveragePool" if by.axis is None:
            yield [(0, by)]
        case "Add" | "Sub" | "Sum":
            yield [(index, by) for index in range(len(node.inputs))]
        case "Mul":
            yield from ([(index, by)] for index in sorted((0, 1), key=lambda at: not ir.is_constant(node.inputs[at])))
        case "Div":
            if ir.is_constant(node.inputs[1]) and np.all(by.numbers):
                yield [(1, PerAxisConstant(1.0 / by.numbers, by.axis))]
            yield [(0, by)]


def _ways_of_weights(m: Match, node: ir.Node, by: PerAxisConstant, channel: int | None) -> Iterator[Way]:
    """Scale the weight and bias, or scale and bias, of an operator; `channel` is its channel axis from the end."""
    last = by.at(-1) if by.axis else by
    match node.op_type:
        case "Gemm" if by.axis in (None, -1):
            yield [(1, by.at(-2 if ir.attribute(node, "transB") else -1) if by.axis else by), (2, by)]
        case "Conv" if by.axis in (None, channel):
            rank = m.shapes.rank(node.inputs[1]) if node.inputs[1] is not None else None
            if rank is not None:
                yield [(1, by.at(-rank) if by.axis else by), (2, last)]
        case "ConvTranspose" if by.axis is None:
            yield [(1, by), (2, by)]
        case "BatchNormalization" | "InstanceNormalization" if by.axis in (None, channel):
            if not ir.attribute(node, "training_mode") and (node.version or 0) >= 9:
                yield [(1, last), (2, last)]
        case "LayerNormalization" if by.axis in (None, -1):
            yield [(1, by), (2, by)]
        case "RMSNormalization" if by.axis in (None, -1):
            yield [(1, by)]


def _ways_of_matmul(m: Match, node: ir.Node, by: PerAxisConstant) -> Iterator[Way]:
    left, right = node.inputs
    constants = [ir.is_constant(left), ir.is_constant(right)]
    if (
        not any(constants)
        and m.context.settings.target.is_onnxruntime
        and any(user.op_type in ("Add", "Where") for user in m.root.outputs[0].consumers())
    ):
        return  # ONNX Runtime's attention fusion looks for the scale between the product and the mask
    # Rows are those of the left operand, columns those of the right; an operand of rank 1 has neither.
    ranks = [m.shapes.rank(each) if each is not None else None for each in (left, right)]
    ways = [index for index in (1, 0) if by.axis is None or (by.axis == (-2, -1)[index] and (ranks[index] or 0) >= 2)]
    yield from ([(index, by)] for index in sorted(ways, key=lambda at: not constants[at]))


def _solve(m: Match, by: PerAxisConstant) -> Solution | str:
    """Depth-first search for a closed plan that scales `x` as the root uses it; why there is none."""
    target = m.x.value
    first = Plan({target: by}, {target: frozenset({(m.root, m.root.inputs.index(target))})})
    pending: list[tuple[Plan, tuple[ir.Value, ...]]] = [(first, (target,))]
    for _ in range(_MOST_STEPS):
        if not pending:
            return "no operator with constant weights above takes the scale"
        plan, todo = pending.pop()
        if not todo:
            if plan.is_closed() and (constants := plan.scaled_constants()) is not None:
                return Solution(plan, constants)
            continue
        value, rest = todo[0], todo[1:]
        if ir.is_constant(value):
            pending.append((plan, rest))  # whether its type can hold the product is checked at the end
            continue
        node = value.producer()
        if len(plan.scaled) > _MOST_NODES or node is None or value.is_graph_output():
            continue
        for way in list(_ways(m, node, value, plan.scaled[value]))[::-1]:
            extended = _extend(m, plan, rest, node, way)
            if extended is not None:
                pending.append(extended)
    return "no operator with constant weights was found nearby"


def _extend(
    m: Match, plan: Plan, todo: tuple[ir.Value, ...], node: ir.Node, way: Way
) -> tuple[Plan, tuple[ir.Value, ...]] | None:
    for index, by in way:
        operand = node.inputs[index] if index < len(node.inputs) else None
        if operand is None:
            continue
        if not ir.is_constant(operand) and not fits(by, m.shapes, operand):
            return None
        is_new = operand not in plan.scaled
        extended = plan.with_demand(operand, by, (node, index))
        if extended is None:
            return None
        plan, todo = extended, (*todo, operand) if is_new else todo
    return plan, todo


def _scaled_constant(value: ir.Value, by: PerAxisConstant) -> ir.Array | None:
    """The constant times the factor in its own type; None where that cannot hold it."""
    content = ir.constant(value)
    if content is None or content.dtype.kind not in "fV" or not np.isfinite(content.astype(np.float64)).all():
        return None
    with np.errstate(over="ignore"):
        exact: Vector = content.astype(np.float64) * by.spread()
    return round_weight(exact, content.dtype)


def _read_factor(m: Match) -> PerAxisConstant | str:
    if not m.has("c"):
        return PerAxisConstant(np.array([-1.0]))
    factor = read(m.c.array, m.shapes, m.x.value)
    if factor is None:
        return f"{list(m.c.array.shape)} on {m.shapes.show(m.x.value)}"
    if not m.has("Div"):
        return factor
    return PerAxisConstant(1.0 / factor.numbers, factor.axis) if np.all(factor.numbers) else "it divides by zero"


def _read_scalar_factor(m: Match) -> PerAxisConstant | str:
    if m.c.array.size != 1 or m.c.array.ndim > (m.y.rank or 0):
        return f"{list(m.c.array.shape)} on {m.shapes.show(m.y.value)}"
    return _read_factor(m)


TAKEN = "constants above that take the scale"
SOURCE = "s·(xW + b) = x(sW) + sb; Jacob et al. 2018, section 3.2 (arXiv:1712.05877)"
_factor = let("c one number, or numbers along one axis of x", _read_factor)
_solution = let(TAKEN, lambda m: _solve(m, m[_factor]))


@rule(
    op.Mul(x, c).any_order() | op.Div(x, c) | op.Neg(x),
    requires=[constant("c"), floating("x"), finite("c"), _factor, _solution],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
    benefit=-1,
)
def propagate_scale(m: Match, op: Builder) -> ir.Value | None:
    """Scale the constants that a value is computed from instead of the value.

    before:  y = Mul(Transpose(Reshape(Add(MatMul(x, %w), %b), d)), %s)
    after:   y = Transpose(Reshape(Add(MatMul(x, %(w * s)), %(b * s)), d))
    """
    return _scaled(m, op, m[_solution])


_scalar_factor = let("c one number, of no higher rank than what it scales", _read_scalar_factor)
_scalar_solution = let(TAKEN, lambda m: _solve(m, m[_scalar_factor]))


@rule(
    op.MatMul(x, op.Mul(y, c).any_order() | op.Div(y, c)) | op.MatMul(op.Mul(y, c).any_order() | op.Div(y, c), x),
    requires=[
        constant("c"),
        floating("x"),
        finite("c"),
        require(
            "another factor that is computed",
            lambda m: not m.x.is_constant,
            lambda m: f"{m.x.value.name!r} is constant",
        ),
        _scalar_factor,
        _scalar_solution,
    ],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
    benefit=-1,
)
def propagate_scale_across_matmul(m: Match, op: Builder) -> ir.Value | None:
    """Scale the constants that one operand of a product is computed from instead of the other operand.

    before:  y = MatMul(Reshape(MatMul(x, %w), d), Mul(k, %s))
    after:   y = MatMul(Reshape(MatMul(x, %(w * s)), d), k)
    """
    scaled = _scaled(m, op, m[_scalar_solution])
    return op.MatMul(*(scaled if each is m.x.value else m.y.value for each in m.root.inputs))


def _scaled(m: Match, op: Builder, solution: Solution) -> ir.Value:
    """`x` recomputed from the scaled constants."""
    scaled = {value: op.constant(content) for value, content in solution.constants.items()}
    slots = frozenset[Slot]().union(*solution.plan.slots.values())
    for value, node in _operands_first(solution.plan):
        inputs = [
            scaled[each] if each is not None and (node, index) in slots and each in scaled else each
            for index, each in enumerate(node.inputs)
        ]
        outputs = op.node(node.op_type, inputs, len(node.outputs), attributes=dict(node.attributes))
        scaled[value] = outputs[node.outputs.index(value)]
    return scaled[m.x.value]


def _operands_first(plan: Plan) -> list[tuple[ir.Value, ir.Node]]:
    """The inner values with their producers, in topological order."""
    order: list[tuple[ir.Value, ir.Node]] = []
    pending = {
        value: node for value in plan.scaled if not ir.is_constant(value) and (node := value.producer()) is not None
    }
    while pending:
        ready = [value for value, node in pending.items() if not any(each in pending for each in node.inputs)]
        order += [(value, pending.pop(value)) for value in ready]
    return order
