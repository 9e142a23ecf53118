"""Between which numbers the elements of an integer tensor lie."""

from __future__ import annotations

from typing import Final

from ... import ir
from . import Shapes

Bounds = tuple[int, int]

_FARTHEST: Final = 16  # operators that are looked through
_MOST_ELEMENTS: Final = 1 << 16  # of a constant that is looked at

_INT32: Final = (-(2**31), 2**31 - 1)

_TYPES: Final[dict[ir.DataType, Bounds]] = {
    ir.DataType.BOOL: (0, 1),
    ir.DataType.UINT8: (0, 2**8 - 1),
    ir.DataType.INT8: (-(2**7), 2**7 - 1),
    ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.INT32: _INT32,
    ir.DataType.INT64: (-(2**63), 2**63 - 1),
}


def index_bounds(value: ir.Value, shapes: Shapes) -> Bounds | None:
    """The minimum and the maximum of the elements of `value`; None where it is not an integer tensor."""
    chain = [value]
    while len(chain) < _FARTHEST and (source := _source(chain[-1])) is not None:
        chain.append(source)
    found: Bounds | None = None
    for each in reversed(chain):
        found = _bounds(each, found, shapes)
    return found


def _source(value: ir.Value) -> ir.Value | None:
    """What the elements of `value` are those of, or are made from one by one."""
    node = value.producer()
    if node is None or node.domain != "" or value is not node.outputs[0] or not node.inputs:
        return None
    return node.inputs[0] if node.op_type in ir.MOVEMENT or node.op_type in ("Cast", "Clip", "Max", "Min") else None


def _bounds(value: ir.Value, source: Bounds | None, shapes: Shapes) -> Bounds | None:
    """Those of `value`, where its source has the bounds `source`."""
    dtype = shapes.dtype(value)
    widest = None if dtype is None else _TYPES.get(dtype)
    if widest is None:
        return None
    content = ir.constant(value)
    if content is not None and 0 < content.size <= _MOST_ELEMENTS:
        return int(content.min()), int(content.max())
    node = value.producer()
    if node is None or node.domain != "":
        return widest
    given = [*(ir.scalar(each) for each in node.inputs[1:]), None, None]
    low, high = source or widest
    if node.op_type in ("Clip", "Max", "Min") and not (_INT32[0] <= low and high <= _INT32[1]):
        return widest  # ONNX Runtime 1.32 compares the lower 32 bits of some int64
    match node.op_type:
        case "ArgMax" | "ArgMin" if (size := _reduced(node, shapes)) is not None:
            return 0, size - 1
        case "Mod" if isinstance(given[0], int) and given[0] > 0 and ir.attribute(node, "fmod") == 0:
            return 0, given[0] - 1
        case "Cast" if source is not None and widest[0] <= low and high <= widest[1]:
            return source
        case "Clip":
            least, most = (default if each is None else int(each) for each, default in zip(given, widest, strict=False))
            return min(max(low, least), most), min(max(high, least), most)
        case "Max" if isinstance(given[0], int) and len(node.inputs) == 2:
            return max(low, given[0]), max(high, given[0])
        case "Min" if isinstance(given[0], int) and len(node.inputs) == 2:
            return min(low, given[0]), min(high, given[0])
        case operator if operator in ir.MOVEMENT:
            return low, high
    return widest


def _reduced(node: ir.Node, shapes: Shapes) -> int | None:
    """How long the axis of an ArgMax is."""
    dims = None if node.inputs[0] is None else shapes.dims(node.inputs[0])
    axis = ir.attribute(node, "axis")
    if not dims or not isinstance(axis, int) or not -len(dims) <= axis < len(dims):
        return None
    size = dims[axis]
    return size if isinstance(size, int) and size > 0 else None
