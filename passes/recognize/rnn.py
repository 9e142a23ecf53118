"""Recognize RNN, GRU and LSTM in loops over the elements of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ... import ir
from ...ir.shapes.symbolic import at_least
from ..analyses import Shapes
from ..phases import quantizer_in
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import Pass, PassContext, where
from ..pipeline.rewrite_log import MissedRewrite
from ..registry import register
from ..simplify.control_flow.scan_loops import Walk, walks_of
from .rnn_cells import Cell, Matrix, Step

_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


@register
@dataclass(frozen=True)
class RecognizeRnn(Pass):
    """Replace a Loop or Scan over a sequence whose body is a recurrent cell by RNN, GRU or LSTM.

    The forms of tf2onnx (Keras layers that it leaves as Loop: hard sigmoids, a product for each gate, GRU that resets
    before the product, SimpleRNN), and all that are linear in input and state in the same way. Batches of symbolic
    size are assumed not to be empty, and so are sequences of GRU: ONNX Runtime's GRU and LSTM crash on empty ones,
    from any exporter.

    before:  y, all = Loop(n, , h) <body = (i, c, s) -> (c, t, t) {
               t = Tanh(Add(MatMul(Gather(x, i), w), MatMul(s, r))) }>
    after:   all, y = RNN(x, w', r', b', , h)
    """

    name: ClassVar[str] = "recognize-rnn"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        loops = [node for node in model.graph.all_nodes() if node.op_type in ("Loop", "Scan") and node.domain == ""]
        if not loops or context.hides_operators():
            return
        quantizer = quantizer_in(model)
        for node in loops:
            shapes = context.analyses.get(Shapes)  # with the result of the layer before, whose dims were not known
            candidates = (_recurrence(node, walk, shapes) for walk in walks_of(node, shapes))
            found = next((each for each in candidates if each is not None), None)
            if found is None:
                continue
            if quantizer is not None:
                found = MissedRewrite(self.name, where(node), "no quantizer in the model", quantizer.op_type)
            if context.settings.target.is_cuda:  # cuDNN has neither hard sigmoids nor an early reset
                found = MissedRewrite(
                    self.name, where(node), "another provider than CUDA", str(context.settings.target)
                )
            if isinstance(found, MissedRewrite):
                context.log.miss(found)
            elif context.log.try_rewrite(self.name, where(node), node.op_type, found[1].operator, self.exactness):
                _replace(node, *found, context)


def _recurrence(loop: ir.Node, walk: Walk, shapes: Shapes) -> tuple[Walk, Cell] | MissedRewrite | None:
    """The recurrent cell that an iteration computes, or why the operator would differ; None where it is none."""
    matrices = [state for state in walk.states if _width(state.start, shapes) is not None]
    widths = {state.value: _width(state.start, shapes) or 0 for state in matrices}
    columns = (shapes.dims(walk.sequence) or (0, 0, 0))[2]
    step = Step(walk.body, walk.x, {walk.x: columns if isinstance(columns, int) else 0, **widths}, shapes)
    ends = {state.value: ir.origin(state.end) for state in matrices}
    cell = next(iter(step.cells(ends)), None)
    if cell is None:
        return None
    for condition, because in _faults(loop, walk, cell, step, shapes):
        return MissedRewrite(RecognizeRnn.name, where(loop), condition, because)
    return walk, cell


def _faults(loop: ir.Node, walk: Walk, cell: Cell, step: Step, shapes: Shapes) -> Iterator[tuple[str, str]]:
    """The conditions under which the recurrent operator computes the same that do not hold, and why."""
    length, batch, _ = shapes.dims(walk.sequence) or (0, 0, 0)
    states = {state.value: state for state in walk.states if state.value in cell.states}
    size = step.leaves[cell.states[0]]
    if shapes.dtype(walk.sequence) != ir.DataType.FLOAT:  # the only one that ONNX Runtime's kernels take
        yield "float32", shapes.show(walk.sequence)
    if any(gate.bias.size != size for gate in cell.gates):
        yield "gates as wide as the state", "one of them is broadcast"
    if any(set(gate.weights) != {walk.x, cell.states[0]} for gate in cell.gates):
        yield "gates of the input and the state", "one of them is not fed to each gate"
    inner = [] if cell.inner_bias is None else [cell.inner_bias]
    contents = [each for gate in cell.gates for each in (*gate.weights.values(), gate.bias)]
    if not all(np.isfinite(_float32(each)).all() for each in [*contents, *inner]):
        yield "finite weights", "there is NaN or infinity, or a product of factors that is beyond float32"
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


def _float32(content: Matrix) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return content.astype(np.float32)


def _width(value: ir.Value | None, shapes: Shapes) -> int | None:
    dims = None if value is None else shapes.dims(value)
    return dims[1] if dims is not None and len(dims) == 2 and isinstance(dims[1], int) else None


# --- the operator -----------------------------------------------------------------------------------------------------


def _replace(loop: ir.Node, walk: Walk, cell: Cell, context: PassContext) -> None:
    h = cell.states[0]
    states = {state.value: state for state in walk.states}
    ordered = [states[value] for value in cell.states]
    weights = [np.concatenate([gate.weights[leaf].T for gate in cell.gates]) for leaf in (walk.x, h)]
    bias = np.concatenate([gate.bias for gate in cell.gates])
    inner = np.zeros_like(bias)
    if cell.inner_bias is not None:
        inner[-cell.inner_bias.size :] = cell.inner_bias
    contents = (*weights, np.concatenate([bias, inner]))
    constants = [ir.pending_constant(_float32(each[np.newaxis]), name="weights") for each in contents]
    starts = [_with_axis("Unsqueeze", state.start, 0, loop, context) for state in ordered]
    node = ir.new_node(
        cell.operator,
        [walk.sequence, *constants, None, *starts],
        _attributes(walk, cell, weights[1].shape[1]),
        version=loop.version,
        outputs=1 + len(ordered),
        provenance=RecognizeRnn.name,
    )
    results: list[ir.Value | None] = [None] * len(loop.outputs)
    stacks = [stack for _, stack in walk.rows]
    replaced = [(stacks, 1), *(([state.result], 0) for state in ordered)]
    for output, (old, _) in zip(node.outputs, replaced, strict=True):
        if not any(map(ir.is_read, old)):
            output.name = ""
    context.rewriter.insert(node, before=loop)
    for output, (old, axis) in zip(node.outputs, replaced, strict=True):
        if output.name:
            value = _with_axis("Squeeze", output, axis, loop, context)
            for each in filter(ir.is_read, old):
                results[loop.outputs.index(each)] = value
    context.rewriter.replace(loop, results)


def _attributes(walk: Walk, cell: Cell, size: int) -> dict[str, ir.AttributeValue | ir.Attr | None]:
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
    """Squeeze or Unsqueeze, before the loop."""
    view = ir.new_node(operator, [value], {"axes": [axis]}, version=loop.version, provenance=RecognizeRnn.name)
    return context.rewriter.insert(view, before=loop).outputs[0]
