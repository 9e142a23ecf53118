"""Residual additions and the normalizations that follow them as one operator of ONNX Runtime, for CUDA."""

from __future__ import annotations

from .... import ir
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB
from .cuda_target import ON_CUDA

x, y, bias = values("x y bias")

# The residual: x + bias + y, where the bias of the linear layer before is an addition of its own.
_SUM = op.Add(op.Add(x, bias).any_order().named("biased"), y).any_order() | op.Add(x, y)

_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_SIMPLIFIED = ("RMSNormalization", "SimplifiedLayerNormalization")


def _normalization(m: Match) -> ir.Node | None:
    """The first normalization of the sum that stands in the same graph and whose statistics nobody reads."""
    for reader in m.root.outputs[0].consumers():
        is_one = reader.op_type in ("LayerNormalization", *_SIMPLIFIED) and reader.domain == ""
        if is_one and reader.inputs[0] is m.root.outputs[0] and reader.graph is m.root.graph:
            return None if any(ir.is_read(value) for value in reader.outputs[1:]) else reader
    return None


def _found(m: Match) -> ir.Node:
    found = _normalization(m)
    assert found is not None
    return found


def _is_last_axis(m: Match) -> bool:
    rank, axis = m.y.rank, ir.attribute(_found(m), "axis")
    return axis == -1 or (rank is not None and axis == rank - 1)


def _is_vector(m: Match, value: ir.Value | None) -> bool:
    """Whether a constant has one number for each element of the last axis."""
    content, dims = ir.constant(value) if value is not None else None, m.y.dims
    return content is not None and dims is not None and content.shape == (dims[-1],)


def _alike(m: Match) -> bool:
    """The same dims wherever neither addend is empty; where one is, the addition has no meaning unless both are."""
    one, other = m.x.dims, m.y.dims
    if one is None or other is None or len(one) not in (2, 3) or m.x.dtype != m.y.dtype:
        return False
    return [unless_empty(dim) for dim in one] == [unless_empty(dim) for dim in other]


def _parameters(m: Match) -> bool:
    return all(_is_vector(m, value) for value in _found(m).inputs[1:]) and (
        not m.has("bias") or _is_vector(m, m.bias.value)
    )


def _pays(m: Match) -> bool:
    """ONNX Runtime fuses by itself what has one reader, but no RMS normalization."""
    return _found(m).op_type in _SIMPLIFIED or len(m.root.outputs[0].uses()) > 1 or m.root.outputs[0].is_graph_output()


@rule(
    _SUM,
    requires=[
        structural("a normalization that reads the result", lambda m: _normalization(m) is not None),
        ON_CUDA,
        require("float32, float16 or bfloat16", lambda m: m.y.dtype in _TYPES, lambda m: str(m.y.dtype)),
        require(
            "addends of the same two or three dims",
            _alike,
            lambda m: f"{m.shapes.show(m.x.value)} and {m.shapes.show(m.y.value)}",
        ),
        require("statistics in float32", lambda m: ir.attribute(_found(m), "stash_type") in (None, 1)),
        require("a normalization over the last axis", _is_last_axis),
        require("constant vectors as its parameters and as bias", _parameters),
        require("a sum that others read, too", _pays),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "com.microsoft.SkipLayerNormalization and SkipSimplifiedLayerNormalization (ContribOperators.md): one kernel "
        "launch on CUDA instead of two or three; ONNX Runtime's fusion wants a sum that is read once "
        "(core/optimizer/skip_layer_norm_fusion.cc)"
    ),
    benefit=1,
)
def fuse_skip_norm_cuda(m: Match, op: Builder) -> ir.Value:
    """Add and normalize in one operator, which gives back the sum, too. On the CPU, its kernel is slower than the two.

    before:  s = Add(x, y); n = LayerNormalization(s, scale, beta); s is read again
    after:   n, _, _, s = com.microsoft.SkipLayerNormalization(x, y, scale, beta)
    """
    old = _found(m)
    is_simplified = old.op_type in _SIMPLIFIED
    beta: list[ir.Value | None] = [] if is_simplified else [old.inputs[2] if len(old.inputs) > 2 else None]
    epsilon = ir.attribute(old, "epsilon")
    assert isinstance(epsilon, float)
    made = op.node(
        "SkipSimplifiedLayerNormalization" if is_simplified else "SkipLayerNormalization",
        [m.x, m.y, old.inputs[1], *beta, *([m.bias] if m.has("bias") else [])],
        outputs=4,
        domain=CONTRIB,
        version=1,
        attributes={"epsilon": epsilon},
        unwanted=(1, 2),
    )
    op.replace(old.outputs[0], made[0])
    return made[3]
