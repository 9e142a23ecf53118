"""Fold If with a constant condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register


@register
@dataclass(frozen=True)
class FoldConstantIf(Pass):
    """Replace an If with a constant condition by the branch that it takes.

    before:  y = If(%true) <then_branch = { r = Relu(x) }, else_branch = { r = Exp(x) }>
    after:   y = Relu(x)
    """

    name: ClassVar[str] = "fold-constant-if"

    def run(self, model: ir.Model, context: PassContext) -> None:
        for graph in ir.graphs(model):
            for node in graph:
                if node.op_type != "If" or node.domain != "":
                    continue
                taken = ir.scalar(node.inputs[0])
                if taken is None:
                    continue
                name = "then_branch" if taken else "else_branch"
                if context.log.try_rewrite(self.name, where(node), "If", name):
                    branch = node.attributes[name].as_graph()
                    context.rewriter.replace(node, context.rewriter.inline(branch, [], before=node))
