"""Einsum of two operands that is one batched product is MatMul, with a Transpose where the order of labels needs it."""

from __future__ import annotations

from dataclasses import dataclass

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, y = values("x y")


@dataclass(frozen=True)
class Product:
    """A permutation of each operand, and of the result, that make the Einsum a MatMul; which operand comes first."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    result: tuple[int, ...]
    is_swapped: bool = False

    @property
    def transposes(self) -> int:
        return sum(order != tuple(sorted(order)) for order in (self.left, self.right, self.result))


def _labels(m: Match) -> tuple[str, str, str] | None:
    """The labels of both operands and of the result; None where one is repeated, or dims are left to an ellipsis."""
    equation = m.Einsum.attribute("equation")
    text = equation.replace(" ", "") if isinstance(equation, str) else ""
    operands, arrow, result = text.partition("->")
    parts = operands.split(",")
    if len(parts) != 2 or not arrow or not all(part.isalpha() for part in (*parts, result)):
        return None
    if any(len(set(part)) != len(part) for part in (*parts, result)):
        return None
    return parts[0], parts[1], result


def _product(left: str, right: str, result: str, is_swapped: bool) -> Product | None:
    """`left` holds batch, rows and the summed label, `right` batch, summed label and columns: one label each."""
    summed = (set(left) & set(right)) - set(result)
    batch = set(left) & set(right) & set(result)
    rows, columns = set(left) - set(right), set(right) - set(left)
    if len(summed) != 1 or len(rows) > 1 or len(columns) != 1 or not rows | columns <= set(result):
        return None
    if not rows and batch:
        return None  # a vector for each batch: MatMul needs a row to stand for it
    (k,), (column,) = summed, columns
    order = "".join(label for label in result if label in batch)
    wanted = order + "".join(rows) + k, order + k + column, order + "".join(rows) + column
    orders = [tuple(given.index(label) for label in want) for given, want in zip((left, right), wanted, strict=False)]
    return Product(orders[0], orders[1], tuple(wanted[2].index(label) for label in result), is_swapped)


def _plan(m: Match) -> Product | None:
    """The way with the fewest Transposes: either operand may come first."""
    labels = _labels(m)
    if labels is None or (m.x.rank, m.y.rank) != (len(labels[0]), len(labels[1])):
        return None
    left, right, result = labels
    ways = [_product(left, right, result, False), _product(right, left, result, True)]
    return min((way for way in ways if way is not None), key=lambda way: way.transposes, default=None)


def _stretches(m: Match) -> str | None:
    """A label whose dim is 1 in one operand and may be another in the other: Einsum stretches it, MatMul not."""
    labels = _labels(m)
    assert labels is not None
    for label in sorted(set(labels[0]) & set(labels[1])):
        one = (m.x.dims or ())[labels[0].index(label)]
        other = (m.y.dims or ())[labels[1].index(label)]
        if one != other:
            return f"{label} is {one} and {other}"
    return None


def _moved(op: Builder, value: ir.Value, order: tuple[int, ...]) -> ir.Value:
    return value if order == tuple(sorted(order)) else op.Transpose(value, perm=order)


@rule(
    op.Einsum(x, y).any_attributes("equation"),
    requires=[
        floating("x", "y"),
        require("one batched product of matrices", lambda m: _plan(m) is not None, lambda m: str(_labels(m))),
        require("dims that are equal", lambda m: _stretches(m) is None, lambda m: str(_stretches(m))),
        require("at most one Transpose", lambda m: (plan := _plan(m)) is not None and plan.transposes <= 1),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Einsum; ONNX Runtime's Einsum copies both operands into its own order first",
)
def einsum_to_matmul(m: Match, op: Builder) -> ir.Value:
    """A batched product is MatMul.

    before:  Einsum<bhid,bhjd->bhij>(q, k) -> y
    after:   MatMul(q, Transpose(k)) -> y
    """
    plan = _plan(m)
    assert plan is not None
    left, right = (m.y.value, m.x.value) if plan.is_swapped else (m.x.value, m.y.value)
    product = op.MatMul(_moved(op, left, plan.left), _moved(op, right, plan.right))
    return _moved(op, product, plan.result)
