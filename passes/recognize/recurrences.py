"""Loops over the elements of a sequence that are recurrent networks become RNN, GRU or LSTM."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ir
from ..analyses import Dim, Shapes
from ..analyses.dims import at_least
from ..engine.analysis import Analysis
from ..engine.exactness import Exactness
from ..engine.journal import Refusal
from ..engine.pass_ import Pass, PassContext, where
from ..engine.registry import register
from ..engine.rewrite import quantizer_in
from ..simplify.unroll_loops import never_ends_early
from .recurrent_cells import Cell, Step

_WIDE = frozenset(each.value for each in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64))
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


@dataclass(frozen=True)
class _Walk:
    """A loop over `sequence`, of which a turn sees `x`; `rows` are what the turns give, with their stacks."""

    sequence: ir.Value
    x: ir.Value
    states: Sequence[ir.LoopState]
    rows: Sequence[tuple[ir.Value, ir.Value]]
    backwards: bool = False


@register
@dataclass(frozen=True)
class RecognizeRecurrences(Pass):
    """Replace a Loop or Scan whose body is one step of a recurrent network, over each element of a sequence in turn.

    The forms of tf2onnx (Keras layers that it leaves as Loop: hard sigmoids, a product for each gate, GRU that resets
    before the product, SimpleRNN), and whatever is linear in input and state in the same way. ONNX Runtime's GRU and
    LSTM do not take empty batches.

    before:  y, all = Loop(n, , h) <body = (i, c, s) -> (c, t, t) {
               t = Tanh(Add(MatMul(Gather(x, i), w), MatMul(s, r))) }>
    after:   all, y = RNN(x, w', r', b', , h)
    """

    name: ClassVar[str] = "recognize-recurrences"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    def run(self, model: ir.Model, context: PassContext) -> None:
        loops = [node for node in model.graph.all_nodes() if node.op_type in ("Loop", "Scan") and node.domain == ""]
        if not loops or context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        shapes.refresh(model)
        quantizer = quantizer_in(model)
        for node in loops:
            found = _recurrence(node, shapes)
            if found is None:
                continue
            if quantizer is not None:
                found = Refusal(self.name, where(node), "no quantizer in the model", quantizer.op_type)
            if isinstance(found, Refusal):
                context.journal.refuse(found)
            elif context.journal.permit(self.name, where(node), node.op_type, found[1].operator, self.exactness):
                _replace(node, *found, context)
                shapes.refresh(model)  # the next layer reads this one's result, whose dims were not known


def _recurrence(loop: ir.Node, shapes: Shapes) -> tuple[_Walk, Cell] | Refusal | None:
    """The sequence that the loop walks over and what a turn does; why that is no recurrent operator; None if it is not
    that at all."""
    given = loop.attributes["body"]
    if given.is_ref():
        return None
    body = given.as_graph()
    walk = _walk_of_loop(loop, body, shapes) if loop.op_type == "Loop" else _walk_of_scan(loop, body, shapes)
    if walk is None:
        return None
    matrices = [state for state in walk.states if _width(state.start, shapes) is not None]
    widths = {state.value: _width(state.start, shapes) or 0 for state in matrices}
    dims = shapes.dims(walk.sequence)
    assert dims is not None
    step = Step(body, walk.x, {walk.x: dims[2] if isinstance(dims[2], int) else 0, **widths}, shapes)
    ends = {state.value: ir.origin(state.end) for state in matrices}
    cell = next(iter(step.cells(ends)), None)
    if cell is None:
        return None
    for condition, because in _faults(loop, walk, cell, step, shapes):
        return Refusal(RecognizeRecurrences.name, where(loop), condition, because)
    return walk, cell


def _faults(loop: ir.Node, walk: _Walk, cell: Cell, step: Step, shapes: Shapes) -> Iterator[tuple[str, str]]:
    """What a recurrent operator would do otherwise: a condition and why it does not hold."""
    length, batch, _ = shapes.dims(walk.sequence) or (0, 0, 0)
    states = {state.value: state for state in walk.states if state.value in cell.states}
    size = step.leaves[cell.states[0]]
    if shapes.dtype(walk.sequence) != ir.DataType.FLOAT:  # the only one that ONNX Runtime's kernels take
        yield "float32", shapes.show(walk.sequence)
    if any(gate.bias.size != size for gate in cell.gates):
        yield "gates as wide as the state", "one of them is broadcast"
    if any(set(gate.weights) != {walk.x, cell.states[0]} for gate in cell.gates):
        yield "gates of the input and the state", "one of them is not fed to each gate"
    if not all(np.isfinite(each).all() for gate in cell.gates for each in (*gate.weights.values(), gate.bias)) or (
        cell.inner_bias is not None and not np.isfinite(cell.inner_bias).all()
    ):
        yield "finite weights", "there is NaN or infinity"
    for state in states.values():
        if state.start is None or not shapes.same_dims(shapes.dims(state.start), (batch, size)):
            found = "nothing" if state.start is None else shapes.show(state.start)
            yield "a state for each element of the batch", found
        # ONNX Runtime's Scan takes no empty sequence.
        if ir.is_read(state.result) and not (at_least(length, 1) or loop.op_type == "Scan"):
            yield "a sequence that is not empty, where the last state is read", shapes.show(walk.sequence)
    for state in walk.states:
        if state.value not in states and ir.is_read(state.result):
            yield "only results of a recurrent operator are read", f"{state.result.name!r} is read"
    for row, stack in walk.rows:
        if ir.is_read(stack) and row is not ir.origin(states[cell.states[0]].end):
            yield "only results of a recurrent operator are read", f"{stack.name!r} is read"


def _width(value: ir.Value | None, shapes: Shapes) -> int | None:
    dims = None if value is None else shapes.dims(value)
    return dims[1] if dims is not None and len(dims) == 2 and isinstance(dims[1], int) else None


def _is_sequence(value: ir.Value, shapes: Shapes) -> bool:
    dims = shapes.dims(value)
    return dims is not None and len(dims) == 3 and isinstance(dims[2], int)


# --- Scan -------------------------------------------------------------------------------------------------------------


def _walk_of_scan(scan: ir.Node, body: ir.Graph, shapes: Shapes) -> _Walk | None:
    if (scan.version or 0) < 9 or ir.attribute(scan, "num_scan_inputs") != 1 or None in scan.inputs:
        return None
    inputs = [value for value in scan.inputs if value is not None]
    count = len(inputs) - 1
    rows = list(zip(map(ir.origin, body.outputs[count:]), scan.outputs[count:], strict=False))
    lists = [scan.attributes[name].as_ints() for name in _AXES if name in scan.attributes]
    ways = {way for name in _WAYS if name in scan.attributes for way in scan.attributes[name].as_ints()}
    told = sum(len(scan.attributes[name].as_ints()) for name in _WAYS if name in scan.attributes)
    if not _is_sequence(inputs[-1], shapes) or any(any(axes) for axes in lists) or len(ways) > 1:
        return None
    backwards = ways == {1}
    if backwards and told != 1 + len(rows):
        return None  # the rows of a walk from the end lie where their elements do
    return _Walk(inputs[-1], body.inputs[count], list(ir.loop_states(scan)), rows, backwards)


_AXES = ("scan_input_axes", "scan_output_axes")
_WAYS = ("scan_input_directions", "scan_output_directions")


# --- Loop -------------------------------------------------------------------------------------------------------------


def _walk_of_loop(loop: ir.Node, body: ir.Graph, shapes: Shapes) -> _Walk | None:
    states = list(ir.loop_states(loop))
    if any(state.start is None for state in states):
        return None
    count = len(states)
    rows = list(zip(map(ir.origin, body.outputs[1 + count :]), loop.outputs[count:], strict=True))
    counters = {body.inputs[0], *(state.value for state in states if _counts(state))}
    for node in body:
        sequence, index = [*node.inputs, None, None][:2]
        if node.op_type != "Gather" or node.domain != "" or sequence is None or index is None:
            continue
        counter = _uncast(index)
        if sequence.graph is body or counter not in counters or shapes.rank(counter) != 0:
            continue
        if ir.attribute(node, "axis") != 0 or not _is_sequence(sequence, shapes):
            continue
        length = (shapes.dims(sequence) or (None,))[0]
        if length is not None and _takes_turns(loop, body, counters, length, shapes):
            return _Walk(sequence, node.outputs[0], states, rows)
    return None


def _counts(state: ir.LoopState) -> bool:
    """Whether a state is the number of the turn: it starts at 0 and a turn adds 1."""
    return ir.scalar(state.start) == 0 and _is_next(ir.origin(state.end), {state.value})


def _is_next(value: ir.Value, counters: Collection[ir.Value]) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Add" or node.domain != "":
        return False
    a, b = node.inputs
    return (a in counters and ir.scalar(b) == 1) or (b in counters and ir.scalar(a) == 1)


def _takes_turns(loop: ir.Node, body: ir.Graph, counters: Collection[ir.Value], length: Dim, shapes: Shapes) -> bool:
    """Whether the loop runs `length` times, in every run that succeeds.

    tf2onnx compares float32 counters: they are exact up to 2**24 turns.
    """
    limits: list[Dim | None] = []
    count, condition = [*loop.inputs, None][:2]
    if count is not None:
        limits.append(_number(count, shapes))
    if not never_ends_early(body):
        less = body.outputs[0].producer()
        if less is None or less.op_type != "Less" or less.domain != "" or None in less.inputs:
            return False
        after, limit = (_uncast(value) for value in less.inputs if value is not None)
        if not _is_next(after, counters):
            return False
        limits.append(_number(limit, shapes))
    if length not in limits or any(limit is None or not at_least(limit, length) for limit in limits):
        return False
    if condition is None or ir.scalar(condition) is True:
        return True  # with no element, the first Gather fails
    less = ir.origin(condition).producer()
    if less is None or less.op_type != "Less" or less.domain != "" or None in less.inputs:
        return False
    first, limit = (value for value in less.inputs if value is not None)
    return _number(first, shapes) == 0 and _number(limit, shapes) == length


def _number(value: ir.Value, shapes: Shapes) -> Dim | None:
    """The number in a tensor of one element, whatever its type."""
    value = _uncast(value)
    number = ir.scalar(value)
    if number is not None:
        return int(number) if number == int(number) else None
    elements = shapes.shape_value(value)
    return elements[0] if elements is not None and len(elements) == 1 else None


def _uncast(value: ir.Value) -> ir.Value:
    """What `value` is a copy of, in a type that holds the same numbers."""
    while (node := value.producer()) is not None and node.domain == "" and node.op_type in ("Cast", "Identity"):
        source = node.inputs[0]
        if source is None or (node.op_type == "Cast" and ir.attribute(node, "to") not in _WIDE):
            break
        value = source
    return value


# --- the operator -----------------------------------------------------------------------------------------------------


def _replace(loop: ir.Node, walk: _Walk, cell: Cell, context: PassContext) -> None:
    h = cell.states[0]
    states = {state.value: state for state in walk.states}
    ordered = [states[value] for value in cell.states]
    weights = [np.concatenate([gate.weights[leaf].T for gate in cell.gates]) for leaf in (walk.x, h)]
    bias = np.concatenate([gate.bias for gate in cell.gates])
    inner = np.zeros_like(bias)
    if cell.inner_bias is not None:
        inner[-cell.inner_bias.size :] = cell.inner_bias
    contents = (*weights, np.concatenate([bias, inner]))
    constants = [ir.pending_constant(each[np.newaxis].astype(np.float32), name="weights") for each in contents]
    starts = [_with_axis("Unsqueeze", state.start, 0, loop, context) for state in ordered]
    made = ir.new_node(
        cell.operator,
        [walk.sequence, *constants, None, *starts],
        _attributes(walk, cell, weights[1].shape[1]),
        version=loop.version,
        outputs=1 + len(ordered),
        provenance=RecognizeRecurrences.name,
    )
    results: list[ir.Value | None] = [None] * len(loop.outputs)
    stacks = [stack for _, stack in walk.rows]
    readers = [(stacks, 1), *(([state.result], 0) for state in ordered)]
    for output, (given, _) in zip(made.outputs, readers, strict=True):
        if not any(map(ir.is_read, given)):
            output.name = ""
    context.rewriter.insert(made, before=loop)
    for output, (given, axis) in zip(made.outputs, readers, strict=True):
        if output.name:
            value = _with_axis("Squeeze", output, axis, loop, context)
            for each in filter(ir.is_read, given):
                results[loop.outputs.index(each)] = value
    context.rewriter.replace(loop, results)


def _attributes(walk: _Walk, cell: Cell, size: int) -> dict[str, ir.AttributeValue | ir.Attr | None]:
    found: dict[str, ir.AttributeValue | ir.Attr | None] = {"hidden_size": size}
    if cell.inner_bias is not None:
        found["linear_before_reset"] = 1
    if walk.backwards:
        found["direction"] = "reverse"
    if tuple(cell.activations) != _DEFAULTS[cell.operator]:
        found["activations"] = list(cell.activations)
        if hard := cell.activations.count("HardSigmoid"):
            found |= {"activation_alpha": [1.0] * hard, "activation_beta": [0.0] * hard}
    return found


def _with_axis(operator: str, value: ir.Value | None, axis: int, loop: ir.Node, context: PassContext) -> ir.Value:
    """Squeeze or Unsqueeze, in front of the loop."""
    version = loop.version or 0
    axes = ir.pending_constant(np.array([axis], dtype=np.int64), name="axes") if version >= 13 else None
    attributes = {"axes": [axis]} if version < 13 else None
    made = ir.new_node(operator, [value, axes], attributes, version=version, provenance=RecognizeRecurrences.name)
    return context.rewriter.insert(made, before=loop).outputs[0]
