"""Attention and RotaryEmbedding split and merge heads by themselves, and share keys among queries by themselves."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.pattern import Call, Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES

q, k, v, mask, past_k, past_v, x, cos, sin, positions, heads_k, heads_v = values(
    "q k v mask past_k past_v x cos sin positions heads_k heads_v"
)

OPSETS = (23, 24)
"""The opsets whose definition is meant here; later ones may take other inputs."""


def split_heads(data: Var) -> Call:
    """[batch, length, heads * size] -> [batch, length, heads, size]."""
    return op.Reshape(data, Var(f"{data.name}_dims")).any_attributes("allowzero").named(f"{data.name}_split")


def heads(data: Var) -> Call:
    """[batch, length, heads * size] -> [batch, heads, length, size]."""
    return op.Transpose(split_heads(data), perm=(0, 2, 1, 3)).named(f"{data.name}_heads")


def _number_of_heads(m: Match, name: str) -> int | None:
    """How many heads the last dim is parted into, where a Reshape does that and nothing else."""
    whole, parts = getattr(m, name).dims, getattr(m, f"{name}_split").dims
    if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
        return None
    count = parts[2]
    return count if isinstance(count, int) and isinstance(parts[3], int) else None


def _merges(m: Match) -> bool:
    """Whether the heads are put side by side again, and nothing else."""
    turned, result = m.turned.dims, m.shapes.dims(m.root.outputs[0])
    if turned is None or result is None or len(turned) != 4 or len(result) != 3:
        return False
    return result == (*turned[:2], turned[2] * turned[3])


def _heads_alone(m: Match) -> bool:
    """Whether nobody else reads the result of the attention, and its caches go to the caller alone."""
    value, *caches = m.inner.node.outputs
    if value.is_graph_output() or set(value.consumers()) != {m.turned.node}:
        return False
    return not any(cache.uses() for cache in caches) and not any(ir.is_read(extra) for extra in caches[2:])


_INNER = (
    op.Attention(heads(q), heads(k), heads(v), mask.optional(), past_k.optional(), past_v.optional())
    .any_attributes()
    .opset(*OPSETS)
    .shared()
    .named("inner")
)


@rule(
    op.Reshape(op.Transpose(_INNER, perm=(0, 2, 1, 3)).named("turned"), Var("dims")).any_attributes("allowzero"),
    requires=[
        require(
            "heads that part the last dim",
            lambda m: all(_number_of_heads(m, name) is not None for name in "qkv"),
            lambda m: ", ".join(m.shapes.show(getattr(m, f"{name}_split").value) for name in "qkv"),
        ),
        require("heads that are merged again", _merges, lambda m: m.shapes.show(m.root.outputs[0])),
        require("a result that nobody else reads", _heads_alone),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Attention-23: inputs of rank 3 have their heads side by side",
)
def attention_4d_to_3d(m: Match, op: Builder) -> ir.Value:
    """Let the operator split the heads and merge them again.

    before:  q, k, v -> Reshape, Transpose -> Attention -> Transpose, Reshape -> y
    after:   q, k, v -> Attention<q_num_heads, kv_num_heads> -> y
    """
    optional = [operand if (operand := getattr(m, name)).present else None for name in ("mask", "past_k", "past_v")]
    counts = {"q_num_heads": _number_of_heads(m, "q"), "kv_num_heads": _number_of_heads(m, "k")}
    inner = m.inner.node
    made = op.node(
        "Attention", [m.q, m.k, m.v, *optional], len(inner.outputs), attributes={**inner.attributes, **counts}
    )
    for old, new in zip(inner.outputs[1:], made[1:], strict=True):
        op.replace(old, new)
    return made[0]


@rule(
    op.RotaryEmbedding(heads(x), cos, sin, positions.optional()).any_attributes().opset(*OPSETS).named("inner"),
    requires=[
        require(
            "heads that part the last dim",
            lambda m: _number_of_heads(m, "x") is not None,
            lambda m: m.shapes.show(m.x_split.value),
        )
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX RotaryEmbedding-23: an input of rank 3 has its heads side by side",
)
def rotary_embedding_4d_to_3d(m: Match, op: Builder) -> ir.Value:
    """Rotate before the heads are split, where the operator that follows may split them itself.

    before:  x -> Reshape, Transpose -> RotaryEmbedding -> y
    after:   x -> RotaryEmbedding<num_heads> -> Reshape, Transpose -> y
    """
    given = {**m.inner.attributes, "num_heads": _number_of_heads(m, "x")}
    turned = op.RotaryEmbedding(m.x, m.cos, m.sin, m.positions if m.positions.present else None, **given)
    return op.Transpose(op.Reshape(turned, m.x_dims, **m.x_split.attributes), perm=[0, 2, 1, 3])


def _each_repeated(m: Match) -> bool:
    """Whether each head of keys and of values is picked as often as the others, one after another."""
    for name in "kv":
        dims, picked = getattr(m, name).dims, getattr(m, f"heads_{name}").array
        count = None if dims is None or len(dims) != 4 else dims[1]
        if not isinstance(count, int) or picked.ndim != 1 or not count or picked.size % count:
            return False
        if not np.array_equal(picked, np.repeat(np.arange(count), picked.size // count)):
            return False
    return bool(m.heads_k.array.size == m.heads_v.array.size)


def _shares_heads(m: Match) -> bool:
    """ONNX Runtime's fused kernels on CUDA share heads in 16 bits and without a mask: else repeated ones are faster."""
    settings = m.context.settings
    in_half = m.q.dtype in FLOAT16_TYPES or (settings.fp16 and m.q.dtype == ir.DataType.FLOAT)
    return not settings.target.is_cuda or (in_half and not m.mask.present)


@rule(
    op.Attention(
        q,
        op.Gather(k, heads_k, axis=1).named("keys"),
        op.Gather(v, heads_v, axis=1).named("values"),
        mask.optional(),
    )
    .any_attributes()
    .opset(*OPSETS)
    .named("inner"),
    requires=[
        constant("heads_k", "heads_v"),
        require("queries of rank 4", lambda m: m.q.rank == 4),
        require("heads that are repeated alike", _each_repeated, lambda m: m.shapes.show(m.k.value)),
        require("a kernel that shares heads, on CUDA", _shares_heads, lambda m: str(m.q.dtype)),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Attention-23: grouped queries share keys and values where there are fewer heads of them",
)
def attention_repeat_kv_to_gqa(m: Match, op: Builder) -> ir.Value:
    """Let the operator share keys and values among the queries of a group.

    before:  k[b, 2, s, d], v[b, 2, s, d] -> Gather([0, 0, 1, 1], axis 1) -> Attention(q[b, 4, s, d], …) -> y
    after:   k, v -> Attention(q, …) -> y
    """
    return op.Attention(m.q, m.k, m.v, m.mask if m.mask.present else None, **m.inner.attributes)
