"""Attention as com.microsoft.MultiHeadAttention, on either provider, for models whose opset stays below 23."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Condition, Match
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB
from . import patterns


def _why_not_fused(m: Match) -> str | None:
    call = patterns.split_heads_call(m)
    why = call.why_not_fused_as_contrib() if m.context.settings.target.is_cuda else call.why_not_uniform()
    return why or None


@rule(
    patterns.SPLIT_HEADS_ATTENTION,
    requires=[
        *patterns.fuse_attention_3d.requires,
        require("no guard against rows of NaN", lambda m: not m.has("zero"), lambda m: "Where(IsNaN(…))"),
        Condition("a kernel that fuses MultiHeadAttention", _why_not_fused, functions=(_why_not_fused,)),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "com.microsoft.MultiHeadAttention (ContribOperators.md), with the mask as attention_bias: a padding mask of "
        "two dims would leave the fused kernels; what it gives for a row of -inf alone is not specified. On the CPU "
        "with 1.31.1, 12 heads of 64 with a mask, one thread: 8 queries x1.14, 64 x1.05, 128 x1.02, 256 x1.06, "
        "512 x1.09, 1,024 x1.34"
    ),
    phase=Phase.CONTRIB_ATTENTION,
)
def fuse_mha_cuda(m: Match, op: Builder) -> ir.Value:
    """Fuse attention over split heads into ONNX Runtime's own operator.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + mask); y = merge(MatMul(p, heads(v)))
    after:   y, _, _ = com.microsoft.MultiHeadAttention(q, k, v, , , mask, past_keys, past_values)
    """
    cached = m.has("k_all")
    bias = patterns.mask_for_all_queries(m, op, axis=1)
    if bias is not None and all(operand.rank == 2 for operand in patterns.added(m)):
        bias = op.Unsqueeze(bias, axes=[0, 1])
    outputs = op.node(
        "MultiHeadAttention",
        [m.q, m.k, m.v, None, None, bias, *((m.k_past, m.v_past) if cached else ())],
        outputs=3 if cached else 1,
        domain=CONTRIB,
        version=1,
        attributes={"num_heads": m[patterns.HEADS].heads, "scale": patterns.factor(m)},
    )
    return patterns.replace_results(m, op, outputs)
