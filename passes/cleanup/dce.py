"""Dead code elimination: remove nodes without users or side effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext, spell, where
from ..registry import register


@register
@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """Remove unused nodes, initializers, functions, optional outputs and opset imports.

    Random operators may go too: ONNX gives them no state that another node could see. Unknown operators stay.

    before:  y = Relu(x); z = Exp(x); d, mask = Dropout(y)      outputs: d
    after:   y = Relu(x); d = Dropout(y)                        outputs: d
    """

    name: ClassVar[str] = "dce"

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        roots = [model.graph, *(function.graph for function in model.functions.values())]
        for root in roots:
            _sweep(root, context, functions)
        for graph in ir.graphs(model):
            for value in list(graph.initializers.values()):
                if not ir.is_read(value) and not ir.is_public(value):
                    _erase_initializer(value, context)
        for identifier in _uncalled(model):
            name = "::".join(identifier[:2])
            if context.log.try_rewrite(self.name, name, "function", "nothing"):
                context.rewriter.erase_function(identifier)
        for domain in _unused_imports(model):
            if context.log.try_rewrite(self.name, domain, "opset import", "nothing"):
                context.rewriter.drop_import(domain)


def _sweep(root: ir.Graph, context: PassContext, functions: frozenset[ir.OperatorIdentifier]) -> None:
    """Visit users before producers, and the bodies of a node that stays before the nodes above it."""
    pending = [iter(reversed(list(root)))]
    while pending:
        node = next(pending[-1], None)
        if node is None:
            pending.pop()
            continue
        if not any(ir.is_read(value) for value in node.outputs) and ir.is_removable(node, functions):
            if context.log.try_rewrite(DeadCodeElimination.name, where(node), spell([node]), "nothing"):
                context.rewriter.erase(node)
            continue
        if node.op_identifier() not in functions:
            _trim(node, context)
        # A body is swept before the nodes above its owner: what it captures may become unread.
        pending.extend(iter(reversed(list(body))) for body in ir.subgraphs_of(node))


def _trim(node: ir.Node, context: PassContext) -> None:
    if len(node.outputs) <= 1 or _depends_on_outputs(node):
        return
    keep = len(node.outputs)
    while keep > 1 and not ir.is_read(node.outputs[keep - 1]) and ir.is_optional_output(node, keep - 1):
        keep -= 1
    between = [
        value
        for index, value in enumerate(node.outputs[:keep])
        if value.name and not ir.is_read(value) and ir.is_optional_output(node, index)
    ]
    unused = len(node.outputs) - keep + len(between)
    if not unused:
        return
    before = f"{spell([node])} with {unused} unread outputs"
    if context.log.try_rewrite(DeadCodeElimination.name, where(node), before, spell([node])):
        context.rewriter.trim_outputs(node, keep)
        for value in between:
            context.rewriter.omit_output(value)


def _depends_on_outputs(node: ir.Node) -> bool:
    """Whether the semantics depend on the number of outputs: BatchNormalization below opset 14 trains by it.

    ONNX Runtime rejects an Attention with a cache as input but not as output.
    """
    has_cache = node.op_type == "Attention" and len(node.inputs) > 4 and node.inputs[4] is not None
    return node.domain == "" and (node.op_type == "BatchNormalization" or has_cache)


def _erase_initializer(value: ir.Value, context: PassContext) -> None:
    if context.log.try_rewrite(DeadCodeElimination.name, value.name or "", "initializer", "nothing"):
        context.rewriter.erase_initializer(value)


def _uncalled(model: ir.Model) -> list[ir.OperatorIdentifier]:
    """The functions that are not called from the main graph, directly or indirectly."""
    reached: set[ir.OperatorIdentifier] = set()
    pending = [model.graph]
    while pending:
        for node in pending.pop().all_nodes():
            called = node.op_identifier()
            if called in model.functions and called not in reached:
                reached.add(called)
                pending.append(model.functions[called].graph)
    return [identifier for identifier in model.functions if identifier not in reached]


def _unused_imports(model: ir.Model) -> list[str]:
    """The imported domains, besides the standard one, without a node in the model."""
    used = {"", "ai.onnx"}
    used.update(
        node.domain
        for root in (model.graph, *(each.graph for each in model.functions.values()))
        for node in root.all_nodes()
    )
    return [domain for domain in model.opset_imports if domain not in used]
