"""The cache of keys and values that an attention block continues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from .... import ir
from ...analyses import Shapes
from ...analyses.nonzero_dims import dims_unless_empty
from ...views.node_view import chain
from .block import Attention, Heads


@dataclass(frozen=True)
class Cache:
    """Keys and values of earlier calls [batch, heads, length, size], and those of this call."""

    past_k: ir.Value
    past_v: ir.Value
    all_k: ir.Value
    all_v: ir.Value
    k: Heads
    v: Heads


def cache_of(block: Attention, shapes: Shapes) -> Cache | None:
    """The cache that keys and values are concatenated to; None where there is none, or others use the whole.

    Outputs of the graph may: they become outputs of the attention.
    """
    parts = []
    dims_of = partial(dims_unless_empty, shapes)
    for heads in (block.k, block.v):
        joined = next((value for value, view in heads.sources if view.is_identity and _joins(value)), None)
        node = None if joined is None else joined.producer()
        if joined is None or node is None or set(joined.consumers()) - set(block.nodes):
            return None
        past, new = node.inputs
        if past is None or new is None:
            return None
        before, after = dims_of(past), dims_of(new)
        if before is None or after is None or before[:2] != after[:2] or before[3] != after[3]:
            return None
        parts.append((past, joined, Heads(tuple(chain(new, shapes, dims_of)))))
    (past_k, all_k, k), (past_v, all_v, v) = parts
    return Cache(past_k, past_v, all_k, all_v, k, v) if k.dims[:3] == v.dims[:3] else None


def _joins(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Concat" or node.domain or len(node.inputs) != 2:
        return False
    return ir.attribute(node, "axis") in (2, -2)
