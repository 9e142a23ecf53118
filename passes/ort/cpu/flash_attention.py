"""Attention over long sequences by ONNX Runtime's own operator, which never holds all scores at once."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB

q, k, v = values("q k v")

_QUERIES, _SCORES = 1 << 10, 1 << 20


def _one_kind_of_heads(m: Match) -> bool:
    """Three dims each, as many heads of keys and values as of queries, all of one size."""
    dims = [getattr(m, name).dims for name in "qkv"]
    heads = m.Attention.integer("q_num_heads")
    return (
        heads > 0
        and heads == m.Attention.integer("kv_num_heads")
        and all(each is not None and len(each) == 3 and isinstance(each[2], int) for each in dims)
        and len({each[2] for each in dims}) == 1
    )


def _is_long(m: Match) -> bool:
    queries, keys = ((getattr(m, name).dims or (0, 0))[1] for name in "qk")
    return isinstance(queries, int) and isinstance(keys, int) and queries >= _QUERIES and queries * keys >= _SCORES


def _show(m: Match) -> str:
    return ", ".join(f"{name} {m.shapes.show(getattr(m, name).value)}" for name in "qkv")


@rule(
    op.Attention(q, k, v).any_attributes("q_num_heads", "kv_num_heads", "scale"),
    requires=[
        require(
            "float32", lambda m: m.q.dtype == m.k.dtype == m.v.dtype == ir.DataType.FLOAT, lambda m: str(m.q.dtype)
        ),
        require("queries, keys and values of three dims and as many heads", _one_kind_of_heads, _show),
        # which is as much as none for the contrib operator
        require("no scale of 0", lambda m: m.Attention.attribute("scale") != 0),
        profitable("1,024 queries and a million scores", _is_long, _show),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "Dao et al. 2022, arXiv:2205.14135, as in contrib_ops/cpu/bert/multihead_attention.cc of ONNX Runtime, without "
        "a mask alone: 1,024 queries and keys x1.14 in 4 heads of 16, x1.04 in 12 of 64; 4,096 x1.27 in 8 of 40, "
        "without the 512 MiB of their scores; 512 x1.03, 256 x0.95; 16 queries of 65,536 keys x0.84"
    ),
)
def attention_to_flash_mha(m: Match, op: Builder) -> ir.Value:
    """Softmax by blocks of keys, while they are in the cache.

    before:  q[b, 4096, h * d], k, v -> Attention -> y
    after:   q, k, v -> com.microsoft.MultiHeadAttention -> y
    """
    attributes: dict[str, int | float] = {"num_heads": m.Attention.integer("q_num_heads")}
    if m.Attention.attribute("scale") is not None:
        attributes["scale"] = m.Attention.number("scale")
    return op.node("MultiHeadAttention", [m.q, m.k, m.v], domain=CONTRIB, version=1, attributes=attributes)[0]
