"""The cosines and sines of rotary position embedding: once for each pair, in the layout of ONNX RotaryEmbedding.

Where they repeat for each pair, they are computed for half a head, whatever their spelling, since all that happens to
them is elementwise or movement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .... import ir
from ....ir.shapes.facts import Dims
from ...analyses import Shapes
from ...analyses.nonzero_dims import dims_unless_empty
from ...rewriting.builder import Builder
from ...views.emit import Step, build, cost, emit
from ...views.node_view import chain
from ...views.slice_ranges import axis_of
from ...views.view import View, identity


@dataclass(frozen=True)
class Turn:
    """The pairs of `x` turned by angles of these cosines and sines.

    `is_interleaved`: pairs are neighbours. `repeats`: cosines and sines have each number for both elements of a pair.
    `is_reversed`: the second element is negated in place of the first, so that the angles are, too.
    """

    x: ir.Value
    cos: ir.Value
    sin: ir.Value
    is_interleaved: bool
    repeats: bool = True
    is_reversed: bool = False


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


def find_table(value: ir.Value, turn: Turn, shapes: Shapes, axis: int) -> Table | None:
    """The table whose rows are repeated for the pairs of each head, the heads being on `axis` of x."""
    own = dims_unless_empty(shapes, value)
    if own is None or len(own) > 4:
        return None
    outer = identity(own).expand((*(1,) * (4 - len(own)), *own))
    operators: list[ir.Node] = []
    for _ in range(6):
        sources = chain(value, shapes, partial(dims_unless_empty, shapes))
        if not sources or outer is None:
            return None
        content = ir.constant(sources[-1][0])
        whole = sources[-1][1].then(outer)
        constant = (
            None if content is None or whole is None or operators else _constant_table(content, whole, axis, turn)
        )
        if constant is not None:
            return constant
        found = [
            table
            for source, inner in sources
            if (table := _moved(source, inner.then(outer), axis, turn, operators)) is not None
        ]
        if found:
            return min(found, key=lambda table: cost(table.steps))
        value, outer = sources[-1][0], whole
        node = value.producer()
        if outer is not None and (rows := _rows_of_pairs(node, shapes, turn)) is not None:
            *lead, size = outer.source
            once = identity((*lead, rows.shape[-1])).expand_dim(len(lead), 2, inner=turn.is_interleaved)
            whole = once.then(outer) if once.dims[-1] == size else None
            if (table := _moved(rows, whole, axis, turn, operators)) is not None:
                return replace(table, rows=node)
        if node is None or node.domain or not _is_elementwise(node) or node.inputs[0] is None:
            return None
        operators.append(node)
        value = node.inputs[0]
    return None


def _moved(
    source: ir.Value | ir.Array, view: View | None, axis: int, turn: Turn, operators: Sequence[ir.Node]
) -> Table | None:
    """The table that is half of a view of `source`, before the elementwise `operators`, the last one first."""
    half = None if view is None else _half(view, axis, turn)
    steps = None if half is None else emit(half, computed=True)
    if half is None or steps is None:
        return None
    return Table(source, half.dims, tuple(steps), tuple(reversed(operators)))


def _is_elementwise(node: ir.Node) -> bool:
    """Whether `node` computes each element of its first input alone."""
    if node.op_type in ("Mul", "Div") and len(node.inputs) == 2 and node.inputs[1] is not None:
        return ir.scalar(node.inputs[1]) is not None
    return node.op_type in ("Cos", "Sin", "Cast", "Neg")


def _half(view: View, axis: int, turn: Turn) -> View | None:
    """[batch or 1, length, size / 2] of a view whose last dim is a repetition, if any; None where it is none."""
    if not turn.repeats:
        return view.squeeze(axis)
    group, is_interleaved = view.groups[-1], turn.is_interleaved
    repeated = group[-1 if is_interleaved else 0] if group else None
    if repeated is None or not repeated.is_broadcast or repeated.count != 2:
        return None
    once = replace(view, groups=(*view.groups[:-1], group[:-1] if is_interleaved else group[1:]))
    return once.squeeze(axis)


def _constant_table(content: ir.Array, view: View, axis: int, turn: Turn) -> Table | None:
    """The same of a constant, whose repetition its elements show."""
    dims = view.dims
    numbers = [dim for dim in dims if isinstance(dim, int)]
    if len(numbers) < 4 or not view.is_reshape or numbers[axis] != 1:
        return None
    once = _once_for_pairs(content.reshape(numbers).squeeze(axis), turn)
    return None if once is None else Table(once, once.shape)


def _rows_of_pairs(node: ir.Node | None, shapes: Shapes, turn: Turn) -> ir.Array | None:
    """The constant of which a Gather or Slice selects rows, each number once for the pair that it is repeated for."""
    content = ir.constant(node.inputs[0]) if node is not None and node.inputs and node.inputs[0] is not None else None
    if node is None or node.domain or content is None or content.ndim < 2 or not turn.repeats:
        return None
    if node.op_type == "Gather":
        axes = [axis_of(node, shapes)]
    elif node.op_type == "Slice" and isinstance(given := ir.parameter(node, "axes"), np.ndarray):
        axes = [int(axis) % content.ndim for axis in given.flat]
    else:
        return None
    return None if content.ndim - 1 in axes else _once_for_pairs(content, turn)


def _once_for_pairs(array: ir.Array, turn: Turn) -> ir.Array | None:
    """[..., size / 2] of [..., size], where both elements of each pair are equal; `array` where it has each once."""
    if not turn.repeats:
        return array
    if array.shape[-1] % 2:
        return None
    pairs = array.reshape(*array.shape[:-1], *((-1, 2) if turn.is_interleaved else (2, array.shape[-1] // 2)))
    first, second = np.moveaxis(pairs, -1 if turn.is_interleaved else -2, 0)
    return np.ascontiguousarray(first) if np.array_equal(first, second) else None
