"""Concats of Concats, of empty operands, and of all outputs of a Split in order."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call
from ...rewriting.rule import rule
from ...views.slice_ranges import axis_of


def _inner(m: Match, value: ir.Value | None) -> ir.Node | None:
    """The Concat along the same axis that produces `value`, of which this node is the only user."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != "Concat" or node.domain != "":
        return None
    if not ir.is_private(value) or node.graph is not m.root.graph:
        return None
    axis = axis_of(node, m.shapes)
    return node if axis is not None and axis == axis_of(m.root, m.shapes) else None


def _is_outermost(m: Match) -> bool:
    result = m.root.outputs[0]
    if not ir.is_read(result):
        return False  # merged already
    users = [user for user, _ in result.uses()]
    if not ir.is_private(result) or users[0].op_type != "Concat" or users[0].domain != "":
        return True
    axis = axis_of(m.root, m.shapes)
    return axis is None or axis != axis_of(users[0], m.shapes)


@rule(
    any_call("Concat"),
    requires=[
        structural(
            "a Concat along the same axis among the operands", lambda m: any(_inner(m, each) for each in m.root.inputs)
        ),
        structural("no Concat of the same axis that it merges with", _is_outermost),
    ],
    source="ONNX Concat",
)
def merge_nested_concats(m: Match, op: Builder) -> ir.Value:
    """Merge Concats of Concats along one axis.

    before:  y = Concat(a, Concat(b, c))
    after:   y = Concat(a, b, c)
    """
    operands: list[ir.Value | None] = []
    pending: list[ir.Value | None] = [*reversed(m.root.inputs)]
    while pending:
        value = pending.pop()
        node = _inner(m, value)
        if node is None:
            operands.append(value)
        else:
            pending += reversed(node.inputs)
    return op.node("Concat", operands, attributes={"axis": axis_of(m.root, m.shapes)})[0]


def _find_nonempty(m: Match) -> list[ir.Value] | None:
    """The operands that have elements, where some have and others have not."""
    axis = axis_of(m.root, m.shapes)
    operands = [
        value
        for value in m.root.inputs
        if value is not None
        and (axis is None or (dims := m.shapes.dims(value)) is None or axis >= len(dims) or dims[axis] != 0)
    ]
    return operands if 0 < len(operands) < len(m.root.inputs) else None


_nonempty = let("an input of size 0 among others", _find_nonempty, is_structural=True)


@rule(
    any_call("Concat"),
    requires=[_nonempty],
    source="ONNX Concat",
)
def drop_empty_concat_inputs(m: Match, op: Builder) -> ir.Value:
    """Remove empty operands of a Concat.

    before:  y = Concat<axis = 1>(x, e)        e: [n, 0]
    after:   y = Concat<axis = 1>(x)
    """
    operands = m[_nonempty]
    return op.node("Concat", operands, attributes=dict(m.root.attributes))[0]


def _find_split(m: Match) -> ir.Node | None:
    """The Split whose outputs the operands are, all of them in order."""
    first = m.root.inputs[0]
    split = first.producer() if first is not None else None
    if split is None or split.op_type != "Split" or split.domain != "":
        return None
    return split if tuple(m.root.inputs) == tuple(split.outputs) else None


_split = let("all outputs of a Split in order", _find_split, is_structural=True)


def _same_axis(m: Match) -> bool:
    axis = axis_of(m.root, m.shapes)
    return axis is not None and axis == axis_of(m[_split], m.shapes)


def _show_axes(m: Match) -> str:
    return f"Split along {ir.attribute(m[_split], 'axis')}, Concat along {ir.attribute(m.root, 'axis')}"


@rule(
    any_call("Concat"),
    requires=[_split, require("both along one axis", _same_axis, _show_axes)],
    source="ONNX Split, Concat",
    keeps_type=True,
)
def cancel_split_concat(m: Match, op: Builder) -> ir.Value | None:
    """Cancel a Concat of all outputs of a Split.

    before:  a, b = Split(x); y = Concat(a, b)
    after:   y = x
    """
    return m[_split].inputs[0]
