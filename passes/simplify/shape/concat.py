"""Concats that hold Concats, nothing, or the parts of a Split in order."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call
from ...rewriting.rule import rule
from .slice_ranges import axis_of


def _inner(m: Match, value: ir.Value | None) -> ir.Node | None:
    """The Concat along the same axis that makes `value` for this node alone."""
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
        return False  # taken in already
    readers = [user for user, _ in result.uses()]
    if not ir.is_private(result) or readers[0].op_type != "Concat" or readers[0].domain != "":
        return True
    axis = axis_of(m.root, m.shapes)
    return axis is None or axis != axis_of(readers[0], m.shapes)


@rule(
    any_call("Concat"),
    requires=[
        structural(
            "a Concat along the same axis among the inputs", lambda m: any(_inner(m, each) for each in m.root.inputs)
        ),
        structural("no Concat around it that takes it in", _is_outermost),
    ],
    source="ONNX Concat",
)
def merge_nested_concats(m: Match, op: Builder) -> ir.Value:
    """Concats of Concats along one axis are one.

    before:  Concat(a, Concat(b, c)) -> y
    after:   Concat(a, b, c) -> y
    """
    pieces: list[ir.Value | None] = []
    pending: list[ir.Value | None] = [*reversed(m.root.inputs)]
    while pending:
        value = pending.pop()
        node = _inner(m, value)
        if node is None:
            pieces.append(value)
        else:
            pending += reversed(node.inputs)
    return op.node("Concat", pieces, attributes={"axis": axis_of(m.root, m.shapes)})[0]


def _pieces(m: Match) -> list[ir.Value]:
    """The inputs but for those that hold nothing."""
    axis = axis_of(m.root, m.shapes)
    if axis is None:
        return [each for each in m.root.inputs if each is not None]
    return [each for each in m.root.inputs if each is not None and _size(m, each, axis) != 0]


def _size(m: Match, value: ir.Value, axis: int) -> object:
    dims = m.shapes.dims(value)
    return dims[axis] if dims is not None and axis < len(dims) else None


@rule(
    any_call("Concat"),
    requires=[structural("an input of size 0 among others", lambda m: 0 < len(_pieces(m)) < len(m.root.inputs))],
    source="ONNX Concat",
)
def drop_empty_concat_inputs(m: Match, op: Builder) -> ir.Value:
    """What holds nothing adds nothing to a Concat.

    before:  Concat(x, e) -> y        e: [n, 0]
    after:   Concat(x) -> y
    """
    return op.node("Concat", _pieces(m), attributes=dict(m.root.attributes))[0]


def _whole(m: Match) -> ir.Node | None:
    """The Split whose parts these are, in order."""
    first = m.root.inputs[0]
    split = first.producer() if first is not None else None
    if split is None or split.op_type != "Split" or split.domain != "":
        return None
    return split if tuple(m.root.inputs) == tuple(split.outputs) else None


@rule(
    any_call("Concat"),
    requires=[
        structural("all parts of a Split in order", lambda m: _whole(m) is not None),
        require(
            "both along one axis",
            lambda m: (
                (split := _whole(m)) is not None
                and (axis := axis_of(m.root, m.shapes)) is not None
                and axis == axis_of(split, m.shapes)
            ),
        ),
    ],
    source="ONNX Split, Concat",
    keeps_type=True,
)
def cancel_split_concat(m: Match, op: Builder) -> ir.Value | None:
    """A value that was split and put together again is what it was.

    before:  x -> Split -> Concat -> y
    after:   x
    """
    split = _whole(m)
    return None if split is None else split.inputs[0]
