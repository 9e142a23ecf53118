"""Fold splitting, merging and repeating of heads into Attention and RotaryEmbedding."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Condition, Let, Match
from ...rewriting.pattern import Call, Var, op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES

q, k, v, mask, past_k, past_v, x, cos, sin, positions, heads_k, heads_v = values(
    "q k v mask past_k past_v x cos sin positions heads_k heads_v"
)

OPSETS = (23, 24)
"""The opsets whose definition these rules know; later ones may have other inputs."""


def split_heads(data: Var) -> Call:
    """[batch, length, heads * size] -> [batch, length, heads, size]."""
    return op.Reshape(data, Var(f"{data.name}_dims")).any_attributes("allowzero").named(f"{data.name}_split")


def heads(data: Var) -> Call:
    """[batch, length, heads * size] -> [batch, heads, length, size]."""
    return op.Transpose(split_heads(data), perm=(0, 2, 1, 3)).named(f"{data.name}_heads")


def _head_counts(*operands: Var) -> Let[tuple[int, ...]]:
    """The numbers of heads that the last dims of `operands` are split into, by Reshapes that do nothing else."""

    def compute(m: Match) -> tuple[int, ...] | str:
        counts = []
        for operand in operands:
            split = m.operand(f"{operand.name}_split")
            whole, parts = m[operand].dims, split.dims
            if whole is None or parts is None or len(whole) != 3 or len(parts) != 4 or whole[:2] != parts[:2]:
                return m.shapes.show(split.value)
            if not isinstance(parts[2], int) or not isinstance(parts[3], int):
                return m.shapes.show(split.value)
            counts.append(parts[2])
        return tuple(counts)

    return let("heads that split the last dim", compute)


def _merges_heads(m: Match) -> bool:
    """Whether the root reshapes [batch, length, heads, size] to [batch, length, heads * size]."""
    transposed, result = m.transposed.dims, m.shapes.dims(m.root.outputs[0])
    if transposed is None or result is None or len(transposed) != 4 or len(result) != 3:
        return False
    return result == (*transposed[:2], transposed[2] * transposed[3])


def _other_user(m: Match) -> str | None:
    """A use of the result of the Attention besides the Transpose, or of a cache in the graph."""
    value, *caches = m.inner.node.outputs
    if value.is_graph_output() or set(value.consumers()) != {m.transposed.node}:
        return f"{value.name!r} has other users"
    used = [*(cache for cache in caches if cache.uses()), *(extra for extra in caches[2:] if ir.is_read(extra))]
    return f"{used[0].name!r} has users" if used else None


_INNER = (
    op.Attention(heads(q), heads(k), heads(v), mask.optional(), past_k.optional(), past_v.optional())
    .any_attributes()
    .opset(*OPSETS)
    .shared()
    .named("inner")
)
_qkv_heads, _x_heads = _head_counts(q, k, v), _head_counts(x)


@rule(
    op.Reshape(op.Transpose(_INNER, perm=(0, 2, 1, 3)).named("transposed"), Var("dims")).any_attributes("allowzero"),
    requires=[
        _qkv_heads,
        require("heads that are merged again", _merges_heads, lambda m: m.shapes.show(m.root.outputs[0])),
        Condition("a result without other users", _other_user),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Attention-23: inputs of rank 3 have their heads side by side",
)
def attention_4d_to_3d(m: Match, op: Builder) -> ir.Value:
    """Let Attention split and merge the heads itself.

    before:  y = Reshape(Transpose(Attention(heads(q), heads(k), heads(v))), dims)        heads: Transpose(Reshape(…))
    after:   y = Attention<q_num_heads = n, kv_num_heads = n>(q, k, v)
    """
    optional = [operand if operand.present else None for operand in (m.mask, m.past_k, m.past_v)]
    q_heads, kv_heads, _ = m[_qkv_heads]
    inner = m.inner.node
    counts = {"q_num_heads": q_heads, "kv_num_heads": kv_heads}
    outputs = op.node(
        "Attention", [m.q, m.k, m.v, *optional], len(inner.outputs), attributes={**inner.attributes, **counts}
    )
    for old, new in zip(inner.outputs[1:], outputs[1:], strict=True):
        op.replace(old, new)
    return outputs[0]


@rule(
    op.RotaryEmbedding(heads(x), cos, sin, positions.optional()).any_attributes().opset(*OPSETS).named("inner"),
    requires=[_x_heads],
    exactness=Exactness.ROUNDING,
    source="ONNX RotaryEmbedding-23: an input of rank 3 has its heads side by side",
)
def rotary_embedding_4d_to_3d(m: Match, op: Builder) -> ir.Value:
    """Rotate before the heads are split, which the user of the result may then do itself.

    before:  y = RotaryEmbedding(Transpose<perm = [0, 2, 1, 3]>(Reshape(x, dims)), cos, sin)
    after:   y = Transpose<perm = [0, 2, 1, 3]>(Reshape(RotaryEmbedding<num_heads = n>(x, cos, sin), dims))
    """
    (num_heads,) = m[_x_heads]
    positions = m.positions if m.positions.present else None
    rotated = op.RotaryEmbedding(m.x, m.cos, m.sin, positions, **{**m.inner.attributes, "num_heads": num_heads})
    return op.Transpose(op.Reshape(rotated, m.x_dims, **m.x_split.attributes), perm=[0, 2, 1, 3])


def _repeats_heads(m: Match) -> bool:
    """Whether each head of keys and of values is gathered the same number of times in a row."""
    for heads_of, indices in ((m.k, m.heads_k.array), (m.v, m.heads_v.array)):
        dims = heads_of.dims
        count = None if dims is None or len(dims) != 4 else dims[1]
        if not isinstance(count, int) or indices.ndim != 1 or not count or indices.size % count:
            return False
        if not np.array_equal(indices, np.repeat(np.arange(count), indices.size // count)):
            return False
    return bool(m.heads_k.array.size == m.heads_v.array.size)


def _has_gqa_kernel(m: Match) -> bool:
    """ONNX Runtime's fused kernels on CUDA share heads in 16 bits and without a mask: else repeated ones are faster."""
    settings = m.context.settings
    is_fp16 = m.q.dtype in FLOAT16_TYPES or (settings.fp16 and m.q.dtype == ir.DataType.FLOAT)
    return not settings.target.is_cuda or (is_fp16 and not m.mask.present)


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
        require("queries of rank 4", lambda m: m.q.rank == 4, lambda m: m.shapes.show(m.q.value)),
        require("heads that are repeated alike", _repeats_heads, lambda m: m.shapes.show(m.k.value)),
        require(
            "a kernel that shares heads, on CUDA",
            _has_gqa_kernel,
            lambda m: f"{m.q.dtype}, {'with' if m.mask.present else 'without'} a mask",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Attention-23: grouped queries share keys and values where there are fewer heads of them",
)
def attention_repeat_kv_to_gqa(m: Match, op: Builder) -> ir.Value:
    """Let Attention share keys and values among the queries of a group (grouped-query attention).

    before:  y = Attention(q, Gather<axis = 1>(k, %[0, 0, 1, 1]), Gather<axis = 1>(v, %[0, 0, 1, 1]))
    after:   y = Attention(q, k, v)        q: [b, 4, s, d], k: [b, 2, s, d], v: [b, 2, s, d]
    """
    return op.Attention(m.q, m.k, m.v, m.mask if m.mask.present else None, **m.inner.attributes)
