"""Loops over the elements of a sequence in order: one in each iteration, and each once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from .... import ir
from ....ir.shapes.symbolic import at_least
from ...analyses import Dim, Shapes
from .unroll_loops import never_ends_early

_WIDE = frozenset(each.value for each in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64))


@dataclass(frozen=True)
class Walk:
    """A loop over `sequence`: `x` is the element of an iteration, `rows` are the scan outputs, inside and outside."""

    body: ir.Graph
    sequence: ir.Value
    x: ir.Value
    states: Sequence[ir.LoopState]
    rows: Sequence[tuple[ir.Value, ir.Value]]
    backwards: bool = False


def walks_of(loop: ir.Node, shapes: Shapes) -> Iterator[Walk]:
    """The sequences that a Loop or Scan iterates over."""
    attribute = loop.attributes["body"]
    if not attribute.is_ref():
        body = attribute.as_graph()
        yield from (_walks_of_loop if loop.op_type == "Loop" else _walks_of_scan)(loop, body, shapes)


def _is_sequence(value: ir.Value, shapes: Shapes) -> bool:
    dims = shapes.dims(value)
    return dims is not None and len(dims) == 3 and isinstance(dims[2], int)


# --- Scan -------------------------------------------------------------------------------------------------------------


def _walks_of_scan(scan: ir.Node, body: ir.Graph, shapes: Shapes) -> Iterator[Walk]:
    if (scan.version or 0) < 9 or ir.attribute(scan, "num_scan_inputs") != 1 or None in scan.inputs:
        return
    inputs = [value for value in scan.inputs if value is not None]
    count = len(inputs) - 1
    rows = list(zip(map(ir.origin, body.outputs[count:]), scan.outputs[count:], strict=False))
    lists = [scan.attributes[name].as_ints() for name in _AXES if name in scan.attributes]
    ways = {way for name in _WAYS if name in scan.attributes for way in scan.attributes[name].as_ints()}
    told = sum(len(scan.attributes[name].as_ints()) for name in _WAYS if name in scan.attributes)
    if not _is_sequence(inputs[-1], shapes) or any(any(axes) for axes in lists) or len(ways) > 1:
        return
    backwards = ways == {1}
    if backwards and told != 1 + len(rows):
        return  # scan outputs of a backward loop are in the order of the elements
    yield Walk(body, inputs[-1], body.inputs[count], list(ir.loop_states(scan)), rows, backwards)


_AXES = ("scan_input_axes", "scan_output_axes")
_WAYS = ("scan_input_directions", "scan_output_directions")


# --- Loop -------------------------------------------------------------------------------------------------------------


def _walks_of_loop(loop: ir.Node, body: ir.Graph, shapes: Shapes) -> Iterator[Walk]:
    states = list(ir.loop_states(loop))
    if any(state.start is None for state in states):
        return
    count = len(states)
    rows = list(zip(map(ir.origin, body.outputs[1 + count :]), loop.outputs[count:], strict=True))
    counters = {body.inputs[0], *(state.value for state in states if _counts(state, shapes))}
    for node in body:
        sequence, index = [*node.inputs, None, None][:2]
        if node.op_type != "Gather" or node.domain != "" or sequence is None or index is None:
            continue
        counter = uncast(index, shapes)
        if sequence.graph is body or counter not in counters or shapes.rank(counter) != 0:
            continue
        if ir.attribute(node, "axis") != 0 or not _is_sequence(sequence, shapes):
            continue
        length = (shapes.dims(sequence) or (None,))[0]
        if length is not None and _has_trip_count(loop, body, counters, length, shapes):
            yield Walk(body, sequence, node.outputs[0], states, rows)


def _counts(state: ir.LoopState, shapes: Shapes) -> bool:
    """Whether a state is the iteration number: it starts at 0 and each iteration adds 1, of 32 bits or more."""
    dtype = None if state.start is None else shapes.dtype(state.start)
    return dtype in _WIDE and ir.scalar(state.start) == 0 and _is_next(ir.origin(state.end), {state.value})


def _is_next(value: ir.Value, counters: Collection[ir.Value]) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Add" or node.domain != "":
        return False
    a, b = node.inputs
    return (a in counters and ir.scalar(b) == 1) or (b in counters and ir.scalar(a) == 1)


def _has_trip_count(loop: ir.Node, body: ir.Graph, counters: Collection[ir.Value], length: Dim, shapes: Shapes) -> bool:
    """Whether the trip count is `length`, in every run that succeeds.

    tf2onnx compares float32 counters: they are exact up to 2**24 iterations.
    """
    limits: list[Dim | None] = []
    count, condition = [*loop.inputs, None][:2]
    if count is not None:
        limits.append(number_in(count, shapes))
    if not never_ends_early(body):
        less = body.outputs[0].producer()
        if less is None or less.op_type != "Less" or less.domain != "" or None in less.inputs:
            return False
        after, limit = (uncast(value, shapes) for value in less.inputs if value is not None)
        if not _is_next(after, counters):
            return False
        limits.append(number_in(limit, shapes))
    if length not in limits or any(limit is None or not at_least(limit, length) for limit in limits):
        return False
    if condition is None or ir.scalar(condition) is True:
        return True  # with no element, the first Gather fails
    less = ir.origin(condition).producer()
    if less is None or less.op_type != "Less" or less.domain != "" or None in less.inputs:
        return False
    first, limit = (value for value in less.inputs if value is not None)
    return number_in(first, shapes) == 0 and number_in(limit, shapes) == length


def number_in(value: ir.Value, shapes: Shapes) -> Dim | None:
    """The integer in a tensor of one element of any type."""
    value = uncast(value, shapes)
    number = ir.scalar(value)
    if number is not None:
        return int(number) if float(number).is_integer() else None
    elements = shapes.shape_value(value)
    return elements[0] if elements is not None and len(elements) == 1 else None


def uncast(value: ir.Value, shapes: Shapes) -> ir.Value:
    """The source of `value` through Identities and Casts that keep integers: none from floats to integers."""
    while (node := value.producer()) is not None and node.domain == "" and node.op_type in ("Cast", "Identity"):
        source = node.inputs[0]
        if source is None or (node.op_type == "Cast" and not _keeps_integers(node, source, shapes)):
            break
        value = source
    return value


def _keeps_integers(cast: ir.Node, source: ir.Value, shapes: Shapes) -> bool:
    to, dtype = ir.attribute(cast, "to"), shapes.dtype(source)
    if to not in _WIDE or dtype is None:
        return False
    return dtype.is_integer() or (dtype.value in _WIDE and to in (ir.DataType.FLOAT, ir.DataType.DOUBLE))
