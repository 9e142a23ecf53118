"""The pass that looks for attention and, where it finds any, raises the opset to the one that has the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..analyses import Shapes
from ..engine.exactness import Exactness
from ..engine.journal import Refusal
from ..engine.pass_ import Pass, PassContext
from ..engine.registry import REGISTRY, register
from ..engine.rewrite import run_rules
from ..engine.rule import Rule

OPSET = 23


@register
@dataclass(frozen=True)
class FuseAttention(Pass):
    """Apply every rule of group `attention`. The model's opset is raised to 23 first, if it is lower and may be.

    It may be where the target is ONNX Runtime, the user asked for no opset, and the oldest ONNX Runtime that must load
    the result has kernels for that opset. Nothing is raised where no rule would fire.

    before:  y = Reshape(Transpose(MatMul(Softmax(Add(MatMul(…), mask)), …)))      opset 17
    after:   y = Attention(q, k, v, mask)                                          opset 23
    """

    name: ClassVar[str] = "fuse-attention"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        rules = [rule for rule in REGISTRY.rules.values() if rule.group == "attention"]
        current = ir.standard_opset(model)
        if current is None or not context.settings.target.startswith("ort-"):
            return
        if current > 24 or (current < OPSET and context.settings.highest_opset < OPSET + 1):
            return  # from 25 on the definition differs, and ONNX Runtime has no kernel
        context.analyses.get(Shapes).refresh(model)
        if not any(_would_fire(rule, node, context) for node in ir.nodes(model) for rule in rules):
            return
        if current < OPSET:
            if not context.journal.permit(self.name, "model", f"opset {current}", f"opset {OPSET}", self.exactness):
                return
            context.rewriter.exchange(ir.convert_opset(model, OPSET))
            context.analyses.invalidate()
        run_rules(rules, model, context, None)


def _would_fire(rule: Rule, node: ir.Node, context: PassContext) -> bool:
    if (node.domain, node.op_type) not in rule.roots or rule.name in context.journal.disabled:
        return False
    found = rule.match(node, context)
    if isinstance(found, Refusal):
        context.journal.refuse(found)
    return bool(found)
