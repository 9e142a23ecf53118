"""Hoist products of the elements of a sequence and a constant matrix out of a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register
from .scan_loops import Walk, walks_of
from .unroll_loops import UnrollLoops


@register
@dataclass(frozen=True)
class HoistLoopMatmul(Pass):
    """Multiply a sequence by a matrix before the Loop that multiplies one element of it in each iteration.

    One large product takes a fraction of many small ones, each of which reads the matrix again: x1.34 for a model of
    tf2onnx with four recurrent layers. Only where the loop is proven to visit every element once.

    before:  y = Loop(n, , h) <body = (i, c, s) -> (c, t) { t = Add(MatMul(Gather(x, i), w), s) }>
    after:   p = MatMul(x, w); y = Loop(n, , h) <body = (i, c, s) -> (c, t) { t = Add(Gather(p, i), s) }>
    """

    name: ClassVar[str] = "hoist-loop-matmul"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        loops = [node for node in model.graph.all_nodes() if node.op_type == "Loop" and node.domain == ""]
        if not loops or context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        for loop in loops:
            if UnrollLoops().trip_count(loop, shapes) is not None:
                continue  # its products then fuse with their additions to Gemm: x0.95 if hoisted
            for walk in list(walks_of(loop, shapes)):
                for node in _products(walk, shapes):
                    after = f"in front of the {loop.op_type}"
                    if context.log.try_rewrite(self.name, where(node), node.op_type, after, self.exactness):
                        _project(node, walk, loop, context)


def _products(walk: Walk, shapes: Shapes) -> list[ir.Node]:
    """The products of the element of an iteration and a matrix from outside."""
    sequence_dims = shapes.dims(walk.sequence)
    products = []
    for node, index in walk.x.uses():
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if index != 0 or weight is None or node.graph is not walk.body or not _is_product(node):
            continue
        dims = shapes.dims(weight)
        outside = weight.graph is not walk.body or weight.is_initializer()
        if not outside or sequence_dims is None or dims is None:
            continue
        if len(dims) == 2 and dims[0] == sequence_dims[2]:
            products.append(node)
    return products


def _is_product(node: ir.Node) -> bool:
    if node.op_type == "Gemm" and node.domain == "":
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        return all(ir.attribute(node, name) == number for name, number in plain.items())
    return node.op_type == "MatMul" and node.domain == ""


def _project(node: ir.Node, walk: Walk, loop: ir.Node, context: PassContext) -> None:
    rewriter, home, picked = context.rewriter, loop.graph, walk.x.producer()
    weight = node.inputs[1]
    assert home is not None and picked is not None and weight is not None
    if weight.graph is walk.body:
        rewriter.move_initializer(weight, home)

    def emit(operator: str, *inputs: ir.Value | None, before: ir.Node) -> ir.Value:
        new = ir.new_node(operator, inputs, version=node.version, provenance=HoistLoopMatmul.name)
        return rewriter.insert(new, before=before).outputs[0]

    projected = emit("MatMul", walk.sequence, weight, before=loop)
    result = emit("Gather", projected, picked.inputs[1], before=node)
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        result = emit("Add", result, node.inputs[2], before=node)
    rewriter.replace(node, [result])
