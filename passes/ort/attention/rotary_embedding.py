"""Rotary position embedding, recognized by what it does, as ONNX RotaryEmbedding.

y = x * cos + turned(x) * sin, where `turned` moves each element of a pair to the place of the other and negates one; or
the elements of pairs apart, a * cos - b * sin and b * cos + a * sin, which are joined after. Pairs are either the two
parts of a head, or neighbours (interleaved).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .... import ir
from ....ir.shapes.facts import Dims
from ....ir.shapes.symbolic import equals_if_broadcast
from ...analyses import Shapes
from ...analyses.nonzero_dims import dims_unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES
from ...views.emit import build, constant_target, emit
from ...views.node_view import chain
from ...views.view import View, identity
from .rotary_tables import Table, Turn, find_table

x, cos, sin, turned, rotated, passed, positions = values("x cos sin turned rotated passed positions")


# --- pairs ------------------------------------------------------------------------------------------------------------


def _elements(dims: Dims, *, is_interleaved: bool) -> tuple[View, View] | None:
    """The first and the second element of each pair of [..., size], as views [..., size / 2]."""
    if len(dims) != 4 or not isinstance(dims[-1], int) or dims[-1] % 2:
        return None
    half = dims[-1] // 2
    start, step = (1, 2) if is_interleaved else (half, 1)
    first, second = (identity(dims).slice(3, at, step, half) for at in (0, start))
    assert first is not None, "a range of a dim that is a number"
    assert second is not None, "a range of a dim that is a number"
    return first, second


def _find_turned(m: Match) -> Turn | None:
    """The turn, where `turned` is x with each pair turned."""
    dims = m.x.dims
    joined, is_interleaved = m.turned.value.producer(), False
    if joined is not None and joined.op_type == "Reshape" and joined.inputs[0] is not None:
        joined, is_interleaved = joined.inputs[0].producer(), True
    if joined is None or joined.op_type != "Concat" or joined.domain or len(joined.inputs) != 2 or dims is None:
        return None
    if ir.attribute(joined, "axis") not in (-1, len(dims) + is_interleaved - 1) or m.turned.dims != dims:
        return None
    parts = _elements(dims, is_interleaved=is_interleaved)
    wanted = [part.unsqueeze(4) if is_interleaved else part for part in reversed(parts or ())]
    for signs in ((True, False), (False, True)) if wanted else ():
        views = [
            None if value is None else _view_of(value, m.x.value, m.shapes, is_negated=is_negated)
            for value, is_negated in zip(joined.inputs, signs, strict=True)
        ]
        if all(view is not None and view.same(part) for view, part in zip(views, wanted, strict=True)):
            return Turn(m.x.value, m.cos.value, m.sin.value, is_interleaved, is_reversed=signs[1])
    return None


def _view_of(value: ir.Value, source: ir.Value, shapes: Shapes, *, is_negated: bool) -> View | None:
    """The view that `value` is of `source`, taken of it or of what it is a Reshape of, behind one negation or none."""
    wholes = {
        inner: identity(view.dims).reshape(view.source) for inner, view in chain(source, shapes) if view.is_reshape
    }
    for inner, view in chain(value, shapes):
        if not is_negated and (whole := wholes.get(inner)) is not None:
            return whole.then(view)
        node = inner.producer()
        if is_negated and node is not None and node.op_type == "Neg" and node.inputs[0] is not None:
            before = _view_of(node.inputs[0], source, shapes, is_negated=False)
            return None if before is None else before.then(view)
    return None


TURNED = let("pairs of x that are turned", _find_turned, is_structural=True)


@dataclass(frozen=True)
class Joined:
    """Operands `at` and the next of a Concat: the first and the second elements of pairs that are turned."""

    turn: Turn
    at: int


def _find_joined(m: Match) -> Joined | None:
    """The turn whose elements the Concat at the root joins, parts of a head or neighbours."""
    dims, operands = m.shapes.dims(m.root.outputs[0]), m.root.inputs
    if dims is None or ir.attribute(m.root, "axis") not in (-1, len(dims) - 1):
        return None
    if len(dims) != 4 and (len(dims), dims[-1], len(operands)) != (5, 2, 2):
        return None
    for at, pair in enumerate(pairwise(operands)):
        found = [
            None if value is None else _two_products(value, operator, m.shapes)
            for value, operator in zip(pair, ("Sub", "Add"), strict=True)
        ]
        first, second = found
        turn = None if first is None or second is None else _find_elements(first, second, m.shapes)
        if turn is not None:
            m.found.extend(node for nodes in found if nodes is not None for node in nodes)
            return Joined(turn, at)
    return None


def _find_elements(first: tuple[ir.Node, ir.Node], second: tuple[ir.Node, ir.Node], shapes: Shapes) -> Turn | None:
    """The turn, where the difference of the `first` products and the sum of the `second` are what it makes of pairs."""
    (straight, crossed), others = first, {frozenset(each.inputs) for each in second}
    for a, cos in (straight.inputs, reversed(straight.inputs)):
        for b, sin in (crossed.inputs, reversed(crossed.inputs)):
            if a is None or b is None or not cos or not sin or others != {frozenset((b, cos)), frozenset((a, sin))}:
                continue
            sources = dict(chain(b, shapes))
            for x, view in chain(a, shapes):
                for is_interleaved in (False, True) if x in sources else ():
                    parts = _elements(view.source, is_interleaved=is_interleaved)
                    if parts and view.same(parts[0]) and sources[x].same(parts[1]):
                        return Turn(x, cos, sin, is_interleaved, repeats=False)
    return None


def _two_products(value: ir.Value, operator: str, shapes: Shapes) -> tuple[ir.Node, ir.Node] | None:
    """The products whose sum or difference, used once, `value` is, or with a last dim of 1."""
    if not (views := chain(value, shapes)):
        return None
    inner, view = views[-1]
    node, whole = inner.producer(), identity(view.source)
    if node is None or node.op_type != operator or node.domain or len(node.inputs) != 2 or len(whole.groups) != 4:
        return None
    products = [each.producer() for each in node.inputs if each is not None and ir.is_private(each)]
    if not view.same(whole) and not view.same(whole.unsqueeze(4)):
        return None
    if not all(ir.is_private(each) for each, _ in views) or len(products) != 2:
        return None
    first, second = products
    are_products = all(each is not None and each.op_type == "Mul" and not each.domain for each in products)
    return (first, second) if are_products and first is not None and second is not None else None


JOINED = let("elements of pairs that are turned", _find_joined, is_structural=True)


# --- cosines and sines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rotation:
    """The tables of x [batch, heads, length, size], or with `heads` of [batch, length, heads, size]."""

    turn: Turn
    cos: Table
    sin: Table
    heads: int | None = None


def _find_rotation(turn: Turn, shapes: Shapes) -> Rotation | str:
    dims = dims_unless_empty(shapes, turn.x)
    for axis in (1, 2):
        first, second = (find_table(value, turn, shapes, axis) for value in (turn.cos, turn.sin))
        if first is None or second is None or first.dims != second.dims or dims is None:
            continue
        (batch, length, half), heads = first.dims, dims[2]
        if batch not in (1, dims[0]) or not equals_if_broadcast(length, dims[3 - axis]) or 2 * half != dims[3]:
            continue
        if axis == 1:
            return Rotation(turn, first, second)
        if isinstance(heads, int):
            return Rotation(turn, first, second, heads)
    return ", ".join(map(shapes.show, (turn.x, turn.cos, turn.sin)))


ROTATION = let("a cosine and a sine for each position and pair", lambda m: _find_rotation(m[TURNED], m.shapes))
JOINED_ROTATION = let(ROTATION.text, lambda m: _find_rotation(m[JOINED].turn, m.shapes))


def _has_kernel(m: Match) -> bool:
    """Whether the target computes in this type: the CPU's kernel for float16 converts to float32 and back."""
    dtype, is_cuda = m.shapes.dtype(m.root.outputs[0]), m.context.settings.target.is_cuda
    return dtype == ir.DataType.FLOAT or (is_cuda and dtype in FLOAT16_TYPES)


ELEMENT_TYPE = require(
    "float32, on CUDA also float16 or bfloat16", _has_kernel, lambda m: str(m.shapes.dtype(m.root.outputs[0]))
)


@rule(
    op.Add(op.Mul(x, cos).any_order().named("straight"), op.Mul(turned, sin).any_order().named("crossed")).any_order(),
    requires=[TURNED, ELEMENT_TYPE, ROTATION],
    exactness=Exactness.ROUNDING,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of ONNX RotaryEmbedding-23",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_rotary_embedding(m: Match, op: Builder) -> ir.Value:
    """Fuse the rotation of the pairs of each head into one operator.

    before:  y = Add(Mul(x, Cos(a)), Mul(Concat(Neg(x[half:]), x[:half]), Sin(a)))        x: [b, heads, s, size]
    after:   y = RotaryEmbedding(x, Cos(a'), Sin(a'))        a': [b, s, size / 2]
    """
    return _build(m[ROTATION], m.shapes, op)


@rule(
    any_call("Concat"),
    requires=[JOINED, ELEMENT_TYPE, JOINED_ROTATION],
    exactness=Exactness.ROUNDING,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of the body of ONNX RotaryEmbedding-23",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_joined_rotary_embedding(m: Match, op: Builder) -> ir.Value:
    """Fuse the rotation of pairs whose elements are computed apart and joined.

    before:  y = Concat(Sub(Mul(x[:half], c), Mul(x[half:], s)), Add(Mul(x[half:], c), Mul(x[:half], s)))
    after:   y = RotaryEmbedding(x, c, s)        x: [b, heads, s, size]; c, s: [b, s, size / 2]
    """
    turn, at = m[JOINED].turn, m[JOINED].at
    dims, result, operands = m.shapes.dims(turn.x), m.shapes.dims(m.root.outputs[0]), m.root.inputs
    assert dims is not None
    assert result is not None
    assert isinstance(dims[3], int)
    half, is_stacked = dims[3] // 2, len(result) == 5
    pairs = identity(dims).reshape((*dims[:3], *((half, 2) if turn.is_interleaved else (2, half))))
    assert pairs is not None, "a split of a dim that is a number"
    view = pairs if turn.is_interleaved == is_stacked else pairs.transpose((0, 1, 2, 4, 3))
    steps = emit(view if is_stacked else view.reshape(dims) or view, computed=True)
    assert steps is not None, "whole dims in another order"
    joined = build(steps, _build(m[JOINED_ROTATION], m.shapes, op), op)
    return op.Concat(*operands[:at], joined, *operands[at + 2 :], axis=-1) if len(operands) > 2 else joined


def _build(rotation: Rotation, shapes: Shapes, op: Builder) -> ir.Value:
    """The operator, and what brings its operands into its layout."""
    value, attributes = rotation.turn.x, {"interleaved": int(rotation.turn.is_interleaved)}
    dims = shapes.dims(value)
    assert dims is not None
    if rotation.heads is not None:
        attributes["num_heads"] = rotation.heads
        value = op.Reshape(value, constant_target(dims, _merged(dims)))
    is_reversed, rows = rotation.turn.is_reversed, None
    tables = [rotation.cos.build(op), op.Neg(rotation.sin.build(op)) if is_reversed else rotation.sin.build(op)]
    if rotation.cos.dims[0] == 1 != dims[0]:  # the operator needs a row for each sample
        batch = op.Shape(value, start=0, end=1)
        plain = [table.source for table in (rotation.cos, rotation.sin) if table.rows is None]
        contents = [source for source in plain if isinstance(source, np.ndarray)]
        if len(contents) == len(tables) and not is_reversed:
            indices = op.constant(np.arange(contents[0].shape[1], dtype=np.int64)[None])
            rows = op.Expand(indices, op.Concat(batch, [1], axis=0))
            tables = [op.constant(content[0]) for content in contents]
        else:  # copied, which is cheaper than computed again
            sizes = op.Concat(batch, [1, 1], axis=0)
            tables = [op.Expand(table, sizes) for table in tables]
    result = op.RotaryEmbedding(value, *tables, *(() if rows is None else (rows,)), **attributes)
    if rotation.heads is None:
        return result
    return op.Reshape(result, constant_target(_merged(dims), dims))


def _merged(dims: Dims) -> Dims:
    return (*dims[:2], dims[2] * dims[3])


# --- rotation of a part -----------------------------------------------------------------------------------------------


def _find_whole(m: Match) -> tuple[ir.Value, int] | str:
    """The value of whose last dim the first part is rotated, the rest passed through, and the size of that part."""
    parts = dict(chain(m.x.value, m.shapes))
    for source, view in chain(m.passed.value, m.shapes):
        dims = m.shapes.dims(source)
        if source not in parts or dims is None or len(dims) != 4 or not isinstance(dims[-1], int):
            continue
        size = parts[source].dims[-1]
        if not isinstance(size, int):
            continue
        first = identity(dims).slice(3, 0, 1, size)
        rest = identity(dims).slice(3, size, 1, dims[-1] - size)
        if first is not None and rest is not None and parts[source].same(first) and view.same(rest):
            return source, size
    return f"{m.shapes.show(m.x.value)} and {m.shapes.show(m.passed.value)}"


WHOLE = let("a head whose first part is rotated, and the rest is not", _find_whole)


@rule(
    op.Concat(
        op.RotaryEmbedding(x, cos, sin, positions.optional()).any_attributes("interleaved").named("rotated"), passed
    ).any_attributes("axis"),
    requires=[
        require(
            "the last axis", lambda m: m.Concat.integer("axis") in (-1, 3), lambda m: str(m.Concat.integer("axis"))
        ),
        WHOLE,
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX RotaryEmbedding-23, rotary_embedding_dim; GPT-NeoX, GPT-J, Phi and GLM rotate a part of each head",
    phase=Phase.ATTENTION,
)
def fuse_partial_rotary_embedding(m: Match, op: Builder) -> ir.Value:
    """Let the operator pass the rest of each head through.

    before:  y = Concat<axis = -1>(RotaryEmbedding(x[..., :r], cos, sin), x[..., r:])
    after:   y = RotaryEmbedding<rotary_embedding_dim = r>(x, cos, sin)
    """
    whole, size = m[WHOLE]
    rows = [m.positions] if m.positions.present else []
    return op.RotaryEmbedding(whole, m.cos, m.sin, *rows, **{**m.rotated.attributes, "rotary_embedding_dim": size})
