"""Move weights into the only body of control flow that uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from .... import ir
from ...pipeline.pass_ import Pass, PassContext
from ...registry import register

_PREPACKED: Final = frozenset(
    "Attention ConvTranspose DynamicQuantizeLSTM DynamicQuantizeMatMul GRU Gemm LSTM MatMul MatMulInteger "
    "MatMulIntegerToFloat MatMulNBits QAttention QLinearConv QLinearMatMul".split()
)
"""Operators whose kernels in ONNX Runtime repack a constant when a session is created."""

_LARGEST: Final = 1 << 26
"""Bytes of a weight that moves: larger ones are stored externally, which not every runtime supports in bodies."""


@register
@dataclass(frozen=True)
class SinkInitializers(Pass):
    """Move a weight whose users are all in one body of a Loop, Scan or If into that body.

    ONNX Runtime releases a weight once all of its users have repacked it, and feeds an empty value to the bodies that
    capture it. A body that is fed something other than a tensor runs without its memory pattern: every intermediate
    result is allocated anew (onnxruntime/core/framework/execution_frame.cc). With the weight in the body nothing is
    captured: x1.19 for a Loop of 20 operators, an LSTM of width 32 with a mask.

    before:  <float[8,8] w> y = Loop(n, , x) <body = (i, c, v) -> (c, u) { u = MatMul(v, w) }>
    after:   y = Loop(n, , x) <body = (i, c, v) -> (c, u) <float[8,8] w> { u = MatMul(v, w) }>
    """

    name: ClassVar[str] = "sink-initializers"

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Move the initializers of every graph of `model`."""
        if not context.settings.target.is_onnxruntime:
            return
        owners = ir.owners_in(ir.nodes(model))
        if not owners:
            return
        for graph in list(ir.graphs(model)):
            for value in list(graph.initializers.values()):
                body = _innermost_graph(value, graph, owners)
                if body is None or body is graph:
                    continue
                owner = owners[body]
                if context.log.try_rewrite(self.name, value.name or "", "initializer", f"in a body of {owner.op_type}"):
                    context.rewriter.move_initializer(value, body)


def _innermost_graph(value: ir.Value, graph: ir.Graph, owners: dict[ir.Graph, ir.Node]) -> ir.Graph | None:
    """The innermost graph with all users of a weight that is repacked; None where the weight does not move."""
    tensor, users = ir.constant_tensor(value), [user for user, _ in value.uses()]
    if tensor is None or tensor.nbytes > _LARGEST or ir.is_public(value):
        return None
    if not any(user.op_type in _PREPACKED for user in users) or any(user.graph is graph for user in users):
        return None
    paths = [[*ir.graphs_around(user, owners)][::-1] for user in users]
    common = None
    for graphs in zip(*paths, strict=False):
        if any(other is not graphs[0] for other in graphs):
            break
        common = graphs[0]
    return common
