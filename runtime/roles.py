"""What a model does with an input, and so what the input may contain: found by walking forward from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .. import ir


class Role(IntEnum):
    """What the content of an input is for; of several the first in this order decides."""

    TARGET_SHAPE = 1  # Reshape
    ZEROS = 2  # starts, axes, pads
    ONES = 3  # repeats, scales, steps
    SMALL = 4  # counts and lengths that only have to be small
    AXES = 5  # 0, 1, 2, …
    INDEX = 6
    POSITION = 7
    LENGTH = 8
    MASK = 9
    ADDED_MASK = 10  # 0, or a large negative number that is added to the scores of an attention
    BOXES = 11
    PLAIN = 12


# Operators that hand on (some of) the elements of an input, and the positions of such inputs.
_CARRY_FIRST = (
    "Cast CastLike Identity Reshape Unsqueeze Squeeze Flatten Transpose Slice Expand Tile Gather Split Clip Pad"
)
_CARRY_ALL = "Concat Min Max Sum SequenceConstruct"
_CARRIED: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(_CARRY_FIRST.split(), (0,)),
    **dict.fromkeys(_CARRY_ALL.split(), None),
    **dict.fromkeys(("GatherElements", "GatherND", "Abs", "SequenceAt", "Optional", "OptionalGetElement"), (0,)),
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
    ("NonMaxSuppression", 0): Role.BOXES,
    ("RoiAlign", 1): Role.BOXES,
    ("And", 0): Role.MASK,
    ("And", 1): Role.MASK,
    ("Not", 0): Role.MASK,
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
    ("com.microsoft", "EmbedLayerNormalization"): ((0, 2), (1, 4)),
    ("com.microsoft", "GatherBlockQuantized"): ((1, 0),),
    ("com.microsoft", "RotaryEmbedding"): ((1, 2),),
    ("", "RotaryEmbedding"): ((3, 1),),
}

_NAMES: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(r"mask", re.IGNORECASE), Role.MASK),
    (re.compile(r"position|pos_ids", re.IGNORECASE), Role.POSITION),
    (re.compile(r"(^|_|\.)(seq_?)?len(gth)?s?($|_|\.)|seqlens", re.IGNORECASE), Role.LENGTH),
)

Bound = int | str | None  # None: the size of the table is not known


@dataclass(frozen=True)
class Use:
    """One thing that happens to an input: its role, the exclusive bound of an index, a number it is compared with."""

    role: Role
    bound: Bound = None
    compared: float | None = None


@dataclass(frozen=True)
class Usage:
    """All that is known of what an input may contain. `bounds` are exclusive, numbers or dims of other inputs."""

    role: Role
    bounds: tuple[Bound, ...] = ()
    choices: tuple[float, ...] = ()


def usage_of(value: ir.Value, model: ir.Model) -> Usage:
    """What `model` does with its input `value`. Takes time in what only hands the elements on."""
    uses = list(_uses(value, model))
    bounds = tuple(
        dict.fromkeys(
            use.bound for use in uses if use.role is Role.INDEX or (use.role is Role.LENGTH and use.bound is not None)
        )
    )
    choices = tuple(sorted({use.compared for use in uses if use.compared is not None}))
    named = next((role for pattern, role in _NAMES if pattern.search(value.name or "")), Role.PLAIN)
    found = min((use.role for use in uses), default=Role.PLAIN)
    decided = named if named is not Role.PLAIN and found >= Role.INDEX else found
    if found is Role.ADDED_MASK and named is Role.MASK:
        decided = found
    return Usage(decided, bounds, choices)


def _uses(start: ir.Value, model: ir.Model) -> Iterator[Use]:
    floating = start.dtype is not None and start.dtype.is_floating_point()
    pending: list[tuple[ir.Value, int]] = [(start, 0)]
    seen = {start}
    while pending:
        value, offset = pending.pop()
        for node, index in value.uses():
            yield from _use(node, index, offset, floating)
            for heir, added in _heirs(node, index, model, floating=floating):
                if heir not in seen:
                    seen.add(heir)
                    pending.append((heir, offset + added))


def _use(node: ir.Node, index: int, offset: int, floating: bool) -> Iterator[Use]:
    for position, table in _INDEXERS.get((node.domain, node.op_type), ()):
        if index == position:
            yield Use(Role.INDEX, _bound(node, table, offset))
    if (node.domain, node.op_type, index) in _BIASES:
        yield Use(Role.ADDED_MASK if floating else Role.MASK)
    if node.domain != "":
        return
    if floating and node.op_type == "Add" and _gives_scores(node) and not ir.is_constant(node.inputs[1 - index]):
        is_mask = _only_moved(node.inputs[index]) and not _only_moved(node.inputs[1 - index])
        yield Use(Role.ADDED_MASK if is_mask else Role.PLAIN)
    if (node.op_type, index) in _USES:
        yield Use(_USES[node.op_type, index], _longest(node, index))
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


# Masks of attention: added to the scores where they are floats.
_BIASES = frozenset(
    {("", "Attention", 3), ("com.microsoft", "MultiHeadAttention", 5), ("com.microsoft", "Attention", 5)}
)
_BETWEEN = frozenset({"Cast", "Identity", "Reshape", "Transpose", "Max", "Clip", "Add"})
_MOVING = frozenset(
    {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Slice", "Mul", "Tile", "Transpose"}
)
STEPS = 8  # between the addition of a mask and the Softmax, or an input and the addition


def _gives_scores(node: ir.Node) -> bool:
    """Whether a Softmax takes the result, with nothing but data movement, clipping and further masks between."""
    pending = [(node, 0)]
    while pending:
        current, steps = pending.pop()
        for user, _ in current.outputs[0].uses() if current.outputs else ():
            if user.op_type == "Softmax" and user.domain == "":
                return True
            if user.op_type in _BETWEEN and user.domain == "" and steps < STEPS:
                pending.append((user, steps + 1))
    return False


def _only_moved(value: ir.Value | None) -> bool:
    """Whether the value is an input that was only moved or scaled: scores themselves come out of a product."""
    for _ in range(STEPS):
        node = None if value is None else value.producer()
        if node is None:
            return value is not None
        if node.op_type not in _MOVING or node.domain != "":
            return False
        value = next((each for each in node.inputs if each is not None and not ir.is_constant(each)), None)
    return False


def _longest(node: ir.Node, index: int) -> Bound:
    """The declared length of the sequences whose lengths input `index` of a recurrent operator has."""
    data = node.inputs[0]
    if _USES[node.op_type, index] is not Role.LENGTH or data is None or data.shape is None:
        return None
    if node.op_type == "ReverseSequence":
        time = ir.attribute(node, "time_axis")
    else:
        time = ir.attribute(node, "layout")
    axis = time if isinstance(time, int) else 0
    dim = data.shape.dims[axis] if axis < len(data.shape) else None
    return dim if isinstance(dim, int) or dim is None else dim.value


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
    axis = ir.attribute(node, "axis")
    return (axis if isinstance(axis, int) else 0,)


def _heirs(node: ir.Node, index: int, model: ir.Model, *, floating: bool) -> Iterator[tuple[ir.Value, int]]:
    """The values that carry elements of input `index` on, and what is added to them at most."""
    function = model.functions.get(node.op_identifier())
    if function is not None:
        yield from ((value, 0) for value in function.inputs[index : index + 1])
    elif node.domain == "" and node.op_type in ("Loop", "Scan"):
        for body in ir.subgraphs_of(node):
            if not (node.op_type == "Loop" and index < 2):
                yield from ((value, 0) for value in body.inputs[index : index + 1])
    elif node.domain == "" and node.op_type == "If":
        return
    elif node.domain == "" and node.op_type == "Mul":
        factor = ir.scalar(node.inputs[1 - index]) if floating else None
        if factor is not None and factor > 0:
            yield from ((value, 0) for value in node.outputs)
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
