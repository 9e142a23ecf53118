"""Attention over heads [batch, heads, length, size] in the form for which the CUDA provider has fused kernels."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Condition, Match
from ...rewriting.pattern import Call, Pattern, op
from ...rewriting.rule import rule
from ..attention import patterns
from ..attention.kernel_selection import ELEMENT_TYPE, attention_call
from ..attention.patterns import k, mask, more, q, scale, v, zero


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


def _head_sizes(m: Match) -> tuple[int, int] | str:
    """The sizes of a head of q and of v, where batch, heads and lengths of [batch, heads, length, size] agree."""
    fault = patterns.show_inputs(m)
    queries, keys, vals = (patterns.dims_of(m, m[data].value) for data in (q, k, v))
    if queries is None or keys is None or vals is None or {len(queries), len(keys), len(vals)} != {4}:
        return fault
    if m.has("k_across"):
        keys = (keys[0], keys[2], keys[1], keys[3])
    if not queries[:2] == keys[:2] == vals[:2] or queries[3] != keys[3] or keys[2] != vals[2]:
        return fault
    heads, size, value_size = queries[1], queries[3], vals[3]
    if not isinstance(heads, int) or not isinstance(size, int) or not isinstance(value_size, int):
        return fault
    return size, value_size


HEAD_SIZES = let("queries, keys and values of equal heads", _head_sizes)


def _broadcasts_second_mask(m: Match) -> bool:
    """Whether the second mask (T5 has a bias by position and one for padding) broadcasts over the scores, too."""
    if not m.has("more"):
        return True
    dims, scores = patterns.dims_of(m, m.more.value), patterns.dims_of(m, m.scores.value)
    if dims is None or scores is None or len(dims) not in (2, 4) or m.more.dtype != m.scores.dtype:
        return False
    return all(dim in (1, other) for dim, other in zip(dims, scores[-len(dims) :], strict=True))


@rule(
    _core(),
    requires=[
        constant(scale, zero),
        ELEMENT_TYPE,
        patterns.SOFTMAX_OVER_KEYS,
        HEAD_SIZES,
        patterns.POSITIVE_SCALE,
        patterns.BROADCASTING_MASK,
        require(
            "a second mask that broadcasts over the scores",
            _broadcasts_second_mask,
            lambda m: f"mask {m.shapes.show(m.more.value)} on {m.shapes.show(m.scores.value)}",
        ),
        patterns.ZERO_GUARD,
        Condition("a kernel that fuses it", lambda m: attention_call(m, *m[HEAD_SIZES]).why_not_fused() or None),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "ONNX Attention-23 on inputs of four dims: memory efficient or flash attention in ONNX Runtime 1.31 on CUDA, "
        "also over heads that were repeated before (its kernels for grouped heads take no mask, and no float32)"
    ),
    phase=Phase.ATTENTION_ALONE,
)
def fuse_attention_4d_cuda(m: Match, op: Builder) -> ir.Value:
    """Fuse scaled dot-product attention over heads of any origin: repeated, from a cache, of another layout.

    before:  s = MatMul(q, Transpose(k)); p = Softmax(s * scale + mask); y = MatMul(p, v)
    after:   y = Attention(q, k, v, mask)
    """
    keys = op.Transpose(m.k, perm=[0, 2, 1, 3]) if m.has("k_across") else m.k.value
    total = patterns.mask_for_all_queries(m, op, axis=2)
    return op.Attention(m.q, keys, m.v, total, scale=patterns.factor(m))
