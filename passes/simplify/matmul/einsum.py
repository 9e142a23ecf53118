"""Einsum of two operands as MatMul, with Transposes where the order of labels needs them."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_letters

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import floating, let
from ...rewriting.match import Condition, Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, y = values("x y")


@dataclass(frozen=True)
class Product:
    """Permutations of the operands and of the result that make the Einsum a MatMul; `is_swapped`: y comes first."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    result: tuple[int, ...]
    is_swapped: bool = False

    @property
    def transposes(self) -> int:
        """The number of permutations that are not the identity."""
        return sum(order != tuple(sorted(order)) for order in (self.left, self.right, self.result))


def _labels(m: Match) -> tuple[str, str, str] | None:
    """The labels of both operands and of the result, an ellipsis written out; None where one is repeated."""
    equation = m.Einsum.attribute("equation")
    text = equation.replace(" ", "") if isinstance(equation, str) else ""
    operands, arrow, result = text.partition("->")
    parts = operands.split(",")
    if len(parts) != 2 or not arrow:
        return None
    more = [(value.rank or 0) - len(part.replace("...", "")) for value, part in zip((m.x, m.y), parts, strict=True)]
    free = "".join(label for label in ascii_letters if label not in text)[: max(*more, 0)]
    parts = [part.replace("...", free[len(free) - max(count, 0) :]) for part, count in zip(parts, more, strict=True)]
    labels = (*parts, result.replace("...", free))
    if not all(part.isalpha() and len(set(part)) == len(part) for part in labels):
        return None
    return labels[0], labels[1], labels[2]


def _product(left: str, right: str, result: str, is_swapped: bool) -> Product | None:
    """`left` has batch labels, rows and the summed label, `right` batch labels, the summed label and columns."""
    summed = (set(left) & set(right)) - set(result)
    batch = set(left) & set(right) & set(result)
    rows, columns = set(left) - set(right), set(right) - set(left)
    if len(summed) != 1 or len(rows) > 1 or len(columns) != 1 or not rows | columns <= set(result):
        return None
    if not rows and batch:
        return None  # a vector for each batch: MatMul needs a dim of 1 for it
    (k,), (column,) = summed, columns
    order = "".join(label for label in result if label in batch)
    rows_and_k, k_and_column, rows_and_column = order + "".join(rows) + k, order + k + column, "".join(rows) + column
    return Product(
        tuple(map(left.index, rows_and_k)),
        tuple(map(right.index, k_and_column)),
        tuple(map((order + rows_and_column).index, result)),
        is_swapped,
    )


def _find_product(m: Match) -> Product | str:
    """The product with the fewest Transposes: either operand may come first."""
    labels = _labels(m)
    if labels is None or (m.x.rank, m.y.rank) != (len(labels[0]), len(labels[1])):
        return f"equation {m.Einsum.attribute('equation')!r}"
    left, right, result = labels
    products = [_product(left, right, result, False), _product(right, left, result, True)]
    best = min((each for each in products if each is not None), key=lambda each: each.transposes, default=None)
    return f"equation {m.Einsum.attribute('equation')!r}" if best is None else best


_matmul = let("one batched product of matrices", _find_product)


def _broadcast_label(m: Match) -> str | None:
    """A summed label with different dims, of which one may be 1: Einsum broadcasts it, MatMul only batches."""
    left, right, result = _labels(m) or ("", "", "")
    for label in (set(left) & set(right)) - set(result):
        one = (m.x.dims or ())[left.index(label)]
        other = (m.y.dims or ())[right.index(label)]
        if one != other:
            return f"{label} is {one} and {other}"
    return None


def _transposed(op: Builder, value: ir.Value, order: tuple[int, ...]) -> ir.Value:
    return value if order == tuple(sorted(order)) else op.Transpose(value, perm=order)


@rule(
    op.Einsum(x, y).any_attributes("equation"),
    requires=[
        floating("x", "y"),
        _matmul,
        Condition("a summed dim that is equal", _broadcast_label),
    ],
    exactness=Exactness.ROUNDING,
    source=(
        "ONNX Einsum; ONNX Runtime's Einsum copies both operands into its own order first. On the CPU with 1.31.1, one "
        "thread, 12 heads of 64: bihd,bjhd->bhij over 64 tokens x2.8, 197 x1.9, 512 x2.0; bhij,bjhd->bihd x1.2, x1.15, "
        "x1.3; bihd,bjhd->bihj with three Transposes x2.8, x1.4, x1.4; one token alone x0.95"
    ),
)
def einsum_to_matmul(m: Match, op: Builder) -> ir.Value:
    """Write a batched matrix product as MatMul.

    before:  y = Einsum<equation = "bhid,bhjd->bhij">(q, k)
    after:   y = MatMul(q, Transpose<perm = [0, 1, 3, 2]>(k))
    """
    matmul = m[_matmul]
    left, right = (m.y.value, m.x.value) if matmul.is_swapped else (m.x.value, m.y.value)
    product = op.MatMul(_transposed(op, left, matmul.left), _transposed(op, right, matmul.right))
    return _transposed(op, product, matmul.result)
