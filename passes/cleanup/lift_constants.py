"""Turn Constant nodes into initializers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext, where
from ..registry import register


@register
@dataclass(frozen=True)
class LiftConstants(Pass):
    """Turn Constant nodes into initializers where the graph can have them (the body of a function cannot).

    before:  c = Constant<value = …>(); y = Add(x, c)
    after:   y = Add(x, %c)
    """

    name: ClassVar[str] = "lift-constants"

    def run(self, model: ir.Model, context: PassContext) -> None:
        bodies = {function.graph for function in model.functions.values()}
        for graph in ir.graphs(model):
            if graph in bodies:
                continue
            for node in graph:
                if node.op_type != "Constant":
                    continue
                tensor = ir.constant_tensor(node.outputs[0])
                if tensor is None or node.outputs[0].is_graph_output():
                    continue
                if context.log.try_rewrite(self.name, where(node), "Constant", "initializer"):
                    value = context.rewriter.constant(tensor, near=node, name=node.outputs[0].name or "constant")
                    context.rewriter.replace(node, [value])
