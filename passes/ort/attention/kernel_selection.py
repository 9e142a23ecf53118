"""Which of the target's kernels would compute an attention that a rule has found."""

from __future__ import annotations

from .... import ir
from ...analyses import Dim
from ...rewriting.match import Match
from ...targets.cuda import FLOAT16_TYPES, AttentionCall


def has_kernel(m: Match) -> bool:
    """Whether the target computes attention in this type: its CPU kernel for float16 converts to float32."""
    return m.q.dtype == ir.DataType.FLOAT or (m.context.settings.target.is_cuda and m.q.dtype in FLOAT16_TYPES)


def call_over(m: Match, head_size: Dim, value_size: Dim, *, grouped: bool = False) -> AttentionCall:
    """What decides about a kernel. Float32 counts as what it will be computed in."""
    dtype, scores = m.q.dtype or ir.DataType.FLOAT, m.scores.dims or ()
    if m.context.settings.fp16 and dtype == ir.DataType.FLOAT:
        dtype = ir.DataType.FLOAT16
    queries, keys = (each if isinstance(each, int) else None for each in scores[-2:])
    assert isinstance(head_size, int) and isinstance(value_size, int)
    return AttentionCall(dtype, head_size, value_size, grouped, m.has("mask"), queries, keys)
