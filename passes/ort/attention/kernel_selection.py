"""The kernel that computes a matched attention on the target."""

from __future__ import annotations

from .... import ir
from ...rewriting.constraints import let
from ...rewriting.match import Match
from ...targets.cuda import FLOAT16_TYPES, AttentionCall


def _element_type(m: Match) -> ir.DataType | str:
    dtype = m.q.dtype
    has_kernel = dtype == ir.DataType.FLOAT or (m.context.settings.target.is_cuda and dtype in FLOAT16_TYPES)
    return dtype if has_kernel and dtype is not None else str(dtype)


ELEMENT_TYPE = let("float32, on CUDA also float16 or bfloat16", _element_type)
"""The type of q, for which the target has a kernel: that of the CPU for float16 converts to float32 and back."""


def attention_call(m: Match, head_size: int, value_size: int, *, grouped: bool = False) -> AttentionCall:
    """The properties that select a kernel; float32 counts as float16 where the model is converted to it at the end."""
    to_fp16 = m.context.settings.fp16 and m[ELEMENT_TYPE] == ir.DataType.FLOAT
    dtype = ir.DataType.FLOAT16 if to_fp16 else m[ELEMENT_TYPE]
    queries, keys = (dim if isinstance(dim, int) else None for dim in (m.scores.dims or ())[-2:])
    return AttentionCall(dtype, head_size, value_size, grouped, m.has("mask"), queries, keys)
