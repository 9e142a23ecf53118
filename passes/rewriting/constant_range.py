"""Check that constants which a rewrite computes stay in the range of their type.

The product of two scales may overflow to infinity or underflow to zero in the value's type where the two steps do not:
x * 1e30 * 1e30 is finite for small x, x * 1e-30 * 1e-30 is not zero for large ones (IEEE 754-2019, sections 7.4, 7.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ... import ir

_SMALLEST_NORMAL: Final = {
    ir.DataType.FLOAT: 2.0**-126,
    ir.DataType.BFLOAT16: 2.0**-126,
    ir.DataType.FLOAT16: 2.0**-14,
    ir.DataType.DOUBLE: 2.0**-1022,
}
"""By element type (IEEE 754-2019, table 3.5)."""


_SUMS: Final = frozenset({"Add", "Sub", "Sum"})
_BIASED: Final = frozenset({"Conv", "ConvTranspose", "Gemm"})
_SELECTED: Final = frozenset({("Where", 1), ("Where", 2)})


@dataclass(frozen=True)
class _Extent:
    """Of the elements of a constant: the least and the largest magnitude but 0, and which kinds there are."""

    least: float
    largest: float
    has_zero: bool
    is_finite: bool


def lost_range(made: Sequence[ir.Node], result: ir.Value, replaced: Sequence[ir.Node]) -> str:
    """How a new constant of `made`, or `result`, leaves the normal numbers of its type; "" where none does.

    Not where a constant of the nodes that are `replaced` is as far out. Subnormal numbers and zeros count in factors of
    at most one dim or element: those of a weight are compared with its largest (`simplify/weights/linear_ops.py`), and
    an addend is rounded by no more than the sum. A zero counts where products and quotients of the old constants'
    elements may be below the normal numbers.
    """
    values = dict.fromkeys([result, *(value for node in made for value in node.inputs if value is not None)])
    for value in values:
        if value.graph is not None or value.producer() is not None or value.const_value is None:
            continue
        dtype = value.const_value.dtype
        if dtype not in _SMALLEST_NORMAL or not value.const_value.size:
            continue
        content = np.asarray(value.const_value.numpy())
        extent, normal = _extent(content), _SMALLEST_NORMAL[dtype]
        is_weight = (content.ndim > 1 and content.size > 1) or _is_addend(value, made)
        if extent.is_finite and (is_weight or not (extent.has_zero or extent.least < normal)):
            continue
        old = [_extent(each) for each in _floats_of(replaced)]
        if not extent.is_finite and all(each.is_finite for each in old):
            return f"a constant would overflow in {dtype.name}"
        if is_weight:
            continue
        if extent.least < normal and all(each.least >= normal for each in old):
            return f"a constant would be {extent.least:.3g}, below the normal numbers of {dtype.name}"
        if extent.has_zero and not any(each.has_zero for each in old) and _least_product(old) < normal:
            return f"a constant would be 0, below the numbers of {dtype.name}"
    return ""


def _is_addend(value: ir.Value, made: Sequence[ir.Node]) -> bool:
    """Whether the nodes of `made` that use a constant add or select it."""
    uses = [(node, index) for node in made for index, each in enumerate(node.inputs) if each is value]
    return bool(uses) and all(
        not node.domain
        and (node.op_type in _SUMS or (node.op_type in _BIASED and index == 2) or (node.op_type, index) in _SELECTED)
        for node, index in uses
    )


def _floats_of(nodes: Sequence[ir.Node]) -> Iterator[ir.Array]:
    for value in dict.fromkeys(value for node in nodes for value in node.inputs):
        tensor = ir.constant_tensor(value)
        if tensor is not None and tensor.dtype in _SMALLEST_NORMAL and tensor.size:
            yield np.asarray(tensor.numpy())


def _extent(content: ir.Array) -> _Extent:
    magnitudes = np.abs(content.astype(np.float64, copy=False))
    is_finite = bool(np.isfinite(magnitudes).all())
    others = magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]
    least, largest = (float(others.min()), float(others.max())) if others.size else (1.0, 1.0)
    return _Extent(least, largest, bool((magnitudes == 0).any()), is_finite)


def _least_product(extents: Sequence[_Extent]) -> float:
    """A lower bound of products and quotients of elements, one of each constant."""
    with np.errstate(under="ignore"):
        return float(np.prod([min(each.least, 1 / each.largest, 1.0) for each in extents]))
