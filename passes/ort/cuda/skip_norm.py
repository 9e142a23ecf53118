"""Residual additions and the normalizations that follow them as one operator of ONNX Runtime, for CUDA."""

from __future__ import annotations

from .... import ir
from ...analyses.nonzero_dims import unless_empty
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB

x, y, bias = values("x y bias")

# The residual: x + bias + y, where the bias of the linear layer before is an addition of its own.
_SUM = op.Add(op.Add(x, bias).any_order().named("biased"), y).any_order() | op.Add(x, y)

_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_SIMPLIFIED = ("RMSNormalization", "SimplifiedLayerNormalization")


def _first_normalization(m: Match) -> ir.Node | None:
    """The first normalization of the sum in the same graph, if its statistics have no user."""
    result = m.root.outputs[0]
    for user in result.consumers():
        is_normalization = user.op_type in ("LayerNormalization", *_SIMPLIFIED) and user.domain == ""
        if is_normalization and user.inputs[0] is result and user.graph is m.root.graph:
            return None if any(ir.is_read(value) for value in user.outputs[1:]) else user
    return None


NORMALIZATION = let("a normalization of the result", _first_normalization, is_structural=True)


def _is_last_axis(m: Match) -> bool:
    rank, axis = m.y.rank, ir.attribute(m[NORMALIZATION], "axis")
    return axis == -1 or (rank is not None and axis == rank - 1)


def _is_vector(m: Match, value: ir.Value | None) -> bool:
    """Whether a constant has one element for each of the last axis."""
    content, dims = ir.constant(value) if value is not None else None, m.y.dims
    return content is not None and dims is not None and content.shape == (dims[-1],)


def _has_same_dims(m: Match) -> bool:
    """The same dims wherever neither addend is empty; where one is, the addition has no meaning unless both are."""
    left, right = m.x.dims, m.y.dims
    if left is None or right is None or len(left) not in (2, 3) or m.x.dtype != m.y.dtype:
        return False
    return [unless_empty(dim) for dim in left] == [unless_empty(dim) for dim in right]


def _has_vector_parameters(m: Match) -> bool:
    return all(_is_vector(m, value) for value in m[NORMALIZATION].inputs[1:]) and (
        not m.has("bias") or _is_vector(m, m.bias.value)
    )


def _is_not_fused_by_runtime(m: Match) -> bool:
    """Whether the sum has other users, or an RMS normalization: ONNX Runtime fuses the others itself."""
    result = m.root.outputs[0]
    return m[NORMALIZATION].op_type in _SIMPLIFIED or len(result.uses()) > 1 or result.is_graph_output()


@rule(
    _SUM,
    requires=[
        NORMALIZATION,
        require("float32, float16 or bfloat16", lambda m: m.y.dtype in _TYPES, lambda m: str(m.y.dtype)),
        require(
            "addends of the same two or three dims",
            _has_same_dims,
            lambda m: f"{m.shapes.show(m.x.value)} and {m.shapes.show(m.y.value)}",
        ),
        require(
            "statistics in float32",
            lambda m: ir.attribute(m[NORMALIZATION], "stash_type") in (None, 1),
            lambda m: f"stash_type {ir.attribute(m[NORMALIZATION], 'stash_type')}",
        ),
        require(
            "a normalization over the last axis",
            _is_last_axis,
            lambda m: f"axis {ir.attribute(m[NORMALIZATION], 'axis')} of rank {m.y.rank}",
        ),
        require(
            "constant vectors as its parameters and as bias",
            _has_vector_parameters,
            lambda m: ", ".join(m.shapes.show(value) for value in m[NORMALIZATION].inputs[1:] if value is not None),
        ),
        require("a sum with other users", _is_not_fused_by_runtime, lambda m: "the normalization alone"),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "com.microsoft.SkipLayerNormalization and SkipSimplifiedLayerNormalization (ContribOperators.md): one kernel "
        "launch on CUDA instead of two or three; ONNX Runtime's fusion requires a sum with one user "
        "(core/optimizer/skip_layer_norm_fusion.cc)"
    ),
    benefit=1,
)
def fuse_skip_norm_cuda(m: Match, op: Builder) -> ir.Value:
    """Fuse addition and normalization; the operator also returns the sum. On the CPU its kernel is slower than the two.

    before:  s = Add(x, y); n = LayerNormalization(s, scale, beta)
    after:   n, _, _, s = com.microsoft.SkipLayerNormalization(x, y, scale, beta)
    """
    norm = m[NORMALIZATION]
    is_simplified = norm.op_type in _SIMPLIFIED
    beta: list[ir.Value | None] = [] if is_simplified else [norm.inputs[2] if len(norm.inputs) > 2 else None]
    epsilon = ir.attribute(norm, "epsilon")
    outputs = op.node(
        "SkipSimplifiedLayerNormalization" if is_simplified else "SkipLayerNormalization",
        [m.x, m.y, norm.inputs[1], *beta, *([m.bias] if m.has("bias") else [])],
        outputs=4,
        domain=CONTRIB,
        version=1,
        attributes={"epsilon": epsilon if isinstance(epsilon, float) else 1e-5},
        unwanted=(1, 2),
    )
    op.replace(norm.outputs[0], outputs[0])
    return outputs[3]
