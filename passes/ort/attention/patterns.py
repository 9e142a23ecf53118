"""Scaled dot-product attention over split heads, and its rewrite to ONNX Attention.

The rules match the form that simplification leaves, so that one pattern serves every exporter: heads are split by a
Reshape and a Transpose, the scale is on the scores or on one factor, the mask is added, a guard against rows of NaN
may follow the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.attention_mask import lowest_becomes_next, may_hold_infinities, may_hold_lowest
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Condition, Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import Call, Pattern, Var, op, values
from ...rewriting.rule import rule
from ...simplify.attention.attention_heads import heads, split_heads
from ...targets.cuda import AttentionCall
from .kernel_selection import ELEMENT_TYPE, attention_call

q, k, v, mask, bias, more, scale, zero = values("q k v mask bias more scale zero")


def _with_past(data: Var) -> Pattern:
    """The heads of this call's tokens, alone or concatenated to a cache."""
    name = data.name
    cached = op.Concat(Var(f"{name}_past"), heads(data)).any_attributes("axis").named(f"{name}_all").shared()
    return cached | heads(data)


def _repeated(data: Var) -> Pattern:
    """Each head repeated for the queries that share it (grouped queries: torch's repeat_kv)."""
    name = data.name
    apart = op.Unsqueeze(_with_past(data), Var(f"{name}_axes")).named(f"{name}_apart")
    expanded = op.Expand(apart, Var(f"{name}_sizes")).named(f"{name}_expanded")
    reshaped = op.Reshape(expanded, Var(f"{name}_target")).any_attributes("allowzero").named(f"{name}_repeated")
    return op.Gather(_with_past(data), Var(f"{name}_heads_of"), axis=1).named(f"{name}_repeated") | reshaped


def _scores() -> Pattern:
    queries = heads(q)
    keys = (
        op.Transpose(split_heads(k), perm=(0, 2, 3, 1)).named("k_turned")
        | op.Transpose(_repeated(k), perm=(0, 1, 3, 2)).named("k_turned")
        | op.Transpose(_with_past(k), perm=(0, 1, 3, 2)).named("k_turned")
    )
    plain = op.MatMul(queries, keys).named("scores")
    on_queries = op.MatMul(op.Mul(queries, scale).any_order().named("scaled"), keys).named("scores")
    on_scores = op.Mul(plain, scale).any_order().named("scaled")
    divided = op.Div(plain, scale).named("divided")
    return on_scores | divided | on_queries | plain


def _probabilities() -> Pattern:
    biased = op.Add(_scores(), bias).any_order().named("biased")
    masked = op.Add(biased | _scores(), mask).any_order().named("masked")
    softmax = op.Softmax(masked | _scores()).any_attributes("axis").named("softmax")
    guarded = op.Where(op.IsNaN(softmax), zero, softmax)
    return guarded | softmax


def _attention() -> Call:
    mixed = op.MatMul(_probabilities(), _repeated(v) | _with_past(v)).named("mixed")
    merged = op.Transpose(mixed, perm=(0, 2, 1, 3)).named("merged")
    return op.Reshape(merged, Var("dims")).any_attributes("allowzero").named("result")


SPLIT_HEADS_ATTENTION = _attention()
"""Attention over heads that are split before it and merged behind it, with or without a cache."""


def dims_of(m: Match, value: ir.Value) -> tuple[Dim, ...] | None:
    """The dims of a value on the assumption that none is 0: attention over nothing gives nothing."""
    dims = m.shapes.dims(value)
    return None if dims is None else tuple(map(unless_empty, dims))


def _part(m: Match, data: Var, part: str) -> tuple[Dim, ...] | None:
    return dims_of(m, m[Var(f"{data.name}_{part}")].value)


# --- heads ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadSplit:
    """How the last dims of queries, keys and values split into heads."""

    heads: int
    kv_heads: int
    head_size: int
    value_size: int


def _heads_and_size(m: Match, data: Var) -> tuple[int, int] | None:
    """Heads and their size, where the Reshape splits the last dim into them and changes nothing else."""
    whole, parts = dims_of(m, m[data].value), _part(m, data, "split")
    if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
        return None
    count, size = parts[2:]
    return (count, size) if isinstance(count, int) and isinstance(size, int) else None


def _is_repeated(m: Match, data: Var, split: HeadSplit) -> bool:
    """Whether [batch, kv, length, size] becomes [batch, heads, length, size], each head n times in a row.

    By way of [batch, kv, n, length, size], or by a Gather of the heads.
    """
    if not m.has(f"{data.name}_repeated"):
        return True
    if m.has(f"{data.name}_heads_of"):
        indices = m[Var(f"{data.name}_heads_of")]
        if not indices.is_constant:
            return False
        return np.array_equal(indices.array, np.repeat(np.arange(split.kv_heads), split.heads // split.kv_heads))
    apart, expanded, result = (_part(m, data, part) for part in ("apart", "expanded", "repeated"))
    if apart is None or expanded is None or result is None or len(apart) != 5 or len(expanded) != 5:
        return False
    batch, shared, one, length, size = apart
    if one != 1 or expanded[:2] != (batch, shared) or expanded[3:] != (length, size):
        return False
    return result == (batch, split.heads, length, size)


def _head_split(m: Match) -> HeadSplit | str:
    fault = show_inputs(m)
    queries, keys, vals = (_heads_and_size(m, data) for data in (q, k, v))
    whole = dims_of(m, m.q.value)
    if queries is None or keys is None or vals is None or whole is None:
        return fault
    split = HeadSplit(queries[0], keys[0], queries[1], vals[1])
    is_repeated = m.has("k_repeated")
    if is_repeated != m.has("v_repeated") or (split.kv_heads != split.heads) > is_repeated:
        return fault
    if queries[1] != keys[1] or keys[0] != vals[0] or split.heads % split.kv_heads:
        return fault
    merged = split.heads * split.value_size
    if dims_of(m, m.root.outputs[0]) not in ((*whole[:2], merged), (whole[0] * whole[1], merged)):
        return fault
    return split if all(_is_repeated(m, data, split) for data in (k, v)) else fault


def show_inputs(m: Match) -> str:
    """Types and dims of queries, keys and values."""
    return ", ".join(f"{data.name} {m.shapes.show(m[data].value)}" for data in (q, k, v))


HEADS = let("heads that split the last dim and match each other", _head_split)


def split_heads_call(m: Match) -> AttentionCall:
    """The properties that select the kernel of an attention over `HEADS`."""
    split = m[HEADS]
    return attention_call(m, split.head_size, split.value_size, grouped=split.heads != split.kv_heads)


# --- conditions -------------------------------------------------------------------------------------------------------


def _has_private_cache(m: Match) -> bool:
    """Whether both keys and values come behind a cache, or neither, whose concatenation has no other user."""
    if m.has("k_all") != m.has("v_all"):
        return False
    for joined in (m[Var(name)] for name in ("k_all", "v_all") if m.has(name)):
        if joined.integer("axis") not in (2, -2) or joined.rank != 4:
            return False
        if any(user not in m.nodes() for user in joined.value.consumers()):
            return False
    return True


def added(m: Match) -> list[Operand]:
    """What is added to the scores: a mask, perhaps a bias before it or another mask after it."""
    return [m[addend] for addend in (bias, mask, more) if m.has(addend.name)]


def _broadcasts_mask(m: Match) -> bool:
    """Whether mask and bias are [B or 1, H or 1, S or 1, L], or [S or 1, L], in the type of the scores."""
    scores = dims_of(m, m.scores.value)
    for operand in (m[addend] for addend in (bias, mask) if m.has(addend.name)):
        dims = dims_of(m, operand.value)
        if dims is None or scores is None or len(dims) not in (2, 4) or operand.dtype != m.scores.dtype:
            return False
        tail = scores[-len(dims) :]
        if dims[-1] != tail[-1] or any(dim not in (1, other) for dim, other in zip(dims, tail, strict=True)):
            return False
    return True


def _is_positive_scale(m: Match) -> bool:
    if not m.has("scale"):
        return True
    return m.scale.array.size == 1 and m.scale.array.ndim <= 4 and float(m.scale.array.reshape(())) > 0


SOFTMAX_OVER_KEYS = require(
    "softmax over the keys",
    lambda m: m.softmax.integer("axis", -1) in (-1, 3),
    lambda m: f"axis {m.softmax.integer('axis', -1)}",
)
PRIVATE_CACHE = require(
    "a cache of keys and values without other users",
    _has_private_cache,
    lambda m: " and ".join(name for name in ("k_all", "v_all") if m.has(name)),
)
POSITIVE_SCALE = require("one positive scale", _is_positive_scale, lambda m: f"scale {m.shapes.show(m.scale.value)}")
BROADCASTING_MASK = require(
    "a mask that broadcasts over the scores",
    _broadcasts_mask,
    lambda m: f"mask {m.shapes.show(m.mask.value)} on {m.shapes.show(m.scores.value)}",
)
ZERO_GUARD = require(
    "a NaN guard that gives zeros",
    lambda m: not m.has("zero") or (m.zero.array.size == 1 and not np.any(m.zero.array)),
    lambda m: f"it gives {m.zero.scalar if m.zero.scalar is not None else m.shapes.show(m.zero.value)}",
)
FUSED_ON_CUDA = Condition(
    "a kernel that fuses it, on CUDA",
    lambda m: (split_heads_call(m).why_not_fused() or None) if m.context.settings.target.is_cuda else None,
)


# --- replacements -----------------------------------------------------------------------------------------------------


def factor(m: Match) -> float:
    """The factor of the scores."""
    if not m.has("scale"):
        return 1.0
    number = float(np.asarray(m.scale.array, dtype=np.float64).reshape(()))
    return 1.0 / number if m.has("divided") else number


def mask_for_all_queries(m: Match, op: Builder, axis: int) -> ir.Value | None:
    """The sum that is added to the scores, expanded to a row for each query: their number is the dim `axis` of q.

    ONNX Runtime loads a mask that is broadcast over the queries, and rejects it when it runs (1.31, 1.32).
    """
    if not m.has("mask"):
        return None
    total = _sum_of_masks(m, op)
    if any(_rows(operand) != 1 for operand in added(m)) or _rows(m.scores) == 1:
        return total
    rows = op.Shape(m.q, start=axis, end=axis + 1)
    return op.Expand(total, op.Concat(rows, [1], axis=0))


def _rows(operand: Operand) -> Dim | None:
    return None if operand.dims is None else operand.dims[-2]


def _sum_of_masks(m: Match, op: Builder) -> ir.Value:
    """The sum of the addends, once for all layers (T5 adds positions and a mask), adapted to the kernel."""
    first, *others = added(m)
    total = first.value
    for operand in others:
        total = op.Add(total, operand)
        m.shapes.learn_all([op.nodes[-1]])
    return _adapt_to_kernel(m, op, total)


def _adapt_to_kernel(m: Match, op: Builder, total: ir.Value) -> ir.Value:
    """A mask [..., keys] with which Attention computes what Softmax and a product do.

    The lowest number becomes the next one above it, which absorbs scores as the lowest does, so that the kernel gives
    the mean. A row of -inf alone becomes NaN where no guard follows: for that, 2**-24 of a row's largest element
    (2**-11 in float16) is subtracted from the whole row, under which Softmax is invariant.
    """
    dtype = m[ELEMENT_TYPE]
    if not m.has("zero") and may_hold_infinities(total, m.shapes):
        return op.Sub(total, op.Mul(op.ReduceMax(total, axes=[-1]), float(dtype.eps) / 2))
    if may_hold_lowest(total, m.shapes):
        return op.Mul(total, lowest_becomes_next(dtype))
    return total


def replace_results(m: Match, op: Builder, outputs: Sequence[ir.Value]) -> ir.Value:
    """Replace result and caches of the match by the `outputs` of an attention over merged heads."""
    if len(outputs) > 1:
        op.replace(m.k_all, outputs[1])
        op.replace(m.v_all, outputs[2])
    if len(m.shapes.dims(m.root.outputs[0]) or ()) == 3:
        return outputs[0]
    merged = m[HEADS].heads * m[HEADS].value_size
    return op.Reshape(outputs[0], [-1, merged])


@rule(
    SPLIT_HEADS_ATTENTION,
    requires=[
        constant(scale, zero),
        ELEMENT_TYPE,
        SOFTMAX_OVER_KEYS,
        HEADS,
        PRIVATE_CACHE,
        POSITIVE_SCALE,
        BROADCASTING_MASK,
        ZERO_GUARD,
        FUSED_ON_CUDA,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "ONNX Attention-23; ONNX Runtime's kernel gives 0 for rows of the mask that are wholly -inf or the lowest "
        "float, where Softmax gives NaN, or 0 behind the exporters' guard, and the mean: analyses/attention_mask.py"
    ),
    phase=Phase.ATTENTION,
)
def fuse_attention_3d(m: Match, op: Builder) -> ir.Value:
    """Fuse scaled dot-product attention with the split and merge of its heads, with or without a cache.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + mask); y = merge(MatMul(p, heads(v)))
    after:   y, _, _ = Attention(q, k, v, mask, past_keys, past_values)
    """
    cached = m.has("k_all")
    split = m[HEADS]
    outputs = op.node(
        "Attention",
        [m.q, m.k, m.v, mask_for_all_queries(m, op, axis=1), *((m.k_past, m.v_past) if cached else ())],
        outputs=3 if cached else 1,
        attributes={"q_num_heads": split.heads, "kv_num_heads": split.kv_heads, "scale": factor(m)},
    )
    return replace_results(m, op, outputs)
