"""Rotary position embedding as exporters spell it, rewritten as ONNX RotaryEmbedding."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import Call, Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES

x, target, angles, cos, sin, cos_axes, sin_axes = values("x target angles cos sin cos_axes sin_axes")
_FIRST = start1, end1, axes1, steps1 = values("start1 end1 axes1 steps1")
_SECOND = start2, end2, axes2, steps2 = values("start2 end2 axes2 steps2")


def _over_heads(function: str, axes: Var) -> Call:
    """Cos or Sin of angles [batch, length, size / 2], concatenated with themselves, broadcast over the heads."""
    twice = op.Concat(angles, angles).any_attributes("axis").named("twice").shared()
    called = getattr(op, function)(twice).named(function).shared()
    return op.Unsqueeze(called, axes).named(f"{function}_over_heads").shared()


_split = op.Reshape(x, target).any_attributes("allowzero").named("split")
_heads = op.Transpose(_split, perm=(0, 2, 1, 3)).named("heads")
_first = op.Slice(_heads, start1, end1, axes1, steps1.optional()).named("first")
_second = op.Slice(_heads, start2, end2, axes2, steps2.optional()).named("second")
_rotated = op.Concat(op.Neg(_second).named("negated"), _first).any_attributes("axis").named("rotated")


def _integers(m: Match, operand: Var) -> list[int] | None:
    """The elements of a constant; [1] for an omitted one, which is a Slice's steps."""
    if not m.has(operand.name):
        return [1]
    return [int(element) for element in m[operand].array.reshape(-1)] if m[operand].is_constant else None


def _takes(m: Match, bounds: tuple[Var, ...], low: int, high: int, size: int) -> bool:
    """Whether a Slice takes [low, high) of the last of four dims, of `size` elements."""
    starts, ends, axes, steps = (_integers(m, bound) for bound in bounds)
    if starts != [low] or ends is None or len(ends) != 1 or steps != [1] or axes not in ([3], [-1]):
        return False
    return ends[0] == high or (high == size and ends[0] >= size)


def _has_kernel(m: Match) -> bool:
    """Whether the target computes in the type of x: the CPU's kernel for float16 converts to float32 and back."""
    is_cuda = m.context.settings.target.is_cuda
    return m.x.dtype == ir.DataType.FLOAT or (is_cuda and m.x.dtype in FLOAT16_TYPES)


def _split_heads(m: Match) -> tuple[Dim, Dim, int, Dim] | str:
    """The dims [batch, length, heads, size] of the split."""
    whole, parts = m.x.dims, m.split.dims
    if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
        return m.shapes.show(m.x.value)
    batch, length, heads, size = parts
    return (batch, length, heads, size) if isinstance(heads, int) else m.shapes.show(m.split.value)


HEADS = let("heads split from the last dim", _split_heads)


def _head_size(m: Match) -> int | str:
    """The size of a head, whose two parts of equal size are swapped, and the first of them negated."""
    *_, size = m[HEADS]
    if not isinstance(size, int) or size % 2 or m.rotated.integer("axis") not in (3, -1):
        return m.shapes.show(m.split.value)
    swapped = _takes(m, _FIRST, 0, size // 2, size) and _takes(m, _SECOND, size // 2, size, size)
    return size if swapped else m.shapes.show(m.split.value)


HEAD_SIZE = let("both parts of each head swapped", _head_size)


def _has_angle_for_each_pair(m: Match) -> bool:
    """[batch or 1, length, size / 2] for the whole batch and length, concatenated on the last axis, for all heads."""
    whole, dims = m.x.dims, m.angles.dims
    if whole is None or dims is None or len(dims) != 3:
        return False
    batch, *rest = map(unless_empty, dims)
    return (
        batch in (1, unless_empty(whole[0]))
        and rest == [unless_empty(whole[1]), m[HEAD_SIZE] // 2]
        and m.twice.integer("axis") in (2, -1)
        and _integers(m, cos_axes) == [1]
        and _integers(m, sin_axes) == [1]
    )


_BEFORE_THE_HEADS = (
    require("float32, on CUDA also float16 or bfloat16", _has_kernel, lambda m: str(m.x.dtype)),
    HEADS,
    HEAD_SIZE,
)


@rule(
    op.Add(
        op.Mul(_heads, _over_heads("Cos", cos_axes)).any_order().named("straight"),
        op.Mul(_rotated, _over_heads("Sin", sin_axes)).any_order().named("turned"),
    ).any_order(),
    requires=[
        *_BEFORE_THE_HEADS,
        require(
            "one angle for each position and pair", _has_angle_for_each_pair, lambda m: m.shapes.show(m.angles.value)
        ),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of ONNX RotaryEmbedding-23",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_rotary_embedding(m: Match, op: Builder) -> ir.Value:
    """Fuse the rotation of each head into one operator, before the heads are split.

    before:  t = heads(x); y = Add(Mul(t, Cos(a)), Mul(Concat(Neg(t[half:]), t[:half]), Sin(a)))
    after:   y = heads(RotaryEmbedding<num_heads>(x, Cos(a), Sin(a)))
    """
    caches = [op.Cos(m.angles), op.Sin(m.angles)]
    if (m.angles.dims or (None,))[0] == 1 != (m.x.dims or (None,))[0]:
        # the operator needs a row for each sample: copied, which is cheaper than computed again
        batch = op.Shape(m.x, start=0, end=1)
        sizes = op.Concat(batch, op.constant(np.array([1, 1], dtype=np.int64)), axis=0)
        caches = [op.Expand(cache, sizes) for cache in caches]
    rotated = op.RotaryEmbedding(m.x, *caches, num_heads=m[HEADS][2], interleaved=0)
    return op.Transpose(op.Reshape(rotated, m.target, **m.split.attributes), perm=[0, 2, 1, 3])


def _table(m: Match, operand: Var) -> ir.Array | None:
    """Half of a constant [1, 1, length, size] whose two parts are equal: [length, size / 2]."""
    (_, length, _, _), content = m[HEADS], m[operand].array
    if not 2 <= content.ndim <= 4 or content.shape[-2:] != (length, m[HEAD_SIZE]):
        return None
    table = content.reshape(-1, *content.shape[-2:])
    first, second = np.split(table[0], 2, axis=-1)
    return first if len(table) == 1 and np.array_equal(first, second) else None


def _tables(m: Match) -> list[ir.Array] | str:
    tables = [table for operand in (cos, sin) if (table := _table(m, operand)) is not None]
    return tables if len(tables) == 2 else f"{m.shapes.show(m.cos.value)} on {m.shapes.show(m.split.value)}"


TABLES = let("one constant for each position and pair", _tables)


@rule(
    op.Add(
        op.Mul(_heads, cos).any_order().named("straight"), op.Mul(_rotated, sin).any_order().named("turned")
    ).any_order(),
    requires=[constant(cos, sin), *_BEFORE_THE_HEADS, TABLES],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of ONNX RotaryEmbedding-23, at fixed positions",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_rotary_embedding_cached(m: Match, op: Builder) -> ir.Value:
    """Fuse the rotation where the length is static, so that cosines and sines (perhaps scaled) are constants.

    before:  t = heads(x); y = Add(Mul(t, %cos), Mul(Concat(Neg(t[half:]), t[:half]), %sin))
    after:   y = heads(RotaryEmbedding<num_heads>(x, %cos, %sin, positions))
    """
    batch, _, heads, _ = m[HEADS]
    indices = op.constant(np.arange(len(m[TABLES][0]), dtype=np.int64)[None])
    rows = op.constant(np.array([batch])) if isinstance(batch, int) else op.Shape(m.x, start=0, end=1)
    positions = op.Expand(indices, op.Concat(rows, op.constant(np.array([1], dtype=np.int64)), axis=0))
    caches = [op.constant(np.ascontiguousarray(table)) for table in m[TABLES]]
    rotated = op.RotaryEmbedding(m.x, *caches, positions, num_heads=heads, interleaved=0)
    return op.Transpose(op.Reshape(rotated, m.target, **m.split.attributes), perm=[0, 2, 1, 3])
