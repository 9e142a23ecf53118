"""The transposed forms of operators: how one on data in a layout is written on the data themselves.

`v` is `u` in another layout: axis i of v is axis `axes[i]` of u, and axes of u that v lacks are of size 1. The
transposed form of an operator over v is the same computation over u. For `propagate-transposes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...views.slice_ranges import Range, axis_of, ranges, slice_parameters

_POSITIONAL = frozenset(ir.REDUCTIONS) | frozenset(
    "Acos Asin Atan Celu Cos Elu Log Max Min Mish Selu Sin Softplus".split()
)
_POSITIONAL_DOUBLES = frozenset("Acosh Asinh Atanh Cosh Erf Exp Gelu Sigmoid Sign Sinh Softsign Swish Tan Tanh".split())


def is_positional(op_type: str, dtype: ir.DataType | None) -> bool:
    """Whether the last bit of a result depends on the position of its element in memory.

    Reductions add up in the order of memory. Much of what ONNX Runtime leaves to Eigen differs between its vector code
    and its scalar code for the remaining elements at the end; Max and Min give either zero of 0.0 and -0.0.
    Seen in ONNX Runtime 1.31 on shuffled data, float64 apart; Erf, Exp, Gelu, Sigmoid, Tanh and the rest agreed.
    """
    if dtype in (ir.DataType.INT32, ir.DataType.INT64):
        return False
    return op_type in _POSITIONAL or (dtype == ir.DataType.DOUBLE and op_type in _POSITIONAL_DOUBLES)


_LARGEST_CONSTANT = 1 << 16  # bytes of a constant that is also stored transposed


@dataclass(frozen=True)
class Layout:
    """The axes of v in u: for a Transpose its permutation, for a Squeeze the axes that it keeps.

    `axes[i]` is the axis of u that is axis i of v; `rank` is that of u.
    """

    axes: tuple[int, ...]
    rank: int

    @property
    def dropped(self) -> tuple[int, ...]:
        """The axes of u, of size 1, that v lacks."""
        return tuple(sorted({*range(self.rank)} - {*self.axes}))


@dataclass(frozen=True)
class TransposedForm:
    """The changes that write an operator over untransposed data.

    `data`: the inputs that are replaced by their untransposed form; `inputs`: new constants; `attributes`: new values.
    `keeps_layout`: the result is the same either way (a reduction that drops the axes that moved).
    """

    data: Sequence[int]
    attributes: Mapping[str, ir.AttributeValue] = field(default_factory=dict)
    inputs: Mapping[int, ir.Array] = field(default_factory=dict)
    keeps_layout: bool = False


def transposed_form(node: ir.Node, layout: Layout, shapes: Shapes) -> TransposedForm | None:
    """The transposed form of `node`, whose data are in `layout`; None where it has none."""
    if node.domain != "" or not node.inputs or any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    op_type, rank, axes = node.op_type, len(layout.axes), layout.axes
    if op_type in ir.UNARY:
        extras = [value for value in node.inputs[1:] if value is not None]
        return TransposedForm([0]) if all(shapes.static(value) in ((), (1,)) for value in extras) else None
    if op_type in ir.BROADCASTING:
        return _broadcasting(node, layout, shapes)
    if any(shapes.rank(value) != rank for value in (node.inputs[0], node.outputs[0]) if value is not None):
        return _reduction(node, layout, shapes) if op_type in ir.REDUCTIONS else None
    match op_type:
        case "Concat" | "Split":
            axis = axis_of(node, shapes)
            data = range(len(node.inputs)) if op_type == "Concat" else [0]
            return None if axis is None else TransposedForm(list(data), {"axis": axes[axis]})
        case "Gather":
            axis, indices = axis_of(node, shapes), node.inputs[1]
            keeps_rank = indices is not None and shapes.rank(indices) == 1
            return TransposedForm([0], {"axis": axes[axis]}) if keeps_rank and axis is not None else None
        case "Softmax" | "LogSoftmax":  # ONNX Runtime copies for other axes than the last
            axis = axis_of(node, shapes)
            last = axis is not None and axes[axis] == layout.rank - 1 and (node.version or 0) >= 13
            return TransposedForm([0], {"axis": layout.rank - 1}) if last else None
        case "Slice":
            return _slice(node, layout, shapes)
        case "Pad":
            return _pad(node, layout)
        case _ if op_type in ir.REDUCTIONS:
            return _reduction(node, layout, shapes)
        case _:
            return None


def _broadcasting(node: ir.Node, layout: Layout, shapes: Shapes) -> TransposedForm | None:
    """Operands of full rank and constants are untransposed; operands of one element stay."""
    data, constants = [], {}
    for index, value in enumerate(node.inputs):
        if value is None:
            return None
        dims, rank = shapes.dims(value), shapes.rank(value)
        tensor = ir.constant_tensor(value)
        if dims is None or rank is None or rank > len(layout.axes):
            return None
        if all(dim == 1 for dim in dims):
            continue
        if tensor is not None:
            if tensor.nbytes > _LARGEST_CONSTANT:
                return None
            constants[index] = untransposed(np.asarray(tensor.numpy()), layout)
        elif rank == len(layout.axes):
            data.append(index)
        else:
            return None
    return TransposedForm(data, {}, constants) if data else None


def untransposed(content: ir.Array, layout: Layout) -> ir.Array:
    """`content`, which broadcasts against data in `layout`, as it broadcasts against the data themselves."""
    axes = layout.axes
    full = content.reshape((1,) * (len(axes) - content.ndim) + content.shape).transpose(np.argsort(axes))
    full = np.expand_dims(full, layout.dropped)
    leading = next((index for index, dim in enumerate(full.shape) if dim != 1), full.ndim)
    return np.ascontiguousarray(full.reshape(full.shape[leading:]))


def _slice(node: ir.Node, layout: Layout, shapes: Shapes) -> TransposedForm | None:
    taken = ranges(node, shapes)
    if taken is None:
        return None
    moved: dict[int, Range] = {layout.axes[axis]: each for axis, each in taken.items()}
    parameters = slice_parameters(moved)
    if (node.version or 0) < 10:
        del parameters["steps"]  # ones
    return TransposedForm([0], parameters)


def _pad(node: ir.Node, layout: Layout) -> TransposedForm | None:
    pads, rank = ir.parameter(node, "pads"), len(layout.axes)
    axes = ir.parameter(node, "axes") if (node.version or 0) >= 18 else None
    if not isinstance(pads, np.ndarray) or axes is not None or pads.size != 2 * rank:
        return None
    both = np.zeros((2, layout.rank), dtype=np.int64)
    both[:, layout.axes] = pads.reshape(2, rank)
    return TransposedForm([0], {"pads": both.reshape(-1).tolist()})


def _reduction(node: ir.Node, layout: Layout, shapes: Shapes) -> TransposedForm | None:
    content, rank, source = ir.parameter(node, "axes"), len(layout.axes), node.inputs[0]
    if source is None or shapes.rank(source) != rank or not isinstance(content, np.ndarray) or content.size == 0:
        return None
    axes = {int(axis) % rank for axis in content.reshape(-1)}
    keeps_dims = ir.attribute(node, "keepdims") == 1
    rest = [layout.axes[axis] for axis in range(rank) if axis not in axes]
    if not keeps_dims and rest != sorted(rest):
        return None
    reduced = [layout.axes[axis] for axis in axes]
    if not keeps_dims:
        reduced += layout.dropped
    return TransposedForm([0], {"axes": sorted(reduced)}, keeps_layout=not keeps_dims)
