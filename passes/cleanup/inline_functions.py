"""Functions of the model are inlined: exporters use them for structure, and rewriting stops at a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext, where
from ..pipeline.registry import register


@register
@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Put the bodies of the model's functions in place of their calls.

    A function that was written for another version of an operator, in the sense that the operator's definition
    differs, stays a call; so do one that calls itself, and those that would make the graph absurdly large.

    before:  y = my.Twice(x)        my.Twice (a) => (b) { b = Add(a, a) }
    after:   y = Add(x, x)
    """

    name: ClassVar[str] = "inline-functions"

    def run(self, model: ir.Model, context: PassContext) -> None:
        ready = ir.inlinable_functions(model)
        pending = [node for node in model.graph.all_nodes() if node.op_identifier() in ready]
        while pending:
            node = pending.pop()
            name = "::".join(node.op_identifier()[:2])
            if not context.log.try_rewrite(self.name, where(node), name, "the function's body"):
                continue
            function = model.functions[node.op_identifier()]
            for inner in ir.inline_call(context.rewriter, node, function):
                if inner.op_identifier() in ready:
                    pending.append(inner)
