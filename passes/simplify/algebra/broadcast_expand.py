"""Operators that broadcast need no operand that is expanded for them."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call
from ...rewriting.rule import rule
from ..layout.transpose_semantics import BROADCASTING

_BROADCASTS_BOTH_WAYS = tuple(sorted(BROADCASTING - {"PRelu"}))
# Between 0.0 and -0.0 ONNX Runtime chooses by which operand is broadcast (element_wise_ops.cc, where_op.cc), and for an
# exponent of one number that is 2 or 3 it multiplies.
_SENSITIVE = ("Max", "Min", "Pow", "Where")


def _expansion(m: Match, value: ir.Value | None) -> ir.Node | None:
    """The Expand or ConstantOfShape that makes `value`."""
    node = value.producer() if value is not None else None
    found = node is not None and node.domain == "" and node.op_type in ("Expand", "ConstantOfShape")
    return node if found and node is not None and node.graph is m.root.graph else None


def _dims_before(m: Match, node: ir.Node) -> tuple[Dim, ...] | None:
    source = node.inputs[0]
    if node.op_type == "ConstantOfShape":
        return ()
    return m.shapes.dims(source) if source is not None else None


def _is_supplied(m: Match, index: int) -> bool:
    """Whether the other operands have every dim that the expansion of this one adds."""
    value, node = m.root.inputs[index], _expansion(m, m.root.inputs[index])
    if value is None or node is None:
        return False
    dims, before = m.shapes.dims(value), _dims_before(m, node)
    others = [m.shapes.dims(other) for at, other in enumerate(m.root.inputs) if at != index and other is not None]
    if dims is None or before is None or None in others:
        return False
    return all(
        (place <= len(before) and before[-place] == dims[-place])
        or any(place <= len(other) and other[-place] == dims[-place] for other in others if other is not None)
        for place in range(1, len(dims) + 1)
    )


def _supplied(m: Match) -> int | None:
    return next((index for index in range(len(m.root.inputs)) if _is_supplied(m, index)), None)


def _is_sensitive(m: Match) -> bool:
    dtype = m.shapes.dtype(m.root.outputs[0])
    is_float = dtype is None or dtype.is_floating_point()
    return m.root.op_type in _SENSITIVE and (is_float or m.root.op_type == "Pow")


_SHORT, _FEW = 128, 32
_LARGE, _NARROW = 1 << 21, 32


def _runs_are_worth_it(m: Match) -> bool:
    """Whether ONNX Runtime's loop over the broadcast runs costs less than the Expand.

    A run is what lies next to each other in both operands; each starts the kernel anew (element_wise_ops.h,
    BroadcastLooper): rows of 2 repeated 64,000 times were x0.09, of 128 and longer x1.0 to x1.9.
    """
    index = _supplied(m)
    node = _expansion(m, m.root.inputs[index]) if index is not None else None
    dims, before = m.shapes.dims(m.root.outputs[0]), _dims_before(m, node) if node is not None else None
    if not m.context.settings.target.is_cpu or dims is None or before is None:
        return True
    padded = (1,) * (len(dims) - len(before)) + before
    run: Dim = 1
    repeats: Dim = 1
    is_within = True
    for dim, kept in reversed([*zip(dims, padded, strict=True)]):
        if dim == 1:
            continue
        is_within = is_within and kept == dim
        if is_within:
            run = run * dim
        else:
            repeats = repeats * dim
    if run == 1 or not isinstance(run, int) or run >= _SHORT:
        return True
    if not isinstance(repeats, int):
        return False
    return repeats <= _FEW or (run >= _NARROW and run * repeats >= _LARGE)


_REQUIRES = (
    structural("an operand that is expanded", lambda m: any(_expansion(m, each) for each in m.root.inputs)),
    structural("at least two operands", lambda m: len(m.root.inputs) >= 2),
    require(
        "the added dims in another operand",
        lambda m: _supplied(m) is not None,
        lambda m: " and ".join(m.shapes.show(each) for each in m.root.inputs if each is not None),
    ),
    profitable(
        "long runs of elements, or few of them",
        _runs_are_worth_it,
        lambda m: " and ".join(m.shapes.show(each) for each in m.root.inputs if each is not None),
    ),
)


@rule(
    OneOf(tuple(any_call(name) for name in _BROADCASTS_BOTH_WAYS)),
    requires=[
        *_REQUIRES,
        require(
            "the same bits however it broadcasts",
            lambda m: not _is_sensitive(m),
            lambda m: m.root.op_type,
        ),
    ],
    source="ONNX multidirectional broadcasting",
)
def eliminate_broadcast_expand(m: Match, op: Builder) -> ir.Value | None:
    """Let an operator broadcast what was expanded for it.

    before:  x[1, n] -> Expand[b, n] -> Add(·, z[b, n]) -> y
    after:   Add(x, z) -> y
    """
    return _broadcast(m, op)


@rule(
    OneOf(tuple(any_call(name) for name in _SENSITIVE)),
    requires=_REQUIRES,
    exactness=Exactness.ROUNDING,
    source="ONNX multidirectional broadcasting; the sign of a zero and the last bit of a power may change",
)
def eliminate_broadcast_expand_inexact(m: Match, op: Builder) -> ir.Value | None:
    """Let a choice between floats, or a power, broadcast what was expanded for it.

    before:  x[1, n] -> Expand[b, n] -> Max(·, z[b, n]) -> y
    after:   Max(x, z) -> y
    """
    return _broadcast(m, op)


def _broadcast(m: Match, op: Builder) -> ir.Value | None:
    index = _supplied(m)
    node = _expansion(m, m.root.inputs[index]) if index is not None else None
    if index is None or node is None:
        return None
    inputs = list(m.root.inputs)
    if node.op_type == "Expand":
        inputs[index] = node.inputs[0]
    else:
        filling = node.attributes.get("value")
        content = np.zeros(1, np.float32) if filling is None else np.asarray(filling.as_tensor().numpy())
        inputs[index] = op.constant(content.reshape(()))
    return op.node(m.root.op_type, inputs, attributes=dict(m.root.attributes))[0]
