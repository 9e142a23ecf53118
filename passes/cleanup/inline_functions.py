"""Inline the functions of the model: exporters use them for structure, and rules do not match across calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext, where
from ..registry import register


@register
@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Replace calls of the model's functions by their bodies.

    A function that imports an opset in which the definition of one of its operators differs stays a call; so do
    recursive ones, and those that would expand the graph beyond a limit.

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
            inlined = ir.inline_call(context.rewriter, node, function)
            pending.extend(inner for inner in inlined if inner.op_identifier() in ready)
