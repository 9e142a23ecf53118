"""Attention in the forms for which ONNX Runtime's CUDA provider has fused kernels."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.pattern import Call, Pattern, op, values
from ...rewriting.rule import rule
from ...targets.cuda import AttentionCall
from ...targets.kernel_table import CONTRIB
from ..attention import patterns
from ..attention.kernel_selection import call_over, has_kernel
from .cuda_target import ON_CUDA

q, k, v, mask, more, scale, zero = values("q k v mask more scale zero")


def _core() -> Call:
    keys = op.Transpose(k, perm=(0, 1, 3, 2)).named("k_turned") | op.Transpose(k, perm=(0, 2, 3, 1)).named("k_across")
    plain = op.MatMul(q, keys).named("scores")
    scores: Pattern = (
        op.Mul(plain, scale).any_order().named("scaled")
        | op.Div(plain, scale).named("divided")
        | op.MatMul(op.Mul(q, scale).any_order().named("scaled"), keys).named("scores")
        | plain
    )
    masked = op.Add(scores, mask).any_order().named("masked")
    twice = op.Add(masked, more).any_order().named("masked_twice")
    softmax = op.Softmax(twice | masked | scores).any_attributes("axis").named("softmax")
    return op.MatMul(op.Where(op.IsNaN(softmax), zero, softmax) | softmax, v)


def _fit(m: Match) -> bool:
    """[batch, heads, length, size] each, of the same batch, heads and lengths where they meet."""
    queries, keys, vals = (patterns.dims_of(m, getattr(m, name).value) for name in "qkv")
    if queries is None or keys is None or vals is None or {len(queries), len(keys), len(vals)} != {4}:
        return False
    if m.has("k_across"):
        keys = (keys[0], keys[2], keys[1], keys[3])
    sizes = (queries[1], queries[3], vals[3])
    return (
        all(isinstance(each, int) for each in sizes)
        and queries[:2] == keys[:2] == vals[:2]
        and queries[3] == keys[3]
        and keys[2] == vals[2]
    )


def _fits_second_mask(m: Match) -> bool:
    """Whether the second mask (T5 has a bias by position and one for padding) is broadcast over the scores, too."""
    if not m.has("more"):
        return True
    dims, scores = patterns.dims_of(m, m.more.value), patterns.dims_of(m, m.scores.value)
    if dims is None or scores is None or len(dims) not in (2, 4) or m.more.dtype != m.scores.dtype:
        return False
    return all(dim in (1, other) for dim, other in zip(dims, scores[-len(dims) :], strict=True))


def _call(m: Match) -> AttentionCall:
    return call_over(m, (m.q.dims or ())[3], (m.v.dims or ())[3])


def _why_not_as_contrib(m: Match) -> str:
    """Why com.microsoft.MultiHeadAttention does not compute it in one kernel; "" where it does."""
    call = patterns.call_over_split_heads(m)
    if m.context.settings.target.is_cuda:
        return call.why_not_fused_as_contrib()
    is_other = call.grouped or call.head_size != call.value_size
    return "heads of keys and values that differ from those of the queries" if is_other else ""


@rule(
    _core(),
    requires=[
        ON_CUDA,
        constant("scale", "zero"),
        require("float32, float16 or bfloat16", has_kernel, lambda m: str(m.q.dtype)),
        require("softmax over the keys", lambda m: m.softmax.integer("axis", -1) in (-1, 3)),
        require(
            "queries, keys and values of as many heads",
            _fit,
            lambda m: ", ".join(f"{name} {m.shapes.show(getattr(m, name).value)}" for name in "qkv"),
        ),
        require("one positive scale", patterns.fits_scale),
        require(
            "a mask that broadcasts over the scores",
            patterns.fits_mask,
            lambda m: f"mask {m.shapes.show(m.mask.value)} on {m.shapes.show(m.scores.value)}",
        ),
        require(
            "a second mask that does, too",
            _fits_second_mask,
            lambda m: f"mask {m.shapes.show(m.more.value)} on {m.shapes.show(m.scores.value)}",
        ),
        require("a guard that puts zeros", patterns.fits_guard),
        require("a kernel that fuses it", lambda m: not _call(m).why_not_fused(), lambda m: _call(m).why_not_fused()),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "ONNX Attention-23 on inputs of four dims: memory efficient or flash attention in ONNX Runtime 1.31 on CUDA, "
        "also over heads that were repeated before (its kernels for grouped heads take no mask, and no float32)"
    ),
    phase=Phase.ATTENTION_ALONE,
)
def fuse_attention_4d_cuda(m: Match, op: Builder) -> ir.Value:
    """Scaled dot-product attention over heads that come from anywhere: repeated, from a cache, of another layout.

    before:  q, k, v -> MatMul, scale, + mask, Softmax, [guard], MatMul -> y
    after:   Attention(q, k, v, mask) -> y
    """
    keys = op.Transpose(m.k, perm=[0, 2, 1, 3]) if m.has("k_across") else m.k.value
    mask = patterns.mask_for_all_queries(m, op, axis=2)
    return op.Attention(m.q, keys, m.v, mask, scale=patterns.factor(m))


@rule(
    patterns.fuse_attention_3d.pattern,
    requires=[
        *patterns.fuse_attention_3d.requires,
        require("no guard against rows of NaN", lambda m: not m.has("zero")),
        require(
            "a kernel that fuses MultiHeadAttention",
            lambda m: not _why_not_as_contrib(m),
            _why_not_as_contrib,
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "com.microsoft.MultiHeadAttention (ContribOperators.md), with the mask as attention_bias: a padding mask of "
        "two dims would leave the fused kernels; what it gives for a row of -inf alone is not said. On the CPU with "
        "1.31.1, 12 heads of 64 with a mask, one thread: 8 queries x1.14, 64 x1.05, 128 x1.02, 256 x1.06, 512 x1.09, "
        "1,024 x1.34"
    ),
    phase=Phase.CONTRIB_ATTENTION,
)
def fuse_mha_cuda(m: Match, op: Builder) -> ir.Value | None:
    """Attention over split heads where the opset stays below 23, as ONNX Runtime's own operator.

    before:  q, k, v -> Reshape, Transpose -> MatMul, scale, + mask, Softmax, [guard], MatMul -> Transpose, Reshape -> y
    after:   com.microsoft.MultiHeadAttention(q, k, v, attention_bias = mask, past keys, past values) -> y
    """
    cached = m.has("k_all")
    bias = patterns.mask_for_all_queries(m, op, axis=1)
    if bias is not None and all(operand.rank == 2 for operand in patterns.added(m)):
        bias = op.Unsqueeze(bias, op.constant(np.array([0, 1], dtype=np.int64)))
    made = op.node(
        "MultiHeadAttention",
        [m.q, m.k, m.v, None, None, bias, *((m.k_past, m.v_past) if cached else ())],
        outputs=3 if cached else 1,
        domain=CONTRIB,
        version=1,
        attributes={"num_heads": patterns.heads_of(m), "scale": patterns.factor(m)},
    )
    return patterns.hand_over(m, op, made)
