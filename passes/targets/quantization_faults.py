"""Where ONNX Runtime's own optimizer breaks quantized models of opset 21 and above."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ... import ir

FIRST_OPSET = 21

_MOVED_OVER = frozenset({"Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Of these only Flatten is sound as it is, but it is rewritten as Reshape."""

_REMOVED = frozenset({"Cast", "Dropout", "Identity"})
"""Operators that ONNX Runtime may remove before."""


def dequantized_layout_changes(model: ir.Model, dtype: Callable[[ir.Value], ir.DataType | None]) -> Iterator[ir.Node]:
    """The DequantizeLinear nodes for which ONNX Runtime refuses the model from opset 21 on, if it optimizes.

    Its `PropagateQDQ` (level 2) moves a per-tensor DequantizeLinear behind operators that only move elements, by
    putting a QuantizeLinear and a DequantizeLinear behind them. From opset 21 on it gives that QuantizeLinear an
    `output_dtype` and no matching zero point: "output_dtype INT8 does not match y_zero_point type UINT8", and for
    int32, which QuantizeLinear does not give, "Could not find an implementation for QuantizeLinear". Tried with 1.31.1:
    int8 with a constant zero point, and int32, at opset 21, 22 and 23, whatever comes next but QuantizeLinear alone.
    Sound are uint8, int8 without a zero point, constants, an axis, opset 20 and ORT_ENABLE_BASIC. What comes next is
    not looked at here, as rewrites change it. `dtype` gives the element type of a value; None where it is not known.
    """
    for node in ir.nodes(model):
        if node.domain or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
            continue
        data, zero_point = node.inputs[0], ir.named_input(node, "x_zero_point")
        quantized = dtype(data)
        is_moved = quantized == ir.DataType.INT32 or (quantized in (ir.DataType.INT8, None) and zero_point is not None)
        if is_moved and not data.is_initializer() and any(map(_is_moved_over, _users(node))):
            yield node


def _users(node: ir.Node) -> Iterator[ir.Node]:
    """The users of the result, and of what is the result once operators that do nothing are removed."""
    pending = list(node.outputs[0].consumers())
    while pending:
        user = pending.pop()
        yield user
        if not user.domain and user.op_type in _REMOVED:
            pending.extend(user.outputs[0].consumers())


def _is_moved_over(node: ir.Node) -> bool:
    return not node.domain and node.op_type in _MOVED_OVER
