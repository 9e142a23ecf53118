"""Infer the role of an input, and so its valid content, from its transitive users."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ... import ir


class Role(IntEnum):
    """The role of an input's content; of several, the first in this order decides."""

    TARGET_SHAPE = 1  # Reshape
    ZEROS = 2  # starts, axes, pads
    ONES = 3  # repeats, scales, steps
    SMALL = 4  # counts and lengths that only have to be small
    AXES = 5  # 0, 1, 2, …
    INDEX = 6
    POSITION = 7
    LENGTH = 8
    MASK = 9
    DURATION = 10  # counts that are summed up to positions: durations, lengths of rows laid end to end
    ADDITIVE_MASK = 11  # 0, and minus infinity or what stands for it
    BOXES = 12  # two corners, the second beyond the first; in pixels
    UNIT = 13  # probabilities, cosines, coordinates of a grid
    POSITIVE = 14  # logarithms, roots, powers and denominators
    ANGLE = 15  # sines and cosines
    PIXELS = 16  # 0 to 255
    TIMESTEP = 17
    PLAIN = 18


# Operators that hand on (some of) the elements of an input, and the positions of such inputs.
_CARRIED: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys((*ir.MOVEMENT, *"Cast CastLike Clip Pad Abs SequenceAt Optional OptionalGetElement".split()), (0,)),
    **dict.fromkeys("Concat Min Max Sum SequenceConstruct".split(), None),
    "Where": (1, 2),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Add": (0, 1),
    "Sub": (0,),
}

_USES: Mapping[tuple[str, int], Role] = {
    ("Reshape", 1): Role.TARGET_SHAPE,
    ("Expand", 1): Role.ONES,
    ("Tile", 1): Role.ONES,
    ("Resize", 1): Role.ZEROS,
    ("Resize", 2): Role.ONES,
    ("Resize", 3): Role.SMALL,
    ("Upsample", 1): Role.ONES,
    ("ConstantOfShape", 0): Role.SMALL,
    ("Range", 0): Role.ZEROS,
    ("Range", 1): Role.SMALL,
    ("Range", 2): Role.ONES,
    ("Slice", 1): Role.ZEROS,
    ("Slice", 2): Role.SMALL,
    ("Slice", 3): Role.AXES,
    ("Slice", 4): Role.ONES,
    ("Pad", 1): Role.ZEROS,
    ("Pad", 3): Role.AXES,
    ("TopK", 1): Role.ONES,
    ("OneHot", 1): Role.SMALL,
    ("Loop", 0): Role.SMALL,
    ("Unsqueeze", 1): Role.ZEROS,
    ("Squeeze", 1): Role.ZEROS,
    ("CumSum", 1): Role.ZEROS,
    ("Trilu", 1): Role.ZEROS,
    ("EyeLike", 1): Role.ZEROS,
    ("Dropout", 1): Role.ZEROS,
    ("Dropout", 2): Role.ZEROS,
    ("NonMaxSuppression", 2): Role.SMALL,
    ("SequenceAt", 1): Role.ZEROS,
    ("SequenceErase", 1): Role.ZEROS,
    ("SequenceInsert", 2): Role.ZEROS,
    ("BlackmanWindow", 0): Role.SMALL,
    ("HannWindow", 0): Role.SMALL,
    ("HammingWindow", 0): Role.SMALL,
    ("LSTM", 4): Role.LENGTH,
    ("GRU", 4): Role.LENGTH,
    ("RNN", 4): Role.LENGTH,
    ("ReverseSequence", 1): Role.LENGTH,
    ("Where", 0): Role.MASK,
    ("And", 0): Role.MASK,
    ("And", 1): Role.MASK,
    ("Not", 0): Role.MASK,
    ("NonMaxSuppression", 0): Role.BOXES,
    ("NonMaxSuppression", 1): Role.UNIT,
    ("RoiAlign", 1): Role.BOXES,
    ("GridSample", 1): Role.UNIT,
    ("Bernoulli", 0): Role.UNIT,
    **{(op, 0): Role.UNIT for op in ("Acos", "Asin", "Atanh")},
    **{(op, 0): Role.POSITIVE for op in ("Log", "Sqrt", "Reciprocal")},
    **{(op, 0): Role.ANGLE for op in ("Sin", "Cos")},
    ("CumSum", 0): Role.DURATION,
    ("Div", 1): Role.POSITIVE,
    **{(op, 1): Role.ZEROS for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")},
}

# The position of the indices, and of the table that they go into.
_INDEXERS: Mapping[tuple[str, str], tuple[tuple[int, int], ...]] = {
    ("", "Gather"): ((1, 0),),
    ("", "GatherElements"): ((1, 0),),
    ("", "GatherND"): ((1, 0),),
    ("", "ScatterElements"): ((1, 0),),
    ("", "ScatterND"): ((1, 0),),
    ("", "Scatter"): ((1, 0),),
    ("", "RoiAlign"): ((2, 0),),
    ("", "NegativeLogLikelihoodLoss"): ((1, 0),),
    ("", "SoftmaxCrossEntropyLoss"): ((1, 0),),
    ("ai.onnx.ml", "ArrayFeatureExtractor"): ((1, 0),),
    ("com.microsoft", "EmbedLayerNormalization"): ((0, 2), (1, 4)),
    ("com.microsoft", "GatherBlockQuantized"): ((1, 0),),
    ("com.microsoft", "RotaryEmbedding"): ((1, 2),),
    ("", "RotaryEmbedding"): ((3, 1),),
}

_FLOATS_ONLY = frozenset({Role.POSITIVE, Role.UNIT, Role.BOXES, Role.ANGLE})
_BYTES = (255.0, 256.0, 127.5, 128.0)  # what an image of bytes is divided by

_NAMES: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(r"mask", re.IGNORECASE), Role.MASK),
    (re.compile(r"position|pos_ids", re.IGNORECASE), Role.POSITION),
    (re.compile(r"time_?steps?$", re.IGNORECASE), Role.TIMESTEP),
    (re.compile(r"(^|_|\.)(seq_?)?len(gth)?s?($|_|\.)|seqlens", re.IGNORECASE), Role.LENGTH),
)

Bound = int | str | None  # None: the size of the table is not known


@dataclass(frozen=True)
class Use:
    """One use of an input: its role, the exclusive bound of an index, a number that it is compared with."""

    role: Role
    bound: Bound = None
    compared: float | None = None
    parses: bool = False


@dataclass(frozen=True)
class Usage:
    """The valid content of an input. `bounds` are exclusive: numbers, or dims of other inputs.

    `is_parsed`: whether strings are read as numbers. `hides`: for a mask of scores, whether what is not 0 hides instead
    of keeps.
    """

    role: Role
    bounds: tuple[Bound, ...] = ()
    choices: tuple[float, ...] = ()
    hides: bool | None = None
    is_parsed: bool = False


def usage_of(value: ir.Value, model: ir.Model) -> Usage:
    """The usage of the input `value` of `model`. Linear in the operators that pass its elements on."""
    uses = list(_uses(value, model))
    bounds = tuple(dict.fromkeys(use.bound for use in uses if use.role is Role.INDEX))
    choices = tuple(sorted({use.compared for use in uses if use.compared is not None}))
    named = next((role for pattern, role in _NAMES if pattern.search(value.name or "")), Role.PLAIN)
    found = min((use.role for use in uses), default=Role.PLAIN)
    decided = named if named is not Role.PLAIN and found >= Role.INDEX else found
    if decided is Role.PLAIN and _hides(value) is not None:
        decided = Role.MASK
    if is_float(value.dtype) and decided >= Role.MASK and (mask := mask_role(value)) is not None:
        decided = mask
    is_parsed = value.dtype == ir.DataType.STRING and any(use.parses for use in uses)
    return Usage(decided, bounds, choices, _hides(value), is_parsed)


def _hides(value: ir.Value) -> bool | None:
    """Whether an element that is not 0 hides what it stands for (True) or keeps it; None: it masks no scores.

    `Where(mask, scores, -inf)` keeps, `Where(mask, -inf, scores)` hides.
    """
    pending, seen = [(value, False)], {value}
    while pending:
        carried, hides = pending.pop()
        for node, index in carried.uses():
            if (node.domain, node.op_type, index) == ("", "Attention", 3):
                return hides
            if node.domain != "" or not node.outputs:
                continue
            if node.op_type == "Where" and index == 0 and _leads_to_softmax(node.outputs[0]):
                for branch in (1, 2):
                    fill = ir.scalar(node.inputs[branch])
                    if fill is not None and fill <= -1e3:
                        return hides != (branch == 1)
            heir = hides
            if node.op_type == "Not" or (node.op_type == "Equal" and ir.scalar(node.inputs[1 - index]) == 0):
                heir = not hides
            elif node.op_type not in ("And", "Or", "Equal", "Greater") and not (node.op_type in _MOVES and index == 0):
                continue
            if node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                pending.append((node.outputs[0], heir))
    return None


def is_float(dtype: ir.DataType | None) -> bool:
    """Whether an element type is known and floating-point."""
    return dtype is not None and dtype.is_floating_point()


_SCORES = frozenset("MatMul Einsum Gemm FusedMatMul TransposeMatMul Conv".split())
_MOVES = ir.MOVEMENT | {"Cast", "Concat"}
_ADDED = {("", "Attention"): 3, ("com.microsoft", "MultiHeadAttention"): 5, ("com.microsoft", "Attention"): 5}


def mask_role(value: ir.Value) -> Role | None:
    """How a float input masks scores of attention: added to them as it is, or as `(1 - mask) * -1e9`; None: not."""
    pending: list[tuple[ir.Value, Role]] = [(value, Role.ADDITIVE_MASK)]
    seen = {value}
    while pending:
        carried, role = pending.pop()
        for node, index in carried.uses():
            if _ADDED.get((node.domain, node.op_type)) == index:
                return role
            if node.domain != "" or not node.outputs:
                continue
            heir = role
            match node.op_type:
                case "Add" if _leads_to_softmax(node.outputs[0]) and _is_score(node.inputs[1 - index]):
                    return role
                case "Sub" if index == 1 and ir.scalar(node.inputs[0]) == 1:
                    heir = Role.MASK
                case "Mul" | "Add" | "Sub" | "Min" | "Max" if _is_scalar(node, index):
                    pass
                case name if not (name in _MOVES and index == 0) and name != "Concat":
                    continue
            if node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                pending += [(output, heir) for output in node.outputs]
    return None


def _is_scalar(node: ir.Node, index: int) -> bool:
    return all(ir.scalar(other) is not None for position, other in enumerate(node.inputs) if position != index)


def _leads_to_softmax(value: ir.Value) -> bool:
    pending, seen = [value], {value}
    while pending:
        for node, index in pending.pop().uses():
            if node.op_type == "Softmax" and node.domain == "":
                return True
            carries = (node.op_type in _MOVES and index == 0) or node.op_type in ("Add", "Max", "Clip", "Where")
            if carries and len(seen) < 64:
                found = [output for output in node.outputs if output not in seen]
                seen.update(found)
                pending += found
    return False


def _is_score(value: ir.Value | None) -> bool:
    """Whether a value is a product of matrices, scaled or moved: what a mask is added to."""
    for _ in range(16):
        node = value.producer() if value is not None else None
        if node is None:
            return False
        if node.op_type in _SCORES:
            return True
        if node.op_type not in _MOVES and node.op_type not in ("Mul", "Div", "Add", "Where", "Tanh"):
            return False
        value = next((each for each in node.inputs if each is not None and not ir.is_constant(each)), None)
    return False


def _uses(start: ir.Value, model: ir.Model) -> Iterator[Use]:
    floating = start.dtype is not None and start.dtype.is_floating_point()
    pending: list[tuple[ir.Value, int]] = [(start, 0)]
    seen = {start}
    while pending:
        value, offset = pending.pop()
        for node, index in value.uses():
            yield from _use(node, index, offset, floating)
            for heir, added in _heirs(node, index, model):
                if heir not in seen:
                    seen.add(heir)
                    pending.append((heir, offset + added))


def _use(node: ir.Node, index: int, offset: int, floating: bool) -> Iterator[Use]:
    for position, table in _INDEXERS.get((node.domain, node.op_type), ()):
        if index == position:
            yield Use(Role.INDEX, _bound(node, table, offset))
    if node.domain != "":
        return
    if node.op_type in ("Cast", "CastLike") and index == 0:
        yield Use(Role.PLAIN, parses=True)
    if (node.op_type, index) in _USES:
        role = _USES[node.op_type, index]
        if floating if role in _FLOATS_ONLY else not (floating and role is Role.DURATION):
            yield Use(role)
    else:
        yield from _arithmetic_use(node, index, floating)


def _arithmetic_use(node: ir.Node, index: int, floating: bool) -> Iterator[Use]:
    if node.op_type == "Pow" and index == 0 and floating:
        power = ir.scalar(node.inputs[1])
        if power is None or power != int(power) or power < 0:
            yield Use(Role.POSITIVE)
    elif node.op_type in ("Div", "Mul") and floating and _divisor(node, index) in _BYTES:
        yield Use(Role.PIXELS)
    elif node.op_type == "OneHot" and index == 0:
        depth = ir.scalar(node.inputs[1])
        yield Use(Role.INDEX, None if depth is None else int(depth))
    elif node.op_type == "Cast" and ir.attribute(node, "to") == ir.DataType.BOOL:
        yield Use(Role.MASK)
    elif node.op_type in ("Equal", "Sub"):
        other = ir.scalar(node.inputs[1 - index])
        if node.op_type == "Equal" and other is not None:
            yield Use(Role.MASK if other in (0, 1) else Role.PLAIN, compared=float(other))
        elif index == 1 and other == 1 and not floating:
            yield Use(Role.MASK)  # 1 - mask, as the exporters of transformers spell it (in floats: an inverted image)


def _divisor(node: ir.Node, index: int) -> float | None:
    """The divisor of operand `index` of a Div or Mul, to three digits; None where it is no scalar."""
    number = ir.scalar(node.inputs[1 - index])
    if not number or (node.op_type == "Div" and index == 1):
        return None
    return float(f"{float(number) if node.op_type == 'Div' else 1 / float(number):.4g}")


def _bound(node: ir.Node, table: int, offset: int) -> Bound:
    data = node.inputs[table] if table < len(node.inputs) else None
    if data is None:
        return None
    axes = _indexed_axes(node)
    tensor = ir.constant_tensor(data)
    declared = tensor.shape.dims if tensor is not None else () if data.shape is None else data.shape.dims
    dims = [declared[axis] for axis in axes if -len(declared) <= axis < len(declared)]
    if not dims or len(dims) < len(axes):
        return None
    numbers = [dim for dim in dims if isinstance(dim, int)]
    if len(numbers) < len(dims):
        text = next(dim.value for dim in dims if not isinstance(dim, int))
        return None if text is None or len(dims) > 1 else str(text)
    # Negative indices are made positive by adding the size (`Where(i < 0, i + n, i)`): no offset at all.
    least = min(numbers)
    return least - offset if 0 <= offset < least else least


def _indexed_axes(node: ir.Node) -> range | tuple[int, ...]:
    if node.op_type in ("GatherND", "ScatterND"):
        batch = ir.attribute(node, "batch_dims")
        indices = node.inputs[1]
        last = indices.shape.dims[-1] if indices is not None and indices.shape is not None and indices.shape.dims else 1
        first = batch if isinstance(batch, int) else 0
        return range(first, first + (last if isinstance(last, int) else 1))
    if node.op_type in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        return (1,)
    if node.op_type == "ArrayFeatureExtractor":
        return (-1,)
    axis = ir.attribute(node, "axis")
    return (axis if isinstance(axis, int) else 0,)


def _heirs(node: ir.Node, index: int, model: ir.Model) -> Iterator[tuple[ir.Value, int]]:
    """The values that carry elements of input `index` on, and what is added to them at most."""
    function = model.functions.get(node.op_identifier())
    if function is not None:
        yield from ((value, 0) for value in function.inputs[index : index + 1])
    elif node.domain == "" and node.op_type in ("Loop", "Scan"):
        for body in ir.subgraphs_of(node):
            if not (node.op_type == "Loop" and index < 2):
                yield from ((value, 0) for value in body.inputs[index : index + 1])
    elif node.domain == "" and node.op_type in _CARRIED:
        positions = _CARRIED[node.op_type]
        if positions is None or index in positions:
            added = _added(node, index)
            yield from ((value, added) for value in node.outputs)


def _added(node: ir.Node, index: int) -> int:
    if node.op_type not in ("Add", "Sub"):
        return 0
    content = ir.constant(node.inputs[1 - index])
    if content is None or not content.size or content.dtype.kind not in "iuf":
        return 0
    most = float(np.max(content)) if node.op_type == "Add" else -float(np.min(content))
    return int(most) if np.isfinite(most) else 0
