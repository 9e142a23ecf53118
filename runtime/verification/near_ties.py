"""Choices that fell the other way because two scores are as good as equal: ArgMax, ArgMin and TopK.

A user would not call such a result wrong. So the scores are looked at: those of what was chosen must agree with those
of what should have been, within the noise of the scores themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ... import ir
from ..ort.session_options import Array, Outputs
from .comparison import Tolerance

HOLD_INDICES = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Choice:
    """An output of whole numbers that says which of `scores` are the largest, or the smallest, along `axis`."""

    output: str
    scores: ir.Value
    axis: int
    count: int


def choices(model: ir.Model) -> list[Choice]:
    """The outputs of a model that are indices of scores, as they are or in another type or shape."""
    found = []
    for output in model.graph.outputs:
        value: ir.Value | None = output
        while value is not None and (node := value.producer()) is not None and _keeps_numbers(node):
            value = node.inputs[0]
        node = value.producer() if value is not None else None
        if node is None or value is None or node.domain != "" or not output.name or node.inputs[0] is None:
            continue
        axis = ir.attribute(node, "axis")
        if node.op_type in ("ArgMax", "ArgMin") and isinstance(axis, int):
            found.append(Choice(output.name, node.inputs[0], axis, 1))
        elif node.op_type == "TopK" and value is node.outputs[1] and isinstance(axis, int):
            count = ir.scalar(node.inputs[1]) if len(node.inputs) > 1 else ir.attribute(node, "k")
            if isinstance(count, int):
                found.append(Choice(output.name, node.inputs[0], axis, count))
    return found


def _keeps_numbers(node: ir.Node) -> bool:
    return node.op_type in ir.ALIASES or (node.op_type == "Cast" and ir.attribute(node, "to") in HOLD_INDICES)


def near_ties(found: Choice, want: Array, got: Array, scores: Array, allowed: Tolerance) -> int | None:
    """How many choices fell the other way between scores as good as equal; None where one is worse than that."""
    axis = found.axis % scores.ndim
    shape = (*scores.shape[:axis], found.count, *scores.shape[axis + 1 :])
    if want.shape != got.shape or want.size != int(np.prod(shape, dtype=np.int64)):
        return None
    with np.errstate(invalid="ignore"):  # indices that were cast to floats may be anything in a wrong result
        ours, theirs = (np.asarray(each).astype(np.int64).reshape(shape) for each in (want, got))
    size = scores.shape[axis]
    if ((theirs < -size) | (theirs >= size)).any():
        return None
    best = np.take_along_axis(scores, ours % size, axis).astype(np.float64)
    chosen = np.take_along_axis(scores, theirs % size, axis).astype(np.float64)
    flipped = ours != theirs
    with np.errstate(invalid="ignore"):  # an infinity is as good as itself alone, and so is NaN
        near = np.isfinite(best) & (np.abs(best - chosen) <= allowed.atol + allowed.rtol * np.abs(best))
    worse = ~(near | (best == chosen) | (np.isnan(best) & np.isnan(chosen)))
    repeated = found.count > 1 and _repeats(theirs, axis)
    return None if (flipped & worse).any() or repeated else int(flipped.sum())


def _repeats(indices: Array, axis: int) -> bool:
    """Whether one index was chosen twice."""
    ordered = np.sort(indices, axis)
    return bool((np.diff(ordered, axis=axis) == 0).any())


def forgiven(
    model: ir.Model,
    want: Outputs,
    got: Outputs,
    scores_of: Callable[[ir.Value], tuple[Array, Tolerance] | None],
) -> Mapping[str, int]:
    """Outputs that differ in near-ties alone, and how many of them; `scores_of` computes scores and their noise."""
    counts: dict[str, int] = {}
    for choice in choices(model):
        ours, theirs = want.get(choice.output), got.get(choice.output)
        if not isinstance(ours, np.ndarray) or not isinstance(theirs, np.ndarray) or np.array_equal(ours, theirs):
            continue
        known = scores_of(choice.scores)
        if known is None:
            continue
        count = near_ties(choice, ours, theirs, *known)
        if count is not None:
            counts[choice.output] = count
    return counts
