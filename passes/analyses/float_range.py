"""Bounds of the elements of a tensor, computed in the tensor's own type: sums that overflow are infinities.

Interval arithmetic (Moore 1966) over the producers of a value. Each bound is rounded to the element type after every
operator, as the operator's result is: the lowest float32 minus 5 is the lowest float32, twice the lowest is -inf, and
three times -3e4 is -inf in float16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ... import ir
from .shapes import Shapes

_MAX_NODES: Final = 48
_UNION: Final = frozenset({"Concat"})
_PREDICATES: Final = frozenset("Not And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual IsNaN IsInf".split())
_UNIT: Final = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Hardmax"})
_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class Range:
    """The range of elements: finite numbers from `low` to `high`, and infinities or NaN where they are not excluded."""

    low: float
    high: float
    negative_infinity: bool = False
    other_special: bool = False
    """+inf or NaN."""

    @property
    def is_finite(self) -> bool:
        """Whether infinities and NaN are excluded."""
        return not (self.negative_infinity or self.other_special)

    def union(self, other: Range) -> Range:
        """The smallest range that contains both."""
        return Range(
            min(self.low, other.low),
            max(self.high, other.high),
            self.negative_infinity or other.negative_infinity,
            self.other_special or other.other_special,
        )


def float_range(value: ir.Value, shapes: Shapes, product: Callable[[ir.DataType], float] | None = None) -> Range | None:
    """The range of the elements of `value`; None where nothing is known of them.

    `product` gives the magnitude that a caller assumes of matrix products of a type; without it they have no range.
    """
    return _Evaluation(shapes, product).of(value)


class _Evaluation:
    def __init__(self, shapes: Shapes, product: Callable[[ir.DataType], float] | None) -> None:
        self.shapes, self.product = shapes, product
        self.known: dict[ir.Value, Range | None] = {}

    def of(self, value: ir.Value | None) -> Range | None:
        if value is None:
            return None
        if value not in self.known:
            if len(self.known) >= _MAX_NODES:
                return None
            self.known[value] = None
            self.known[value] = self._compute(value)
        return self.known[value]

    def _compute(self, value: ir.Value) -> Range | None:
        dtype = self.shapes.dtype(value)
        if dtype is None:
            return None
        content = ir.constant(value)
        if content is not None:
            return _of_array(content)
        node = value.producer()
        result = None
        if node is not None and node.domain == "" and value is node.outputs[0]:
            result = self._of_node(node, dtype)
        return _of_integers(dtype) if result is None else _rounded(result, dtype)

    def _of_node(self, node: ir.Node, dtype: ir.DataType) -> Range | None:
        """The range of the first output, by the operator alone or by those of its operands."""
        kind = node.op_type
        if kind in _PREDICATES:
            return Range(0.0, 1.0)
        if kind in _PRODUCTS and self.product is not None and dtype.is_floating_point():
            return Range(-self.product(dtype), self.product(dtype))
        if kind in ir.MOVEMENT or kind == "Cast":
            return self.of(node.inputs[0])
        if kind == "Where":
            return self._union(node.inputs[1:])
        if kind in _UNION:
            return self._union(node.inputs)
        if kind == "Trilu":
            inner = self.of(node.inputs[0])
            return None if inner is None else inner.union(Range(0.0, 0.0))
        if kind == "ConstantOfShape":
            content = ir.attribute(node, "value")
            array = getattr(content, "numpy", lambda: None)()
            return Range(0.0, 0.0) if content is None else None if array is None else _of_array(array)
        operands = [self.of(value) for value in node.inputs]
        known = [operand for operand in operands if operand is not None]
        return _of_operands(kind, known, dtype) if known and len(known) == len(operands) else None

    def _union(self, values: Sequence[ir.Value | None]) -> Range | None:
        total: Range | None = None
        for value in values:
            operand = self.of(value)
            if operand is None:
                return None
            total = operand if total is None else total.union(operand)
        return total


def _of_operands(kind: str, operands: Sequence[Range], dtype: ir.DataType) -> Range | None:
    """The range of an operator's result by those of all operands."""
    if kind in _UNIT and operands[0].is_finite:
        return Range(0.0, 1.0)
    if not dtype.is_floating_point():
        return None  # integers wrap around
    if kind == "Sum" and len(operands) > 1:
        total = operands[0]
        for operand in operands[1:]:
            total = _rounded(_add(total, operand), dtype)
        return total
    if kind in _ARITHMETIC:
        return _ARITHMETIC[kind](*operands)
    if kind in ("Max", "Min") and all(operand.is_finite for operand in operands):
        choose = max if kind == "Max" else min
        return Range(choose(operand.low for operand in operands), choose(operand.high for operand in operands))
    return None


def _of_array(content: ir.Array) -> Range | None:
    if content.dtype.kind not in "fViub" or not content.size:
        return None
    numbers = content.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)
    lowest = bool(np.any(np.isneginf(numbers)))
    return Range(low, high, lowest, bool(np.any(np.isnan(numbers) | np.isposinf(numbers))))


def _of_integers(dtype: ir.DataType) -> Range | None:
    if dtype == ir.DataType.BOOL:
        return Range(0.0, 1.0)
    if not dtype.is_integer():
        return None
    bounds = np.iinfo(dtype.numpy())
    return Range(float(bounds.min), float(bounds.max))


def _rounded(found: Range, dtype: ir.DataType) -> Range:
    """The range after rounding to the type, which may give infinities."""
    if not dtype.is_floating_point() or found.low > found.high:
        return found
    with np.errstate(over="ignore"):
        low, high = (float(np.float64(each).astype(dtype.numpy())) for each in (found.low, found.high))
    lowest = float(dtype.min)
    return Range(
        min(max(low, lowest), -lowest),
        max(min(high, -lowest), lowest),
        found.negative_infinity or low == -np.inf,
        found.other_special or high == np.inf or bool(np.isnan(low) or np.isnan(high)),
    )


def _special(a: Range, b: Range) -> tuple[bool, bool]:
    """Infinities of an operand may become any of the special values."""
    both = not (a.is_finite and b.is_finite)
    return both, both


def _add(a: Range, b: Range) -> Range:
    special = a.other_special or b.other_special
    # -inf plus what is finite or -inf is -inf
    return Range(a.low + b.low, a.high + b.high, a.negative_infinity or b.negative_infinity or special, special)


def _negated(a: Range) -> Range:
    return Range(-a.high, -a.low, a.other_special, not a.is_finite)


def _subtract(a: Range, b: Range) -> Range:
    return _add(a, _negated(b))


def _multiply(a: Range, b: Range) -> Range:
    corners = [_product(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Range(min(corners), max(corners), *_special(a, b))


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _divide(a: Range, b: Range) -> Range | None:
    if not b.is_finite or b.low <= 0 <= b.high:
        return None
    with np.errstate(over="ignore"):
        corners = [float(np.float64(x) / np.float64(y)) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Range(min(corners), max(corners), *_special(a, b))


_ARITHMETIC: Final[Mapping[str, Callable[..., Range | None]]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Neg": _negated,
}
