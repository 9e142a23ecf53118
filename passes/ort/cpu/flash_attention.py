"""Attention over long sequences by ONNX Runtime's flash attention, which never holds all scores at once."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB

q, k, v = values("q k v")

_QUERIES, _SCORES = 1 << 10, 1 << 21


def _uniform_heads(m: Match) -> int | str:
    """The number of heads, where q, k and v have three dims each, as many heads, and all of one size."""
    heads = m.Attention.integer("q_num_heads")
    widths = {dims[2] if (dims := m[data].dims) is not None and len(dims) == 3 else None for data in (q, k, v)}
    is_uniform = len(widths) == 1 and isinstance(next(iter(widths)), int)
    return heads if 0 < heads == m.Attention.integer("kv_num_heads") and is_uniform else _show(m)


HEADS = let("queries, keys and values of three dims and equal heads", _uniform_heads)


def _is_long(m: Match) -> bool:
    (batch, queries, _), (_, keys, _) = ((m[data].dims or (None,) * 3) for data in (q, k))
    if not isinstance(queries, int) or not isinstance(keys, int):
        return False
    samples = batch if isinstance(batch, int) else 1
    return queries >= _QUERIES and samples * m[HEADS] * queries * keys > _SCORES


def _show(m: Match) -> str:
    return ", ".join(f"{data.name} {m.shapes.show(m[data].value)}" for data in (q, k, v))


@rule(
    op.Attention(q, k, v).any_attributes("q_num_heads", "kv_num_heads", "scale"),
    requires=[
        require(
            "float32", lambda m: m.q.dtype == m.k.dtype == m.v.dtype == ir.DataType.FLOAT, lambda m: str(m.q.dtype)
        ),
        HEADS,
        # the contrib operator takes a scale of 0 for none
        require("a scale other than 0", lambda m: m.Attention.attribute("scale") != 0, lambda m: "scale 0"),
        profitable("1,024 queries, and more than 8 MiB of scores", _is_long, _show),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "Dao et al. 2022, arXiv:2205.14135, as in contrib_ops/cpu/bert/multihead_attention.cc of ONNX Runtime, without "
        "a mask alone: pays where the scores of all heads outgrow the cache. 1,024 queries and keys x0.86 to x0.91 in "
        "one head of 4 or 8, x0.86 to x1.26 in two, x1.0 to x1.3 in three or four of 4 to 128; 1,536 in one x1.2 to "
        "x1.7; 4,096 x1.2 to x1.8; 512 x1.03, 256 x0.95; 16 queries of 65,536 keys x0.84"
    ),
)
def attention_to_flash_mha(m: Match, op: Builder) -> ir.Value:
    """Compute the softmax by blocks of keys, while they are in the cache.

    before:  y = Attention<q_num_heads, kv_num_heads>(q, k, v)      q: float[b, 4096, h * d]
    after:   y = com.microsoft.MultiHeadAttention<num_heads>(q, k, v)
    """
    attributes: dict[str, int | float] = {"num_heads": m[HEADS]}
    if m.Attention.attribute("scale") is not None:
        attributes["scale"] = m.Attention.number("scale")
    return op.node("MultiHeadAttention", [m.q, m.k, m.v], domain=CONTRIB, version=1, attributes=attributes)[0]
