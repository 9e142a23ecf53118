"""Causal attention as com.microsoft.GroupQueryAttention, whose CUDA kernels need no mask, heads shared or not."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.matcher import match_node
from ...rewriting.pattern import Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES
from ...targets.kernel_table import CONTRIB
from ..attention import fuse_sdpa as sdpa
from ..attention.block import Term
from ..attention.fuse_sdpa import ATTENTION

LARGEST_HEAD = 256  # flash attention's

(low,) = values("low")

_WHERE_CAUSAL = op.Where(op.Equal(op.Trilu(op.Expand(1.0, Var("dims")), upper=0), 0.0), low, 0.0)
"""The causal mask as torch writes `is_causal=True` for a symbolic length."""

_ELEMENT_TYPE = let(
    "float16 or bfloat16",
    lambda m: m.v.dtype if m.v.dtype in FLOAT16_TYPES else str(m.v.dtype),
)


def _masks_all(m: Match, content: ir.Array) -> bool:
    """Whether all elements are -inf, or the lowest number, as exporters write it, so that no score remains."""
    return bool(np.all(content.astype(np.float64) <= float(m[_ELEMENT_TYPE].min)))


def _is_causal(m: Match) -> bool:
    """Whether the mask is proven to hide from each query the keys after it, the last query being at the last key."""
    (*_, queries, keys), terms = m[ATTENTION].dims, m[ATTENTION].terms
    if m[ATTENTION].sink is not None or len(terms) != 1 or terms[0].factor != 1 or terms[0].dims[2:] != (queries, keys):
        return False
    (term,) = terms
    hidden = _hidden_above_diagonal(m, term, queries, keys)
    return hidden is not None and _masks_all(m, hidden)


def _hidden_above_diagonal(m: Match, term: Term, queries: Dim, keys: Dim) -> ir.Array | None:
    """What the mask adds above the diagonal, where it adds nothing elsewhere."""
    content = ir.constant(term.value)
    if content is not None and isinstance(queries, int) and isinstance(keys, int) and term.low is None:
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        return None if np.any(content[..., seen]) else content[..., ~seen]
    producer = term.value.producer()
    bindings = None if producer is None or queries != keys else next(match_node(_WHERE_CAUSAL, producer), None)
    hidden = None if bindings is None or (bound := bindings["low"]) is None else ir.constant(bound.value)
    return hidden if hidden is not None and hidden.size == 1 else None


def _has_uniform_heads(m: Match) -> bool:
    """Whether all heads have one size that the kernel takes; the operator has no other size for values."""
    size, value_size = m[ATTENTION].sizes
    return size == value_size and size % 8 == 0 and size <= LARGEST_HEAD


def _is_one_call(m: Match) -> bool:
    """As many new keys as queries; behind a cache one sequence alone, or one token of each."""
    block, cache = m[ATTENTION], m[sdpa.MERGED_OPERANDS].cache
    batch, _, queries, keys = block.dims
    if cache is None:
        return queries == keys
    return isinstance(keys, int) and cache.k.dims[2] == queries and 1 in (batch, queries)


def _show_lengths(m: Match) -> str:
    batch, _, queries, keys = m[ATTENTION].dims
    return f"{queries} queries of {keys} keys in {batch} sequences"


def _length_inputs(m: Match, op: Builder, queries: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The index of each sequence's last key, and the number of keys: they are the same for all sequences."""
    batch, _, _, keys = m[ATTENTION].dims
    one = np.array([1], dtype=np.int32)
    total = (
        op.constant(one * keys)
        if isinstance(keys, int)
        else op.Cast(op.Shape(queries, start=1, end=2), to=ir.DataType.INT32.value)
    )
    if isinstance(keys, int) and isinstance(batch, int):
        return op.constant(np.full(batch, keys - 1, dtype=np.int32)), total
    return op.Expand(op.Sub(total, op.constant(one)), op.Shape(queries, start=0, end=1)), total


@rule(
    sdpa.PRODUCT,
    requires=[
        sdpa.SOFTMAX,
        _ELEMENT_TYPE,
        ATTENTION,
        require(
            f"heads of one size, a multiple of 8 up to {LARGEST_HEAD}",
            _has_uniform_heads,
            lambda m: "sizes {} and {}".format(*m[ATTENTION].sizes),
        ),
        sdpa.MERGED_OPERANDS,
        require(
            "a mask that is proven causal, and no other addend",
            _is_causal,
            lambda m: ", ".join(m.shapes.show(term.value) for term in m[ATTENTION].terms) or "no mask",
        ),
        require(
            "as many new keys as queries, behind a cache of known length one sequence or one token",
            _is_one_call,
            _show_lengths,
        ),
        sdpa.NO_SOFTCAP,
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
    """Fuse causal attention; keys may have fewer heads than queries.

    Like Attention, the operator fails where there is no sequence or no token at all.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + causal); y = MatMul(p, heads(v))
    after:   y, _, _ = com.microsoft.GroupQueryAttention(q, k, v, past_keys, past_values, length - 1, length)
    """
    block, operands = m[ATTENTION], m[sdpa.MERGED_OPERANDS]
    q, k, v = operands.build(op)
    heads, kv_heads = block.counts
    outputs = op.node(
        "GroupQueryAttention",
        [q, k, v, *(operands.past or (None, None)), *_length_inputs(m, op, q)],
        outputs=3,  # the kernel writes all of them
        domain=CONTRIB,
        version=1,
        attributes={"num_heads": heads, "kv_num_heads": kv_heads, "scale": block.scale},
    )
    return sdpa.replace_results(m, op, outputs, operands)
