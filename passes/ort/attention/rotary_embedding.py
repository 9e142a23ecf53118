"""Rotary position embedding, recognized by what it does, as ONNX RotaryEmbedding.

y = x * cos + turned(x) * sin, where `turned` moves each element of a pair to the place of the other and negates one.
Pairs are either the two parts of a head, or neighbours (interleaved). Cosines and sines repeat for each pair; they are
computed for half a head, whatever their spelling, since all that happens to them is elementwise or movement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...analyses.facts import Dims
from ...analyses.nonzero_dims import dims_unless_empty
from ...analyses.symbolic import equals_if_broadcast
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES
from ...views.emit import Step, build, constant_target, emit
from ...views.node_view import chain
from ...views.slice_ranges import axis_of
from ...views.view import View, identity

x, cos, sin, turned, rotated, passed, positions = values("x cos sin turned rotated passed positions")


# --- turned pairs -----------------------------------------------------------------------------------------------------


def _find_interleaved(m: Match) -> bool | None:
    """Whether pairs are neighbours, where `turned` is x with each pair turned; None where it is not that."""
    dims = m.x.dims
    if dims is None or len(dims) != 4 or not isinstance(dims[-1], int) or dims[-1] % 2:
        return None
    joined, is_interleaved = m.turned.value.producer(), False
    if joined is not None and joined.op_type == "Reshape" and joined.inputs[0] is not None:
        joined, is_interleaved = joined.inputs[0].producer(), True
    if joined is None or joined.op_type != "Concat" or joined.domain or len(joined.inputs) != 2:
        return None
    if ir.attribute(joined, "axis") not in (-1, len(dims) + is_interleaved - 1):
        return None
    first, second = joined.inputs
    if first is None or second is None or m.turned.dims != dims:
        return None
    half = dims[-1] // 2
    starts, step = ((1, 0), 2) if is_interleaved else ((half, 0), 1)
    for value, start, is_negated in ((first, starts[0], True), (second, starts[1], False)):
        part = identity(dims).slice(3, start, step, half)
        assert part is not None, "a range of a dim that is a number"
        view = _view_of(value, m.x.value, m.shapes, is_negated=is_negated)
        if view is None or not view.same(part.unsqueeze(4) if is_interleaved else part):
            return None
    return is_interleaved


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


IS_INTERLEAVED = let("pairs of x that are turned", _find_interleaved, is_structural=True)


# --- cosines and sines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Cosines or sines [batch or 1, length, size / 2]: movement of `source`, then the elementwise `operators`.

    `rows`: the Gather or Slice that selects rows of it before.
    """

    source: ir.Value | ir.Array
    dims: Dims
    steps: tuple[Step, ...] = ()
    operators: tuple[ir.Node, ...] = ()
    rows: ir.Node | None = None

    def build(self, op: Builder) -> ir.Value:
        """Build the operators."""
        value = self.source if isinstance(self.source, ir.Value) else op.constant(self.source)
        if self.rows is not None:
            inputs = [value, *self.rows.inputs[1:]]
            value = op.node(self.rows.op_type, inputs, attributes=dict(self.rows.attributes))[0]
        value = build(self.steps, value, op)
        for node in self.operators:
            inputs = [value if operand is node.inputs[0] else operand for operand in node.inputs]
            value = op.node(node.op_type, inputs, attributes=dict(node.attributes))[0]
        return value


def _find_table(m: Match, name: Var, axis: int) -> Table | None:
    """The table whose rows are repeated for the pairs of each head, the heads being on `axis` of x."""
    value, shapes = m[name].value, m.shapes
    own, dims = dims_unless_empty(shapes, value), dims_unless_empty(shapes, m.x.value)
    if own is None or dims is None or len(own) > 4:
        return None
    outer = identity(own).expand((*(1,) * (4 - len(own)), *own))
    operators: list[ir.Node] = []
    for _ in range(6):
        sources = chain(value, shapes, partial(dims_unless_empty, shapes))
        for source, inner in sources:
            whole = None if outer is None else inner.then(outer)
            half = None if whole is None else _half(whole, axis, m[IS_INTERLEAVED])
            steps = None if half is None else emit(half, computed=True)
            if half is not None and steps is not None:
                return Table(source, half.dims, tuple(steps), tuple(reversed(operators)))
        if not sources or outer is None:
            return None
        value, inner = sources[-1]
        outer = inner.then(outer)
        content = ir.constant(value)
        if content is not None and outer is not None and not operators:
            return _constant_table(content, outer, axis, m[IS_INTERLEAVED])
        node = value.producer()
        if outer is not None and (rows := _rows_of_pairs(node, shapes, m[IS_INTERLEAVED])) is not None:
            *lead, size = outer.source
            once = identity((*lead, rows.shape[-1])).expand_dim(len(lead), 2, inner=m[IS_INTERLEAVED])
            whole = once.then(outer) if once.dims[-1] == size else None
            half = None if whole is None else _half(whole, axis, m[IS_INTERLEAVED])
            steps = None if half is None else emit(half, computed=True)
            if half is not None and steps is not None:
                return Table(rows, half.dims, tuple(steps), tuple(reversed(operators)), node)
        if node is None or node.domain or not _is_elementwise(node) or node.inputs[0] is None:
            return None
        operators.append(node)
        value = node.inputs[0]
    return None


def _is_elementwise(node: ir.Node) -> bool:
    """Whether `node` computes each element of its first input alone."""
    if node.op_type in ("Mul", "Div") and len(node.inputs) == 2 and node.inputs[1] is not None:
        return ir.scalar(node.inputs[1]) is not None
    return node.op_type in ("Cos", "Sin", "Cast", "Neg")


def _half(view: View, axis: int, is_interleaved: bool) -> View | None:
    """[batch or 1, length, size / 2] of a view whose last dim is a repetition; None where it is none."""
    group = view.groups[-1]
    repeated = group[-1 if is_interleaved else 0] if group else None
    if repeated is None or not repeated.is_broadcast or repeated.count != 2:
        return None
    once = replace(view, groups=(*view.groups[:-1], group[:-1] if is_interleaved else group[1:]))
    return once.squeeze(axis)


def _constant_table(content: ir.Array, view: View, axis: int, is_interleaved: bool) -> Table | None:
    """The same of a constant, whose repetition its elements show."""
    dims = view.dims
    numbers = [dim for dim in dims if isinstance(dim, int)]
    if len(numbers) < 4 or not view.is_reshape or numbers[axis] != 1:
        return None
    once = _once_for_pairs(content.reshape(numbers).squeeze(axis), is_interleaved)
    return None if once is None else Table(once, once.shape)


def _rows_of_pairs(node: ir.Node | None, shapes: Shapes, is_interleaved: bool) -> ir.Array | None:
    """The constant of which a Gather or Slice selects rows, each number once for the pair that it is repeated for."""
    content = ir.constant(node.inputs[0]) if node is not None and node.inputs and node.inputs[0] is not None else None
    if node is None or node.domain or content is None or content.ndim < 2:
        return None
    if node.op_type == "Gather":
        axes = [axis_of(node, shapes)]
    elif node.op_type == "Slice" and isinstance(given := ir.parameter(node, "axes"), np.ndarray):
        axes = [int(axis) % content.ndim for axis in given.flat]
    else:
        return None
    return None if content.ndim - 1 in axes else _once_for_pairs(content, is_interleaved)


def _once_for_pairs(array: ir.Array, is_interleaved: bool) -> ir.Array | None:
    """[..., size / 2] of [..., size], where both elements of each pair are equal."""
    if array.shape[-1] % 2:
        return None
    pairs = array.reshape(*array.shape[:-1], *((-1, 2) if is_interleaved else (2, array.shape[-1] // 2)))
    first, second = np.moveaxis(pairs, -1 if is_interleaved else -2, 0)
    return np.ascontiguousarray(first) if np.array_equal(first, second) else None


@dataclass(frozen=True)
class Rotation:
    """The tables of x [batch, heads, length, size], or with `heads` of [batch, length, heads, size]."""

    cos: Table
    sin: Table
    heads: int | None = None


def _find_rotation(m: Match) -> Rotation | str:
    dims = dims_unless_empty(m.shapes, m.x.value)
    for axis in (1, 2):
        first, second = (_find_table(m, name, axis) for name in (cos, sin))
        if first is None or second is None or first.dims != second.dims or dims is None:
            continue
        (batch, length, _), heads = first.dims, dims[2]
        if batch not in (1, dims[0]) or not equals_if_broadcast(length, dims[3 - axis]):
            continue
        if axis == 1:
            return Rotation(first, second)
        if isinstance(heads, int):
            return Rotation(first, second, heads)
    return ", ".join(m.shapes.show(m[name].value) for name in (x, cos, sin))


ROTATION = let("a cosine and a sine for each position and pair", _find_rotation)


def _has_kernel(m: Match) -> bool:
    """Whether the target computes in the type of x: the CPU's kernel for float16 converts to float32 and back."""
    is_cuda = m.context.settings.target.is_cuda
    return m.x.dtype == ir.DataType.FLOAT or (is_cuda and m.x.dtype in FLOAT16_TYPES)


@rule(
    op.Add(op.Mul(x, cos).any_order().named("straight"), op.Mul(turned, sin).any_order().named("crossed")).any_order(),
    requires=[
        IS_INTERLEAVED,
        require("float32, on CUDA also float16 or bfloat16", _has_kernel, lambda m: str(m.x.dtype)),
        ROTATION,
    ],
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
    rotation, attributes = m[ROTATION], {"interleaved": int(m[IS_INTERLEAVED])}
    value, dims = m.x.value, m.x.dims
    assert dims is not None
    if rotation.heads is not None:
        attributes["num_heads"] = rotation.heads
        value = op.Reshape(value, constant_target(dims, _merged(dims)))
    tables = [rotation.cos.build(op), rotation.sin.build(op)]
    rows = None
    if rotation.cos.dims[0] == 1 != dims[0]:  # the operator needs a row for each sample
        batch = op.Shape(value, start=0, end=1)
        plain = [table.source for table in (rotation.cos, rotation.sin) if table.rows is None]
        contents = [source for source in plain if isinstance(source, np.ndarray)]
        if len(contents) == len(tables):
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
