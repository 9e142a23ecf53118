"""Causal attention as the operator whose kernels on CUDA know the causal mask by themselves, heads shared or not."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.pattern import Var, match_node, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES
from ...targets.kernel_table import CONTRIB
from ..attention import patterns
from .cuda_target import ON_CUDA

LARGEST_HEAD = 256  # flash attention's

(low,) = values("low")

_WHERE_CAUSAL = op.Where(op.Equal(op.Trilu(op.Expand(1.0, Var("dims")), upper=0), 0.0), low, 0.0)
"""How torch writes `is_causal=True`, where the length is not known."""


def _tail(m: Match) -> tuple[Dim | None, Dim | None]:
    """The numbers of queries and of keys."""
    dims = patterns.dims_of(m, m.scores.value)
    return (None, None) if dims is None else (dims[-2], dims[-1])


def _hides(m: Match, content: ir.Array) -> bool:
    """Whether nothing is left of any score after a mask: -inf, or the lowest number, as exporters write it."""
    assert m.q.dtype is not None
    return bool(np.all(content.astype(np.float64) <= float(m.q.dtype.min)))


def _is_causal(m: Match) -> bool:
    """Whether the mask is proven to hide from each query what comes after it, the last query being at the last key."""
    if not m.has("mask") or m.has("bias"):
        return False
    dims, (queries, keys) = patterns.dims_of(m, m.mask.value), _tail(m)
    if dims is None or dims[-2:] != (queries, keys):
        return False
    if m.mask.is_constant and isinstance(queries, int) and isinstance(keys, int):
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        return not np.any(m.mask.array[..., seen]) and _hides(m, m.mask.array[..., ~seen])
    producer = m.mask.value.producer()
    found = None if producer is None or queries != keys else next(match_node(_WHERE_CAUSAL, producer), None)
    hidden = None if found is None or (bound := found["low"]) is None else ir.constant(bound.value)
    return hidden is not None and hidden.size == 1 and _hides(m, hidden)


def _has_heads(m: Match) -> bool:
    """All of one size that the kernel takes; the operator has no other size for values."""
    call = patterns.call_over_split_heads(m)
    return call.head_size == call.value_size and call.head_size % 8 == 0 and call.head_size <= LARGEST_HEAD


def _is_one_call(m: Match) -> bool:
    """As many new keys as queries; behind a cache one sequence alone, or one token of each."""
    new, known = (patterns.dims_of(m, operand.value) for operand in (m.q, m.k))
    if new is None or known is None or new[1] != known[1]:
        return False
    queries, keys = _tail(m)
    if not m.has("k_all"):
        return queries == keys
    return isinstance(keys, int) and 1 in new[:2]


def _lengths(m: Match, op: Builder) -> tuple[ir.Value, ir.Value]:
    """The index of each sequence's last key, and the number of keys: they are the same for all sequences."""
    (batch, _, _), (_, keys) = patterns.dims_of(m, m.q.value) or (None, None, None), _tail(m)
    one = np.array([1], dtype=np.int32)
    total = (
        op.constant(one * keys)
        if isinstance(keys, int)
        else op.Cast(op.Shape(m.q, start=1, end=2), to=ir.DataType.INT32.value)
    )
    if isinstance(keys, int) and isinstance(batch, int):
        return op.constant(np.full(batch, keys - 1, dtype=np.int32)), total
    return op.Expand(op.Sub(total, op.constant(one)), op.Shape(m.q, start=0, end=1)), total


@rule(
    patterns.fuse_attention_3d.pattern,
    requires=[
        ON_CUDA,
        constant("scale", "zero"),
        require("float16 or bfloat16", lambda m: m.q.dtype in FLOAT16_TYPES, lambda m: str(m.q.dtype)),
        require("softmax over the keys", lambda m: m.softmax.integer("axis", -1) in (-1, 3)),
        require("heads that part the last dim and fit each other", patterns.fits_heads, patterns.all_dims),
        require("heads of one size, a multiple of 8 up to 256", _has_heads),
        require("a cache of keys and values that nobody else reads", patterns.fits_cache),
        require("one positive scale", patterns.fits_scale),
        require("a mask that broadcasts over the scores", patterns.fits_mask),
        require("a mask that is proven to be the causal one, and nothing else added", _is_causal),
        require(
            "as many new keys as queries, behind a cache of known length one sequence or one token",
            _is_one_call,
            patterns.all_dims,
        ),
        require("a guard that puts zeros", patterns.fits_guard),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "com.microsoft.GroupQueryAttention (ContribOperators.md): flash or cuDNN's attention on CUDA for 16-bit types, "
        "where ONNX Attention-23 computes grouped heads with a mask unfused, and others with memory efficient "
        "attention, which reads the mask (kernels that ONNX Runtime 1.31 selects, not timed). Several tokens behind a "
        "cache are for one sequence alone (group_query_attention_helper.h)"
    ),
    phase=Phase.CAUSAL_ATTENTION,
    benefit=1,
)
def fuse_gqa_cuda(m: Match, op: Builder) -> ir.Value | None:
    """Causal attention over heads that are split and merged around it; the keys' heads may be fewer.

    Like Attention, the operator fails where there is no sequence or no token at all.

    before:  q, k, v -> Reshape, Transpose -> MatMul, scale, + causal mask, Softmax, MatMul -> Transpose, Reshape -> y
    after:   com.microsoft.GroupQueryAttention(q, k, v, past keys, past values, length - 1, length) -> y
    """
    cached = m.has("k_all")
    made = op.node(
        "GroupQueryAttention",
        [m.q, m.k, m.v, *((m.k_past, m.v_past) if cached else (None, None)), *_lengths(m, op)],
        outputs=3,  # the kernel writes all of them
        domain=CONTRIB,
        version=1,
        attributes={
            "num_heads": patterns.heads_of(m),
            "kv_num_heads": patterns.heads_of(m, "k"),
            "scale": patterns.factor(m),
        },
    )
    return patterns.hand_over(m, op, made if cached else made[:1])
