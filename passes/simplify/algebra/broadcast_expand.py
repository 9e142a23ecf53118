"""Eliminate Expand and ConstantOfShape before operators that broadcast by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call
from ...rewriting.rule import rule

_BROADCASTS_BOTH_WAYS = tuple(sorted(ir.BROADCASTING - {"PRelu"}))
# Between 0.0 and -0.0 ONNX Runtime selects by which operand is broadcast (element_wise_ops.cc, where_op.cc), and for an
# exponent of one number that is 2 or 3 it multiplies.
_SENSITIVE = ("Max", "Min", "Pow", "Where")


@dataclass(frozen=True)
class _Expansion:
    """Operand `index` of the root is an Expand or ConstantOfShape, and other operands have the dims that it adds."""

    index: int
    node: ir.Node
    source_dims: tuple[Dim, ...]


def _expand_of(m: Match, value: ir.Value | None) -> ir.Node | None:
    """The Expand or ConstantOfShape that produces `value`."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or node.op_type not in ("Expand", "ConstantOfShape"):
        return None
    return node if node.graph is m.root.graph else None


def _redundant_at(m: Match, index: int) -> _Expansion | None:
    value = m.root.inputs[index]
    node = _expand_of(m, value)
    if value is None or node is None:
        return None
    source = node.inputs[0]
    dims = m.shapes.dims(value)
    before = () if node.op_type == "ConstantOfShape" else None if source is None else m.shapes.dims(source)
    others = [m.shapes.dims(other) for at, other in enumerate(m.root.inputs) if at != index and other is not None]
    if dims is None or before is None or None in others:
        return None
    is_redundant = all(
        (axis <= len(before) and before[-axis] == dims[-axis])
        or any(axis <= len(other) and other[-axis] == dims[-axis] for other in others if other is not None)
        for axis in range(1, len(dims) + 1)
    )
    return _Expansion(index, node, before) if is_redundant else None


def _show_inputs(m: Match) -> str:
    return " and ".join(m.shapes.show(value) for value in m.root.inputs if value is not None)


def _find_redundant(m: Match) -> _Expansion | str:
    found = (_redundant_at(m, index) for index in range(len(m.root.inputs)))
    return next((each for each in found if each is not None), None) or _show_inputs(m)


_redundant = let("the added dims in another operand", _find_redundant)


def _is_sensitive(m: Match) -> bool:
    dtype = m.shapes.dtype(m.root.outputs[0])
    is_float = dtype is None or dtype.is_floating_point()
    return m.root.op_type in _SENSITIVE and (is_float or m.root.op_type == "Pow")


_SHORT, _FEW = 128, 32
_LARGE, _NARROW = 1 << 21, 32


def _is_fast_loop(m: Match) -> bool:
    """Whether ONNX Runtime's loop over the broadcast runs costs less than the Expand.

    A run is contiguous in both operands; each is one call of the kernel (element_wise_ops.h, BroadcastLooper): rows
    of 2 repeated 64,000 times were x0.09, of 128 and longer x1.0 to x1.9.
    """
    before, dims = m[_redundant].source_dims, m.shapes.dims(m.root.outputs[0])
    if not m.context.settings.target.is_cpu or dims is None:
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
    structural("an operand that is expanded", lambda m: any(_expand_of(m, each) for each in m.root.inputs)),
    structural("at least two operands", lambda m: len(m.root.inputs) >= 2),
    _redundant,
    profitable("long runs of elements, or few of them", _is_fast_loop, _show_inputs),
)


def _without_expansion(m: Match, op: Builder) -> ir.Value:
    found, inputs = m[_redundant], list[ir.Value | ir.Content | None](m.root.inputs)
    if found.node.op_type == "Expand":
        inputs[found.index] = found.node.inputs[0]
    else:
        filling = found.node.attributes.get("value")
        content = np.zeros(1, np.float32) if filling is None else np.asarray(filling.as_tensor().numpy())
        inputs[found.index] = content.reshape(())
    return op.node(m.root.op_type, inputs, attributes=dict(m.root.attributes))[0]


@rule(
    OneOf(tuple(any_call(name) for name in _BROADCASTS_BOTH_WAYS)),
    requires=[
        *_REQUIRES,
        require("the same bits however it broadcasts", lambda m: not _is_sensitive(m), lambda m: m.root.op_type),
    ],
    source="ONNX multidirectional broadcasting",
)
def eliminate_broadcast_expand(m: Match, op: Builder) -> ir.Value | None:
    """Remove an Expand before an operator that broadcasts.

    before:  y = Add(Expand(x, %[b, n]), z)        x: [1, n], z: [b, n]
    after:   y = Add(x, z)
    """
    return _without_expansion(m, op)


@rule(
    OneOf(tuple(any_call(name) for name in _SENSITIVE)),
    requires=_REQUIRES,
    exactness=Exactness.ROUNDING,
    source="ONNX multidirectional broadcasting; the sign of a zero and the last bit of a power may change",
)
def eliminate_broadcast_expand_inexact(m: Match, op: Builder) -> ir.Value | None:
    """Remove an Expand before Max, Min, Pow or Where of floating-point numbers.

    before:  y = Max(Expand(x, %[b, n]), z)        x: [1, n], z: [b, n]
    after:   y = Max(x, z)
    """
    return _without_expansion(m, op)
