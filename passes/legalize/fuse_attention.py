"""The pass that looks for attention and, where it finds any, raises the opset to the one that has the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..engine.exactness import Exactness
from ..engine.journal import Refusal
from ..engine.pass_ import Pass, PassContext
from ..engine.registry import REGISTRY, register
from ..engine.rewrite import run_rules
from ..engine.rule import Rule
from ..targets.cuda import kernels_lost

OPSET = 23
# Heads that are split and merged around an attention go into it: that is looked for before the attention alone.
STANDARD, CONTRIB = (("attention", "causal-attention"), ("attention-alone",)), (("contrib-attention",),)
ANY_OPSET = ("causal-attention",)


@register
@dataclass(frozen=True)
class FuseAttention(Pass):
    """Apply the rules of the groups `attention` and `attention-alone`; the opset is raised to 23 first, if it may be.

    It may be where the target is ONNX Runtime, the user asked for no opset, and the oldest ONNX Runtime that must load
    the result has kernels for that opset. For target `ort-cuda`, no operator of the model may lose its CUDA kernel by
    it; where the opset stays, the rules of group `contrib-attention` use ONNX Runtime's own operators there, and those
    of group `causal-attention` do at any opset: at once, and again where rotary embedding went before the heads.
    Nothing is raised where no rule would fire.

    before:  y = Reshape(Transpose(MatMul(Softmax(Add(MatMul(…), mask)), …)))      opset 17
    after:   y = Attention(q, k, v, mask)                                          opset 23
    """

    name: ClassVar[str] = "fuse-attention"
    is_choice: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES

    def run(self, model: ir.Model, context: PassContext) -> None:
        current = ir.standard_opset(model)
        if current is None or not context.settings.target.startswith("ort-"):
            return
        run_rules(_rules(ANY_OPSET), model, context, None)
        if current > 24:
            return  # from 25 on the definition differs, and ONNX Runtime has no kernel
        is_standard = current >= OPSET or self._may_raise(model, context)
        if not is_standard and context.settings.target != "ort-cuda":
            return
        groups = [_rules(names) for names in (STANDARD if is_standard else CONTRIB)]
        if not any(_would_fire(rule, node, context) for node in ir.nodes(model) for rules in groups for rule in rules):
            return
        if current < OPSET and is_standard:
            if not context.journal.permit(self.name, "model", f"opset {current}", f"opset {OPSET}", Exactness.ROUNDING):
                return
            context.rewriter.exchange(ir.convert_opset(model, OPSET))
            context.analyses.invalidate()
        for rules in groups:
            run_rules(rules, model, context, None)

    def _may_raise(self, model: ir.Model, context: PassContext) -> bool:
        if context.settings.highest_opset < OPSET + 1:
            return False
        lost = kernels_lost(model, OPSET) if context.settings.target == "ort-cuda" else []
        if lost:
            condition = f"CUDA kernels for every operator at opset {OPSET}"
            context.journal.refuse(Refusal(self.name, "model", condition, f"none for {', '.join(lost)}"))
        return not lost


def _rules(groups: Sequence[str]) -> list[Rule]:
    return [rule for rule in REGISTRY.rules.values() if rule.group in groups]


def _would_fire(rule: Rule, node: ir.Node, context: PassContext) -> bool:
    if (node.domain, node.op_type) not in rule.roots or rule.name in context.journal.without.names:
        return False
    found = rule.match(node, context)
    if isinstance(found, Refusal):
        context.journal.refuse(found)
    return bool(found)
