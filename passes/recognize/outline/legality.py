"""Conditions of operators on their inputs that their function bodies do not imply: the bodies broadcast more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .... import ir
from ....ir.shapes.facts import Dims
from ...analyses import Shapes
from ...analyses.nonzero_dims import unless_empty


@dataclass(frozen=True)
class Call:
    """A call that is about to be inserted."""

    op_type: str
    opset: int
    inputs: Sequence[ir.Value | None]
    attributes: Mapping[str, int | float | str]
    shapes: Shapes
    outputs: frozenset[int] = frozenset({0})

    def dims(self, index: int) -> Dims | None:
        """The dims of an input where none is 0; None where they are unknown or the input is absent."""
        value = self.inputs[index] if index < len(self.inputs) else None
        dims = self.shapes.dims(value) if value is not None else None
        return None if dims is None else tuple(map(unless_empty, dims))

    def number(self, name: str, default: int) -> int:
        """An integer attribute, or `default`."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def has(self, index: int) -> bool:
        """Whether the input at `index` is present."""
        return index < len(self.inputs) and self.inputs[index] is not None


def unfit(call: Call) -> str | None:
    """Why the operator does not accept these inputs; None where it does."""
    condition = _CONDITIONS.get(call.op_type)
    if condition is None or condition(call):
        return None
    return f"given {', '.join(call.shapes.show(value) for value in call.inputs if value is not None)}"


def _normalization(call: Call) -> bool:
    """Scale and bias have the dims that are normalized. (ONNX Runtime requires a factor for each element.)"""
    x, axis = call.dims(0), call.number("axis", -1)
    if x is None or not -len(x) <= axis < len(x):
        return False
    return all(call.dims(index) == x[axis:] for index in (1, 2) if call.has(index))


def _group_normalization(call: Call) -> bool:
    x = call.dims(0)
    return x is not None and len(x) > 2 and call.dims(1) == call.dims(2) == x[1:2]


def _prelu(call: Call) -> bool:
    """The slope broadcasts to the data, and not the data to the slope."""
    x, slope = call.dims(0), call.dims(1)
    if x is None or slope is None or len(slope) > len(x):
        return False
    return all(dim in (1, other) for dim, other in zip(slope, x[len(x) - len(slope) :], strict=True))


def _rotary_embedding(call: Call) -> bool:
    """The caches have an angle for each rotated pair, and without position ids for each position of each sample."""
    x, cos, sin = call.dims(0), call.dims(1), call.dims(2)
    if x is None or cos is None or cos != sin or len(x) not in (3, 4):
        return False
    size = x[-1]
    if len(x) == 3:
        heads = call.number("num_heads", 0)
        if not isinstance(size, int) or not heads:
            return False
        size = size // heads
    rotated = call.number("rotary_embedding_dim", 0) or size
    if not isinstance(rotated, int) or cos[-1] != rotated // 2:
        return False
    return len(cos) == 2 if call.has(3) else cos[:-1] == (x[0], x[2] if len(x) == 4 else x[1])


def _attention(call: Call) -> bool:
    """The inputs for which ONNX Runtime's kernels of opsets 23 and 24 conform to the standard (by its own test cases).

    They fail at run time on a mask with one row for all queries or with fewer columns than keys, and output the scores
    without the causal mask. From 25 on there is no kernel: the body is expanded again.
    """
    if not call.has(3) or call.opset >= 25:
        return True
    queries, keys, mask, past = (call.dims(index) for index in (0, 1, 3, 4))
    if queries is None or keys is None or mask is None or not 2 <= len(mask) <= 4:
        return False
    if call.has(4) and past is None:
        return False
    columns = keys[-2] + (past[-2] if past is not None else 0)
    return mask[-2:] == (queries[-2], columns) and not (3 in call.outputs and call.number("is_causal", 0))


def _softmax(call: Call) -> bool:
    """Over the last axis: over others, the expanded form is the fastest on ONNX Runtime's CPU provider."""
    x = call.dims(0)
    return x is not None and call.number("axis", -1) in (-1, len(x) - 1)


_CONDITIONS: Mapping[str, Callable[[Call], bool]] = {
    "Attention": _attention,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _normalization,
    "PRelu": _prelu,
    "RMSNormalization": _normalization,
    "Softmax": _softmax,
    "RotaryEmbedding": _rotary_embedding,
}
