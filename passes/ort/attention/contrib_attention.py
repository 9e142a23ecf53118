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
from . import fuse_sdpa as sdpa
from .fuse_sdpa import ATTENTION


def _why_not_fused(m: Match) -> str | None:
    if m[ATTENTION].sink is not None:
        return "a score beside those of the keys, measured with Attention alone"
    call = sdpa.attention_call(m)
    why = call.why_not_fused_as_contrib() if m.context.settings.target.is_cuda else call.why_not_uniform()
    return why or None


@rule(
    sdpa.PRODUCT,
    requires=[
        sdpa.SOFTMAX,
        ATTENTION,
        sdpa.ELEMENT_TYPE,
        sdpa.MERGED_OPERANDS,
        sdpa.TERMS,
        require("no guard against rows of NaN", lambda m: not m[ATTENTION].is_guarded, lambda m: "Where(IsNaN(…))"),
        sdpa.NO_SOFTCAP,
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
    """Fuse scaled dot-product attention into ONNX Runtime's own operator.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + mask); y = MatMul(p, heads(v))
    after:   y, _, _ = com.microsoft.MultiHeadAttention(q, k, v, , , mask, past_keys, past_values)
    """
    block, operands = m[ATTENTION], m[sdpa.MERGED_OPERANDS]
    q, k, v = operands.build(op)
    outputs = op.node(
        "MultiHeadAttention",
        [q, k, v, None, None, sdpa.mask_of(m, op, q, k, merged=True, rank=4), *operands.past],
        outputs=1 if operands.cache is None else 3,
        domain=CONTRIB,
        version=1,
        attributes={"num_heads": block.counts[0], "scale": block.scale},
    )
    return sdpa.replace_results(m, op, outputs, operands)
