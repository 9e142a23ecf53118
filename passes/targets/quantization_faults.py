"""DequantizeLinear nodes that ONNX Runtime's own optimizer breaks, and the equivalent form that it does not break.

Two optimizations move a per-tensor DequantizeLinear behind operators that only move elements, by putting a
QuantizeLinear and a DequantizeLinear behind those: the transpose optimizer (level 1) and `PropagateQDQ` (level 2).
They go wrong as follows; measured with 1.31.1 at opset 11, 13, 19, 20, 21 and 23, for the operators in `_MOVED_OVER`,
whatever comes after them but QuantizeLinear alone:

| data | zero point | opset up to 20 | opset 21 and above |
|---|---|---|---|
| int8 | absent | **wrong values**: the QuantizeLinear becomes one to uint8, negative numbers become 0 | right |
| int8 | given | right | the session does not open: "output_dtype INT8 does not match y_zero_point type UINT8" |
| int32 | absent | **wrong values** likewise | the session does not open: no kernel for QuantizeLinear |
| int32 | given | the session does not open | the session does not open |

Right are uint8, data that is constant, a scale of more than one element (int32 with a zero point excepted), and all of
them with ORT_DISABLE_ALL. An absent zero point is a zero point of 0, so an int8 node has a right spelling at any opset
(`other_spelling`) unless its zero point is another number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ... import ir

FIRST_OPSET: Final = 21

WRONG_VALUES: Final = "wrong values with ONNX Runtime's optimizations on"
DOES_NOT_OPEN: Final = "no session with ONNX Runtime's optimizations on"

_MOVED_OVER = frozenset({"Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Of these only Flatten is correct as it is, but it is rewritten as Reshape."""

_REMOVED = frozenset({"Cast", "Dropout", "Identity"})
"""Operators that ONNX Runtime may remove before."""

_LONGEST_CHAIN: Final = 32
"""Operators of `_REMOVED` in a row that are looked through from a value to its producer."""

DTypes = Callable[[ir.Value], ir.DataType | None]
"""The element type of a value; None where it is not known."""


def fault_of(node: ir.Node, dtype: DTypes, opset: int | None = None) -> str:
    """How ONNX Runtime breaks a DequantizeLinear if it moves it, at `opset` (by default the node's own); "" if not.

    An element type that is not known counts as one that is broken.
    """
    if node.domain or node.op_type != "DequantizeLinear" or not node.inputs or node.inputs[0] is None:
        return ""
    data = node.inputs[0]
    quantized, has_zero_point = dtype(data), ir.named_input(node, "x_zero_point") is not None
    if data.is_initializer() or quantized not in (ir.DataType.INT8, ir.DataType.INT32, None):
        return ""
    is_old = (node.version or 0 if opset is None else opset) < FIRST_OPSET
    is_int32 = quantized == ir.DataType.INT32
    if _is_per_axis(node) and not (is_int32 and has_zero_point):
        return ""
    if is_old and not has_zero_point:
        return WRONG_VALUES
    return DOES_NOT_OPEN if is_int32 or (has_zero_point and not is_old) else ""


def broken_nodes(model: ir.Model, dtype: DTypes, opset: int | None = None) -> Iterator[tuple[ir.Node, str]]:
    """The DequantizeLinear nodes that ONNX Runtime moves and breaks, each with how; at another opset if it is given.

    The users of the operators that it is moved over are not inspected: rewrites change them.
    """
    for node in ir.nodes(model):
        if node.op_type == "DequantizeLinear" and (fault := fault_of(node, dtype, opset)) and _is_moved(node):
            yield node, fault


def newly_broken(made: Sequence[ir.Node], old: ir.Value, result: ir.Value, dtype: DTypes) -> tuple[ir.Node, str] | None:
    """A DequantizeLinear that ONNX Runtime would break once `result`, from nodes `made`, replaces `old`; else None.

    Not one that it breaks as the graph stands, nor one with another spelling, which the pipeline gives it after the
    pass. `made` are not in the graph yet, though they are users of values.
    """
    sources = [value for node in made for value in node.inputs if value is not None]
    found = (_dequantizer(value) for value in (*sources, result))
    for node in dict.fromkeys(node for node in found if node is not None):
        if not (fault := fault_of(node, dtype)) or other_spelling(node, dtype) is not None:
            continue
        was_moved = node.graph is not None and any(map(_is_moved_over, _users(node, {}, in_graph=True)))
        if not was_moved and any(map(_is_moved_over, _users(node, {result: old}))):
            return node, fault
    return None


def other_spelling(node: ir.Node, dtype: DTypes) -> ir.Array | None:
    """For a node that ONNX Runtime breaks: the zero point to give it, empty for none; None where nothing helps.

    Only for int8: an absent zero point is one of 0 (ONNX, DequantizeLinear).
    """
    data = node.inputs[0]
    if data is None or dtype(data) != ir.DataType.INT8:
        return None
    zero_point = ir.named_input(node, "x_zero_point")
    if zero_point is None:
        scale = ir.constant(node.inputs[1])
        return None if scale is None else np.zeros(scale.shape, np.int8)
    content = ir.constant(zero_point)
    return np.zeros(0, np.int8) if content is not None and not np.any(content) else None


def respell(
    model: ir.Model, dtype: DTypes, rewriter: ir.Rewriter, try_rewrite: Callable[[ir.Node, str, str], bool]
) -> None:
    """Rewrite the broken nodes of a model to the other form, where `try_rewrite(node, before, after)` allows."""
    names = "DequantizeLinear with a zero point of 0", "DequantizeLinear without a zero point"
    for node, _ in list(broken_nodes(model, dtype)):
        zero_point = other_spelling(node, dtype)
        if zero_point is None:
            continue
        before, after = names if not zero_point.size else names[::-1]
        if not try_rewrite(node, before, after):
            continue
        value = rewriter.constant(zero_point, near=node, name="zero_point") if zero_point.size else None
        rewriter.set_input(node, 2, value)


def new_faults(before: Mapping[ir.Node, str], after: Mapping[ir.Node, str]) -> list[ir.Node]:
    """The nodes that are broken in a way in which none was, or that were there and were not broken."""
    ways = set(before.values())
    return [node for node, fault in after.items() if fault not in ways]


def _is_per_axis(node: ir.Node) -> bool:
    scale = node.inputs[1] if len(node.inputs) > 1 else None
    content = ir.constant(scale)
    return content is not None and content.size != 1


def _is_moved(node: ir.Node) -> bool:
    return any(map(_is_moved_over, _users(node, {})))


def _users(node: ir.Node, stands_for: Mapping[ir.Value, ir.Value], *, in_graph: bool = False) -> Iterator[ir.Node]:
    """The users of the result, and of the results of no-op operators on it.

    A key of `stands_for` has the users of its value, too. `in_graph`: only users that are in the graph.
    """
    pending, seen = [node.outputs[0]], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in stands_for:
            pending.append(stands_for[value])
        for user in value.consumers():
            if in_graph and user.graph is None:
                continue
            yield user
            if not user.domain and user.op_type in _REMOVED:
                pending.append(user.outputs[0])


def _dequantizer(value: ir.Value) -> ir.Node | None:
    """The DequantizeLinear that produces `value`, across no-op operators."""
    for _ in range(_LONGEST_CHAIN):
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type == "DequantizeLinear":
            return node
        if node.op_type not in _REMOVED or not node.inputs or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return None


def _is_moved_over(node: ir.Node) -> bool:
    return not node.domain and node.op_type in _MOVED_OVER
