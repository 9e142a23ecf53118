"""Causal attention as com.microsoft.GroupQueryAttention, whose CUDA kernels need no mask, heads shared or not."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import Var, match_node, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES
from ...targets.kernel_table import CONTRIB
from ..attention import patterns
from ..attention.patterns import HEADS, scale, zero

LARGEST_HEAD = 256  # flash attention's

(low,) = values("low")

_WHERE_CAUSAL = op.Where(op.Equal(op.Trilu(op.Expand(1.0, Var("dims")), upper=0), 0.0), low, 0.0)
"""The causal mask as torch writes `is_causal=True` for a symbolic length."""

_ELEMENT_TYPE = let(
    "float16 or bfloat16",
    lambda m: m.q.dtype if m.q.dtype in FLOAT16_TYPES else str(m.q.dtype),
)


def _lengths(m: Match) -> tuple[Dim | None, Dim | None]:
    """The numbers of queries and of keys."""
    dims = patterns.dims_of(m, m.scores.value)
    return (None, None) if dims is None else (dims[-2], dims[-1])


def _masks_all(m: Match, content: ir.Array) -> bool:
    """Whether all elements are -inf, or the lowest number, as exporters write it, so that no score remains."""
    return bool(np.all(content.astype(np.float64) <= float(m[_ELEMENT_TYPE].min)))


def _is_causal(m: Match) -> bool:
    """Whether the mask is proven to hide from each query the keys after it, the last query being at the last key."""
    if not m.has("mask") or m.has("bias"):
        return False
    dims, (queries, keys) = patterns.dims_of(m, m.mask.value), _lengths(m)
    if dims is None or dims[-2:] != (queries, keys):
        return False
    if m.mask.is_constant and isinstance(queries, int) and isinstance(keys, int):
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        return not np.any(m.mask.array[..., seen]) and _masks_all(m, m.mask.array[..., ~seen])
    producer = m.mask.value.producer()
    bindings = None if producer is None or queries != keys else next(match_node(_WHERE_CAUSAL, producer), None)
    hidden = None if bindings is None or (bound := bindings["low"]) is None else ir.constant(bound.value)
    return hidden is not None and hidden.size == 1 and _masks_all(m, hidden)


def _has_uniform_heads(m: Match) -> bool:
    """Whether all heads have one size that the kernel takes; the operator has no other size for values."""
    size = m[HEADS].head_size
    return size == m[HEADS].value_size and size % 8 == 0 and size <= LARGEST_HEAD


def _is_one_call(m: Match) -> bool:
    """As many new keys as queries; behind a cache one sequence alone, or one token of each."""
    new, known = (patterns.dims_of(m, operand.value) for operand in (m.q, m.k))
    if new is None or known is None or new[1] != known[1]:
        return False
    queries, keys = _lengths(m)
    if not m.has("k_all"):
        return queries == keys
    return isinstance(keys, int) and 1 in new[:2]


def _length_inputs(m: Match, op: Builder) -> tuple[ir.Value, ir.Value]:
    """The index of each sequence's last key, and the number of keys: they are the same for all sequences."""
    (batch, _, _), (_, keys) = patterns.dims_of(m, m.q.value) or (None, None, None), _lengths(m)
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
    patterns.SPLIT_HEADS_ATTENTION,
    requires=[
        constant(scale, zero),
        _ELEMENT_TYPE,
        patterns.SOFTMAX_OVER_KEYS,
        HEADS,
        require(
            f"heads of one size, a multiple of 8 up to {LARGEST_HEAD}",
            _has_uniform_heads,
            lambda m: f"sizes {m[HEADS].head_size} and {m[HEADS].value_size}",
        ),
        patterns.PRIVATE_CACHE,
        patterns.POSITIVE_SCALE,
        patterns.BROADCASTING_MASK,
        require(
            "a mask that is proven causal, and no other addend",
            _is_causal,
            lambda m: ", ".join(m.shapes.show(operand.value) for operand in patterns.added(m)) or "no mask",
        ),
        require(
            "as many new keys as queries, behind a cache of known length one sequence or one token",
            _is_one_call,
            patterns.show_inputs,
        ),
        patterns.ZERO_GUARD,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "com.microsoft.GroupQueryAttention (ContribOperators.md): flash or cuDNN's attention on CUDA for 16-bit types, "
        "where ONNX Attention-23 computes grouped heads with a mask unfused, and others with memory efficient "
        "attention, which reads the mask (kernels that ONNX Runtime 1.31 selects, not timed). Several tokens behind a "
        "cache are for one sequence alone (group_query_attention_helper.h)"
    ),
    phase=Phase.CAUSAL_ATTENTION,
    benefit=1,
)
def fuse_gqa_cuda(m: Match, op: Builder) -> ir.Value:
    """Fuse causal attention with the split and merge of its heads; keys may have fewer heads than queries.

    Like Attention, the operator fails where there is no sequence or no token at all.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + causal); y = merge(MatMul(p, heads(v)))
    after:   y, _, _ = com.microsoft.GroupQueryAttention(q, k, v, past_keys, past_values, length - 1, length)
    """
    cached = m.has("k_all")
    split = m[HEADS]
    outputs = op.node(
        "GroupQueryAttention",
        [m.q, m.k, m.v, *((m.k_past, m.v_past) if cached else (None, None)), *_length_inputs(m, op)],
        outputs=3,  # the kernel writes all of them
        domain=CONTRIB,
        version=1,
        attributes={"num_heads": split.heads, "kv_num_heads": split.kv_heads, "scale": patterns.factor(m)},
    )
    return patterns.replace_results(m, op, outputs if cached else outputs[:1])
