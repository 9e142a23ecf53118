"""What is known about the results of the com.microsoft operators that rules build (ContribOperators.md)."""

from __future__ import annotations

from typing import Final

from .facts import UNKNOWN, Call, Fact

DOMAIN: Final = "com.microsoft"


def contrib_facts(call: Call) -> list[Fact]:
    """The facts about the outputs of one node of `DOMAIN`."""
    facts = [UNKNOWN] * len(call.node.outputs)
    first = call.inputs[0] if call.inputs else None
    if first is None:
        return facts
    match call.node.op_type:
        case "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization":
            facts[0] = Fact(first.dtype, first.dims)
            if len(facts) > 3:
                facts[3] = facts[0]
        case "QuickGelu" | "GroupNorm":
            facts[0] = Fact(first.dtype, first.dims)
        case "GroupQueryAttention":
            facts = [Fact(first.dtype, first.dims), *[Fact(first.dtype)] * (len(facts) - 1)]
        case "MultiHeadAttention":
            values = call.inputs[2] if len(call.inputs) > 2 else None
            known = (first.dims, values.dims if values is not None else None)
            facts[0] = Fact(first.dtype)
            if known[0] is not None and known[1] is not None and len(known[0]) == len(known[1]) == 3:
                facts[0] = Fact(first.dtype, (*known[0][:2], known[1][2]))
            facts[1:] = [Fact(first.dtype)] * (len(facts) - 1)
    return facts
