"""Attention as its exporters spell it becomes the standard's Attention, which has a faster kernel.

The rules read the form that simplification leaves, so that one pattern serves every exporter: heads are split by a
Reshape and a Transpose, the scale stands on the scores or on one factor, the mask is added, a guard against rows of
NaN may follow the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.attention_mask import lowest_becomes_next, may_hold_infinities, may_hold_lowest
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import Call, Pattern, Var, op, values
from ...rewriting.rule import rule
from ...simplify.attention.attention_heads import heads, split_heads
from ...targets.cuda import AttentionCall
from .kernel_selection import call_over, has_kernel

q, k, v, mask, bias, scale, zero = values("q k v mask bias scale zero")


def _with_past(data: Var) -> Pattern:
    """The heads of this call's tokens, alone or behind those that a cache holds."""
    name = data.name
    cached = op.Concat(Var(f"{name}_past"), heads(data)).any_attributes("axis").named(f"{name}_all").shared()
    return cached | heads(data)


def _repeated(data: Var) -> Pattern:
    """Each head as often as queries share it (grouped queries: torch's repeat_kv)."""
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


def dims_of(m: Match, value: ir.Value) -> tuple[Dim, ...] | None:
    """Dims as they are where none is 0: attention over nothing gives nothing."""
    dims = m.shapes.dims(value)
    return None if dims is None else tuple(map(unless_empty, dims))


def _named(m: Match, name: str) -> tuple[Dim, ...] | None:
    return dims_of(m, getattr(m, name).value)


def _parted(m: Match, name: str) -> tuple[int, int] | None:
    """Heads and their size, where the Reshape parts the last dim into them and nothing else."""
    whole, parts = _named(m, name), _named(m, f"{name}_split")
    if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
        return None
    heads, size = parts[2:]
    return (heads, size) if isinstance(heads, int) and isinstance(size, int) else None


def _is_repeated(m: Match, name: str, heads: int) -> bool:
    """Whether [batch, kv, length, size] became [batch, heads, length, size], each head n times in a row.

    By way of [batch, kv, n, length, size], or by picking the heads by number.
    """
    if not m.has(f"{name}_repeated"):
        return True
    if m.has(f"{name}_heads_of"):
        picked, parted = getattr(m, f"{name}_heads_of"), _parted(m, name)
        if not picked.is_constant or parted is None:
            return False
        return np.array_equal(picked.array, np.repeat(np.arange(parted[0]), heads // parted[0]))
    apart, expanded, result = (_named(m, f"{name}_{part}") for part in ("apart", "expanded", "repeated"))
    if apart is None or expanded is None or result is None or len(apart) != 5 or len(expanded) != 5:
        return False
    batch, shared, one, length, size = apart
    if one != 1 or expanded[:2] != (batch, shared) or expanded[3:] != (length, size):
        return False
    return result == (batch, heads, length, size)


def fits_heads(m: Match) -> bool:
    queries, keys, vals = (_parted(m, name) for name in "qkv")
    whole = _named(m, "q")
    if queries is None or keys is None or vals is None or whole is None:
        return False
    heads = queries[0]
    if m.has("k_repeated") != m.has("v_repeated") or (keys[0] != heads) > m.has("k_repeated"):
        return False
    if queries[1] != keys[1] or keys[0] != vals[0] or heads % keys[0]:
        return False
    merged = heads * vals[1]
    result = dims_of(m, m.root.outputs[0])
    return result in ((*whole[:2], merged), (whole[0] * whole[1], merged)) and all(
        _is_repeated(m, name, heads) for name in "kv"
    )


def fits_cache(m: Match) -> bool:
    """Both keys and values come behind a cache, or neither; nobody but the attention and the caller reads them."""
    if m.has("k_all") != m.has("v_all"):
        return False
    for name in ("k_all", "v_all"):
        if m.has(name):
            joined = getattr(m, name)
            if joined.integer("axis") not in (2, -2) or joined.rank != 4:
                return False
            if any(reader not in m.nodes() for reader in joined.value.consumers()):
                return False
    return True


def added(m: Match) -> list[Operand]:
    """What is added to the scores: a mask, perhaps a bias before it, perhaps another mask behind it."""
    return [getattr(m, name) for name in ("bias", "mask", "more") if m.has(name)]


def fits_mask(m: Match) -> bool:
    """Whether mask and bias are [B or 1, H or 1, S or 1, L], or [S or 1, L], of the scores' own type."""
    scores = _named(m, "scores")
    for operand in (getattr(m, name) for name in ("bias", "mask") if m.has(name)):
        dims = dims_of(m, operand.value)
        if dims is None or scores is None or len(dims) not in (2, 4) or operand.dtype != m.scores.dtype:
            return False
        tail = scores[-len(dims) :]
        if dims[-1] != tail[-1] or any(dim not in (1, other) for dim, other in zip(dims, tail, strict=True)):
            return False
    return True


def _rows(operand: Operand) -> Dim | None:
    return None if operand.dims is None else operand.dims[-2]


def factor(m: Match) -> float:
    """What the scores are multiplied by."""
    if not m.has("scale"):
        return 1.0
    number = float(np.asarray(m.scale.array, dtype=np.float64).reshape(()))
    return 1.0 / number if m.has("divided") else number


def fits_scale(m: Match) -> bool:
    if not m.has("scale"):
        return True
    return m.scale.array.size == 1 and m.scale.array.ndim <= 4 and float(m.scale.array.reshape(())) > 0


def fits_guard(m: Match) -> bool:
    return not m.has("zero") or (m.zero.array.size == 1 and not np.any(m.zero.array))


def call_over_split_heads(m: Match) -> AttentionCall:
    queries, keys, vals = (_parted(m, name) for name in "qkv")
    assert queries is not None and keys is not None and vals is not None
    return call_over(m, queries[1], vals[1], grouped=queries[0] != keys[0])


def _why_unfused(m: Match) -> str:
    return call_over_split_heads(m).why_not_fused() if m.context.settings.target.is_cuda else ""


def heads_of(m: Match, name: str = "q") -> int:
    """The number of heads of the queries, or of the keys."""
    parted = _parted(m, name)
    assert parted is not None
    return parted[0]


def mask_for_all_queries(m: Match, op: Builder, axis: int) -> ir.Value | None:
    """What is added to the scores, with a row for each query: their number is the dim `axis` of q.

    ONNX Runtime loads a mask that is broadcast over the queries and refuses it when it runs (1.31, 1.32).
    """
    if not m.has("mask"):
        return None
    given = _sum_of_masks(m, op)
    if any(_rows(operand) != 1 for operand in added(m)) or _rows(m.scores) == 1:
        return given
    rows = op.Shape(m.q, start=axis, end=axis + 1)
    return op.Expand(given, op.Concat(rows, op.constant(np.array([1], dtype=np.int64)), axis=0))


def _fit_for_kernel(m: Match, op: Builder, mask: ir.Value, dtype: ir.DataType) -> ir.Value:
    """`mask` [..., keys] so that Attention computes with it what Softmax and a product do.

    The lowest number becomes the next one above it, which absorbs scores as the lowest does, so that the kernel gives
    the mean. A row of -inf alone becomes NaN where no guard follows: for that, 2**-24 of a row's largest
    element (2**-11 in float16) is taken off the whole row, which Softmax does not change by.
    """
    if not m.has("zero") and may_hold_infinities(mask, m.shapes):
        axes = np.array([-1], dtype=np.int64)
        largest = op.ReduceMax(mask, op.constant(axes)) if op.opset >= 18 else op.ReduceMax(mask, axes=[-1])
        shift = op.Mul(largest, op.constant(np.array(float(dtype.eps) / 2).astype(dtype.numpy())))
        return op.Sub(mask, shift)
    if may_hold_lowest(mask, m.shapes):
        return op.Mul(mask, op.constant(np.array(lowest_becomes_next(dtype)).astype(dtype.numpy())))
    return mask


def _sum_of_masks(m: Match, op: Builder) -> ir.Value:
    """What all layers add (T5's positions, and the mask) is added once for all of them, fit for the kernel."""
    operands, dtype = added(m), m.scores.dtype
    assert dtype is not None
    total = operands[0].value
    for operand in operands[1:]:
        total = op.Add(total, operand)
        m.shapes.learn_all([op.nodes[-1]])
    return _fit_for_kernel(m, op, total, dtype)


def hand_over(m: Match, op: Builder, made: Sequence[ir.Value]) -> ir.Value:
    """Let the results of an attention over merged heads, `made`, stand for the values of the match."""
    if len(made) > 1:
        op.replace(m.k_all, made[1])
        op.replace(m.v_all, made[2])
    if len(m.shapes.dims(m.root.outputs[0]) or ()) == 3:
        return made[0]
    vals = _parted(m, "v")
    assert vals is not None
    return op.Reshape(made[0], op.constant(np.array([-1, heads_of(m) * vals[1]], dtype=np.int64)))


def all_dims(m: Match) -> str:
    return ", ".join(f"{name} {m.shapes.show(getattr(m, name).value)}" for name in "qkv")


@rule(
    _attention(),
    requires=[
        constant("scale", "zero"),
        require("float32, on CUDA also 16 bits", has_kernel, lambda m: str(m.q.dtype)),
        require("softmax over the keys", lambda m: m.softmax.integer("axis", -1) in (-1, 3)),
        require("heads that part the last dim and fit each other", fits_heads, all_dims),
        require("a cache of keys and values that nobody else reads", fits_cache),
        require("one positive scale", fits_scale),
        require(
            "a mask that broadcasts over the scores",
            fits_mask,
            lambda m: f"mask {m.shapes.show(m.mask.value)} on {m.shapes.show(m.scores.value)}",
        ),
        require("a guard that puts zeros", fits_guard),
        require("a kernel that fuses it, on CUDA", lambda m: not _why_unfused(m), _why_unfused),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "ONNX Attention-23; ONNX Runtime's kernel gives 0 for rows of the mask that are wholly -inf or the lowest "
        "float, where Softmax gives NaN, or 0 behind the exporters' guard, and the mean: analyses/attention_mask.py"
    ),
    phase=Phase.ATTENTION,
)
def fuse_attention_3d(m: Match, op: Builder) -> ir.Value | None:
    """Scaled dot-product attention over heads that are split and merged around it, with or without a cache.

    before:  q, k, v -> Reshape, Transpose -> MatMul, scale, + mask, Softmax, [guard], MatMul -> Transpose, Reshape -> y
    after:   Attention(q, k, v, mask, past keys, past values) -> y
    """
    queries, keys = _parted(m, "q"), _parted(m, "k")
    assert queries is not None and keys is not None
    cached = m.has("k_all")
    made = op.node(
        "Attention",
        [m.q, m.k, m.v, mask_for_all_queries(m, op, axis=1), *((m.k_past, m.v_past) if cached else ())],
        outputs=3 if cached else 1,
        attributes={"q_num_heads": queries[0], "kv_num_heads": keys[0], "scale": factor(m)},
    )
    return hand_over(m, op, made)
