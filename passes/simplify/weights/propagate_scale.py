"""A constant scale goes back through whatever commutes with it, into the constants that the value was made from.

What is walked over is linear in the scaled value, and nobody outside reads any of it: additions, concatenations and
data movement scale every operand, products one of them, an operator with weights its weights and bias. The walk is
short (`_MOST_NODES`), whatever the size of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Condition, Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import Vector, carries
from .per_axis_constant import PerAxisConstant, before, fits, read

x, y, c = values("x y c")

_MOST_NODES = 24
_MOST_STEPS = 96
_HOMOGENEOUS = ("Relu", "LeakyRelu")
_AVERAGES = ("ReduceSum", "ReduceMean", "GlobalAveragePool")
_SMALL = 1 << 12  # elements of a constant that may be stored twice

Demand = tuple[ir.Value, PerAxisConstant]
Slot = tuple[ir.Node, int]


@dataclass(frozen=True)
class Plan:
    """What is scaled by what: inner values, and constants, with the operand slots that read them scaled."""

    scaled: dict[ir.Value, PerAxisConstant] = field(default_factory=dict)
    slots: dict[ir.Value, frozenset[Slot]] = field(default_factory=dict)

    def with_demand(self, value: ir.Value, by: PerAxisConstant, slot: Slot) -> Plan | None:
        """The plan that scales `value` too, as `slot` reads it; None where it is scaled otherwise already."""
        old = self.scaled.get(value)
        if old is not None and (old.axis != by.axis or not np.array_equal(old.numbers, by.numbers)):
            return None
        slots = self.slots.get(value, frozenset()) | {slot}
        return Plan({**self.scaled, value: by}, {**self.slots, value: slots})

    def is_closed(self) -> bool:
        """Whether nobody reads a scaled value who does not expect it, small constants aside: those are copied."""
        return all(
            (not value.is_graph_output() and set(value.uses()) == {(*slot,) for slot in self.slots[value]})
            or _is_small_constant(value)
            for value in self.scaled
        )

    def keeps_precision(self) -> bool:
        """Whether every constant can be scaled in its own type."""
        constants = ((value, by) for value, by in self.scaled.items() if ir.is_constant(value))
        return all(_scaled_constant(value, by) is not None for value, by in constants)


def _is_small_constant(value: ir.Value) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size <= _SMALL


def _positive(by: PerAxisConstant) -> bool:
    return bool(np.all(by.numbers > 0))


def _ways(m: Match, value: ir.Value, by: PerAxisConstant) -> Iterator[list[tuple[int, PerAxisConstant]]]:
    """Each way to scale `value` by scaling operands of the node that makes it: (input, its factor)."""
    node = value.producer()
    if node is None or node.domain != "" or node.graph is not m.root.graph or any(map(ir.is_read, node.outputs[1:])):
        return
    shapes, kind = m.shapes, node.op_type
    rank = shapes.rank(value)
    channel = None if rank is None else 1 - rank
    moved = before(node, by, shapes)
    if moved is not None:
        yield [(0, moved)]
    elif kind == "Neg" or (kind in _HOMOGENEOUS and _positive(by)) or (kind in _AVERAGES and by.axis is None):
        yield [(0, by)]
    elif kind in ("Add", "Sub", "Sum"):
        yield [(index, by) for index in range(len(node.inputs))]
    elif kind == "Concat":
        axis = ir.attribute(node, "axis")
        if by.axis is None or (isinstance(axis, int) and rank is not None and by.axis not in (axis, axis - rank)):
            yield [(index, by) for index in range(len(node.inputs))]
    elif kind == "Mul":
        yield from ([(index, by)] for index in sorted((0, 1), key=lambda at: not ir.is_constant(node.inputs[at])))
    elif kind == "Div":
        if ir.is_constant(node.inputs[1]) and np.all(by.numbers):
            yield [(1, PerAxisConstant(1.0 / by.numbers, by.axis))]
        yield [(0, by)]
    elif kind == "MatMul":
        yield from _ways_of_matmul(m, node, by)
    elif kind == "Gemm" and by.axis in (None, -1):
        yield [(1, by.at(-2 if ir.attribute(node, "transB") else -1) if by.axis else by), (2, by)]
    elif kind == "Conv" and by.axis in (None, channel):
        weight = shapes.rank(node.inputs[1]) if node.inputs[1] is not None else None
        if weight is not None:
            yield [(1, by.at(-weight) if by.axis else by), (2, by.at(-1) if by.axis else by)]
    elif kind == "ConvTranspose" and by.axis is None:
        yield [(1, by), (2, by)]
    elif kind in ("BatchNormalization", "InstanceNormalization") and by.axis in (None, channel):
        if not ir.attribute(node, "training_mode") and (node.version or 0) >= 9:
            yield [(1, by.at(-1) if by.axis else by), (2, by.at(-1) if by.axis else by)]
    elif kind in ("LayerNormalization", "RMSNormalization") and by.axis in (None, -1):
        yield [(1, by), (2, by)] if kind == "LayerNormalization" else [(1, by)]


def _ways_of_matmul(m: Match, node: ir.Node, by: PerAxisConstant) -> Iterator[list[tuple[int, PerAxisConstant]]]:
    left, right = node.inputs
    constants = [ir.is_constant(left), ir.is_constant(right)]
    if (
        not any(constants)
        and m.context.settings.target.is_onnxruntime
        and any(reader.op_type in ("Add", "Where") for reader in m.root.outputs[0].consumers())
    ):
        return  # ONNX Runtime's attention fusion looks for the scale between the product and the mask
    # Rows are the first factor's, columns the second's; a factor of rank 1 has neither.
    ranks = [m.shapes.rank(each) if each is not None else None for each in (left, right)]
    ways = [index for index in (1, 0) if by.axis is None or (by.axis == (-2, -1)[index] and (ranks[index] or 0) >= 2)]
    yield from ([(index, by)] for index in sorted(ways, key=lambda at: not constants[at]))


def _solve(m: Match) -> Plan | str:
    """A closed plan that scales `x`, as the root (or the product that it goes into) reads it; or why there is none."""
    by = _factor(m)
    assert by is not None
    first = Plan().with_demand(m.x.value, by, (m.root, m.root.inputs.index(m.x.value)))
    assert first is not None
    pending: list[tuple[Plan, tuple[ir.Value, ...]]] = [(first, (m.x.value,))]
    for _ in range(_MOST_STEPS):
        if not pending:
            return "no operator with constant weights above takes the scale"
        plan, todo = pending.pop()
        if not todo:
            if plan.is_closed() and plan.keeps_precision():
                return plan
            continue
        value, rest = todo[0], todo[1:]
        if ir.is_constant(value):
            pending.append((plan, rest))  # whether its type can hold the product is looked at in the end
            continue
        if len(plan.scaled) > _MOST_NODES or not _is_inner(value):
            continue
        for way in list(_ways(m, value, plan.scaled[value]))[::-1]:
            further = _follow(m, plan, rest, value, way)
            if further is not None:
                pending.append(further)
    return "no operator with constant weights was found nearby"


def _is_inner(value: ir.Value) -> bool:
    return value.producer() is not None and not value.is_graph_output()


def _follow(
    m: Match, plan: Plan, todo: tuple[ir.Value, ...], value: ir.Value, way: list[tuple[int, PerAxisConstant]]
) -> tuple[Plan, tuple[ir.Value, ...]] | None:
    node = value.producer()
    assert node is not None
    for index, by in way:
        operand = node.inputs[index] if index < len(node.inputs) else None
        if operand is None:
            continue
        if not ir.is_constant(operand) and not fits(by, m.shapes, operand):
            return None
        is_new = operand not in plan.scaled
        found = plan.with_demand(operand, by, (node, index))
        if found is None:
            return None
        plan, todo = found, (*todo, operand) if is_new else todo
    return plan, todo


def _scaled_constant(value: ir.Value, by: PerAxisConstant) -> ir.Array | None:
    """The constant times the factor in its own type; None where that loses it."""
    content = ir.constant(value)
    if content is None or content.dtype.kind not in "fV" or not np.isfinite(content.astype(np.float64)).all():
        return None
    with np.errstate(over="ignore"):
        exact: Vector = content.astype(np.float64) * by.spread()
    with np.errstate(over="ignore"):
        rounded = exact.astype(content.dtype)
    return rounded if carries(rounded, exact) else None


def _factor(m: Match) -> PerAxisConstant | None:
    if not m.has("c"):
        return PerAxisConstant(np.array([-1.0]))
    found = read(m.c.array, m.shapes, m.x.value)
    if found is None or not m.has("Div"):
        return found
    return PerAxisConstant(1.0 / found.numbers, found.axis) if np.all(found.numbers) else None


def _why_not(m: Match) -> str | None:
    found = _solve(m)
    return found if isinstance(found, str) else None


TAKEN = Condition("constants above that take the scale", _why_not)
SOURCE = "s·(xW + b) = x(sW) + sb; Jacob et al. 2018, section 3.2 (arXiv:1712.05877)"


@rule(
    op.Mul(x, c).any_order() | op.Div(x, c) | op.Neg(x),
    requires=[
        constant("c"),
        floating("x"),
        finite("c"),
        require("c one number, or numbers along one axis of x", lambda m: _factor(m) is not None),
        TAKEN,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
    benefit=-1,
)
def propagate_scale(m: Match, op: Builder) -> ir.Value | None:
    """Scale the constants that a value was made from instead of the value.

    before:  x -> MatMul(w) -> Add(b) -> Reshape -> Transpose -> Mul(s) -> y
    after:   x -> MatMul(w * s) -> Add(b * s) -> Reshape -> Transpose -> y
    """
    return _scaled(m, op)


@rule(
    op.MatMul(x, op.Mul(y, c).any_order() | op.Div(y, c)) | op.MatMul(op.Mul(y, c).any_order() | op.Div(y, c), x),
    requires=[
        constant("c"),
        floating("x"),
        finite("c"),
        require("another factor that is computed", lambda m: not m.x.is_constant),
        require(
            "c one number, of no higher rank than what it scales",
            lambda m: m.c.array.size == 1 and _factor(m) is not None and m.c.array.ndim <= (m.y.rank or 0),
        ),
        TAKEN,
    ],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
    benefit=-1,
)
def propagate_scale_across_matmul(m: Match, op: Builder) -> ir.Value | None:
    """Scale the constants that one factor of a product was made from instead of the other factor.

    before:  MatMul(Reshape(MatMul(x, w)), Mul(k, s)) -> y
    after:   MatMul(Reshape(MatMul(x, w * s)), k) -> y
    """
    scaled = _scaled(m, op)
    return op.MatMul(*(scaled if each is m.x.value else m.y.value for each in m.root.inputs))


def _scaled(m: Match, op: Builder) -> ir.Value:
    """`x` again, made from scaled constants."""
    plan = _solve(m)
    assert isinstance(plan, Plan)
    made: dict[ir.Value, ir.Value] = {}
    for value, by in plan.scaled.items():
        if ir.is_constant(value):
            content = _scaled_constant(value, by)
            assert content is not None
            made[value] = op.constant(content)
    slots = frozenset[Slot]().union(*plan.slots.values())
    for value in _operands_first(plan):
        node = value.producer()
        assert node is not None
        inputs = [
            made[each] if each is not None and (node, index) in slots and each in made else each
            for index, each in enumerate(node.inputs)
        ]
        outputs = op.node(node.op_type, inputs, len(node.outputs), attributes=dict(node.attributes))
        made[value] = outputs[node.outputs.index(value)]
    return made[m.x.value]


def _operands_first(plan: Plan) -> list[ir.Value]:
    """The inner values in an order in which each comes after those that it is computed from."""
    order: list[ir.Value] = []
    pending = [value for value in plan.scaled if not ir.is_constant(value)]
    while pending:
        ready = [value for value in pending if _is_ready(value, pending)]
        order += ready
        pending = [value for value in pending if value not in ready]
    return order


def _is_ready(value: ir.Value, pending: list[ir.Value]) -> bool:
    node = value.producer()
    return node is not None and not any(each in pending for each in node.inputs if each is not None)
