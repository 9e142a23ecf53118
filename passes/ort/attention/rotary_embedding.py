"""Rotary position embedding as its exporters spell it becomes the standard's RotaryEmbedding."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import Call, Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES

x, target, angles, cos, sin = values("x target angles cos sin")


def _over_heads(function: str) -> Call:
    """Cos or sin of angles [batch, length, size / 2] written twice, over all heads."""
    twice = op.Concat(angles, angles).any_attributes("axis").named("twice").shared()
    called = getattr(op, function)(twice).named(function).shared()
    return op.Unsqueeze(called, Var(f"{function}_axes")).named(f"{function}_over_heads").shared()


_split = op.Reshape(x, target).any_attributes("allowzero").named("split")
_heads = op.Transpose(_split, perm=(0, 2, 1, 3)).named("heads")
_first = op.Slice(_heads, Var("start1"), Var("end1"), Var("axes1"), Var("steps1").optional()).named("first")
_second = op.Slice(_heads, Var("start2"), Var("end2"), Var("axes2"), Var("steps2").optional()).named("second")
_rotated = op.Concat(op.Neg(_second).named("negated"), _first).any_attributes("axis").named("rotated")


def _numbers(m: Match, name: str) -> list[int] | None:
    if not m.has(name):
        return [1]
    operand: Operand = getattr(m, name)
    return [int(each) for each in operand.array.reshape(-1)] if operand.is_constant else None


def _takes(m: Match, which: str, low: int, high: int, size: int) -> bool:
    """Whether a Slice takes [low, high) of the last of four dims."""
    starts, ends, axes, steps = (_numbers(m, f"{part}{which}") for part in ("start", "end", "axes", "steps"))
    if starts != [low] or ends is None or len(ends) != 1 or steps != [1] or axes not in ([3], [-1]):
        return False
    return ends[0] == high or (high == size and ends[0] >= size)


def _rotates_halves(m: Match) -> bool:
    parts = m.split.dims
    if parts is None or len(parts) != 4 or not isinstance(parts[3], int) or parts[3] % 2:
        return False
    half = parts[3] // 2
    return (
        _takes(m, "1", 0, half, parts[3])
        and _takes(m, "2", half, parts[3], parts[3])
        and m.rotated.integer("axis") in (3, -1)
    )


def _splits_heads(m: Match) -> bool:
    whole, parts = m.x.dims, m.split.dims
    if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or not isinstance(parts[2], int):
        return False
    return whole[:2] == parts[:2]


def _angles_fit(m: Match) -> bool:
    """[batch or 1, length, size / 2] on the whole batch and length, doubled on the last axis, over all heads."""
    whole, parts, given = m.x.dims, m.split.dims, m.angles.dims
    if whole is None or parts is None or given is None or len(given) != 3 or not isinstance(parts[3], int):
        return False
    batch, *rest = map(unless_empty, given)
    return (
        batch in (1, unless_empty(whole[0]))
        and rest == [unless_empty(whole[1]), parts[3] // 2]
        and m.twice.integer("axis") in (2, -1)
        and _numbers(m, "Cos_axes") == [1]
        and _numbers(m, "Sin_axes") == [1]
    )


def _has_kernel(m: Match) -> bool:
    """The processor's kernel for float16 converts to float32 and back."""
    return m.x.dtype == ir.DataType.FLOAT or (m.context.settings.target.is_cuda and m.x.dtype in FLOAT16_TYPES)


_BEFORE_THE_HEADS = (
    require("float32, on CUDA also 16 bits", _has_kernel, lambda m: str(m.x.dtype)),
    require("heads split from the last dim", _splits_heads, lambda m: m.shapes.show(m.x.value)),
    require("halves that change places", _rotates_halves, lambda m: m.shapes.show(m.split.value)),
)


@rule(
    op.Add(
        op.Mul(_heads, _over_heads("Cos")).any_order().named("straight"),
        op.Mul(_rotated, _over_heads("Sin")).any_order().named("turned"),
    ).any_order(),
    requires=[
        *_BEFORE_THE_HEADS,
        require("one angle for each position and pair", _angles_fit, lambda m: m.shapes.show(m.angles.value)),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of ONNX RotaryEmbedding-23",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_rotary_embedding(m: Match, op: Builder) -> ir.Value | None:
    """Rotate the halves of each head before the heads are split, in one operator.

    before:  x -> Reshape, Transpose -> t;  t * cos + Concat(-t[half:], t[:half]) * sin -> y
    after:   x -> RotaryEmbedding(cos, sin) -> Reshape, Transpose -> y
    """
    heads = (m.split.dims or ())[2]
    assert isinstance(heads, int)
    angles: Operand | ir.Value = m.angles
    if (m.angles.dims or (None,))[0] == 1 != (m.x.dims or (None,))[0]:  # the operator wants a row for each sample
        batch = op.Shape(m.x, start=0, end=1)
        angles = op.Expand(m.angles, op.Concat(batch, op.constant(np.array([1, 1], dtype=np.int64)), axis=0))
    turned = op.RotaryEmbedding(m.x, op.Cos(angles), op.Sin(angles), num_heads=heads, interleaved=0)
    return op.Transpose(op.Reshape(turned, m.target, **m.split.attributes), perm=[0, 2, 1, 3])


def _table(m: Match, name: str) -> ir.Array | None:
    """Of a constant [1, 1, length, size] whose halves are the same, [length, size / 2]."""
    parts, content = m.split.dims, getattr(m, name).array
    if parts is None or content.ndim > 4 or content.shape[-2:] != tuple(parts[1:4:2]) or content.ndim < 2:
        return None
    table = content.reshape(-1, *content.shape[-2:])
    first, second = np.split(table[0], 2, axis=-1)
    return first if len(table) == 1 and np.array_equal(first, second) else None


@rule(
    op.Add(
        op.Mul(_heads, cos).any_order().named("straight"), op.Mul(_rotated, sin).any_order().named("turned")
    ).any_order(),
    requires=[
        constant("cos", "sin"),
        *_BEFORE_THE_HEADS,
        require(
            "one number for each position and pair",
            lambda m: all(_table(m, name) is not None for name in ("cos", "sin")),
            lambda m: f"{m.shapes.show(m.cos.value)} on {m.shapes.show(m.split.value)}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="Su et al. 2021 (arXiv:2104.09864), in the form of ONNX RotaryEmbedding-23, at fixed positions",
    phase=Phase.ATTENTION,
    benefit=1,
)
def fuse_rotary_embedding_cached(m: Match, op: Builder) -> ir.Value | None:
    """The same where the length is fixed, so that cosines and sines were computed ahead (perhaps scaled).

    before:  x -> Reshape, Transpose -> t;  t * %cos + Concat(-t[half:], t[:half]) * %sin -> y
    after:   x -> RotaryEmbedding(%cos, %sin, positions) -> Reshape, Transpose -> y
    """
    tables = [_table(m, name) for name in ("cos", "sin")]
    (batch, length, heads, _) = m.split.dims or (0, 0, 0, 0)
    if not isinstance(heads, int) or not isinstance(length, int):
        return None
    places = op.constant(np.arange(length, dtype=np.int64)[None])
    rows = op.constant(np.array([batch])) if isinstance(batch, int) else op.Shape(m.x, start=0, end=1)
    positions = op.Expand(places, op.Concat(rows, op.constant(np.array([1], dtype=np.int64)), axis=0))
    caches = [op.constant(np.ascontiguousarray(table)) for table in tables if table is not None]
    turned = op.RotaryEmbedding(m.x, *caches, positions, num_heads=heads, interleaved=0)
    return op.Transpose(op.Reshape(turned, m.target, **m.split.attributes), perm=[0, 2, 1, 3])
