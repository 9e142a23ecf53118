"""The pass that looks for attention and, where it finds any, raises the opset to the one that has the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...phases import rules_of, run_rules
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, Settings
from ...pipeline.phase import Phase
from ...pipeline.registry import register
from ...pipeline.rewrite_log import MissedRewrite
from ...rewriting.convert_for_target import Obstacle, convert_for_target
from ...rewriting.rule import Rule
from ...targets.ort_releases import loads_in

OPSET = 23
# Heads that are split and merged around an attention go into it: that is looked for before the attention alone.
STANDARD = ((Phase.ATTENTION, Phase.CAUSAL_ATTENTION), (Phase.ATTENTION_ALONE,))
CONTRIB = ((Phase.CONTRIB_ATTENTION,),)
ANY_OPSET = (Phase.CAUSAL_ATTENTION,)


@register
@dataclass(frozen=True)
class FuseAttention(Pass):
    """Apply the rules of the phases `attention` and `attention-alone`; the opset is raised to 23 first, if it may be.

    It may be where the target is ONNX Runtime, the user asked for no opset, the oldest ONNX Runtime that must load the
    result has kernels for that opset, every operator of the model keeps its kernel (RandomNormal has none at 22 on the
    CPU, MaxPool none on CUDA), and no known fault of ONNX Runtime begins between the opsets. Where the opset stays, the
    rules of phase `contrib-attention` use ONNX Runtime's own operators; those of phase `causal-attention` do at any
    opset: at once, and again where rotary embedding went before the heads. Nothing is raised where no rule would fire.

    before:  y = Reshape(Transpose(MatMul(Softmax(Add(MatMul(…), mask)), …)))      opset 17
    after:   y = Attention(q, k, v, mask)                                          opset 23
    """

    name: ClassVar[str] = "fuse-attention"
    is_heuristic: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES
    phases: ClassVar[frozenset[Phase]] = frozenset(phase for phases in (*STANDARD, *CONTRIB) for phase in phases)

    def run(self, model: ir.Model, context: PassContext) -> None:
        current = ir.standard_opset(model)
        if current is None or not context.settings.target.is_onnxruntime:
            return
        run_rules(rules_of(ANY_OPSET), model, context, None)
        if current > 24:
            return  # from 25 on the definition differs, and ONNX Runtime has no kernel
        groups = [rules_of(phases) for phases in STANDARD]
        if current < OPSET and (not _any_would_fire(groups, model, context) or not self._raise(model, context)):
            groups = [rules_of(phases) for phases in CONTRIB] if _has_contrib(context.settings) else []
        for rules in groups:
            run_rules(rules, model, context, None)

    def _raise(self, model: ir.Model, context: PassContext) -> bool:
        """Raise the opset, unless something speaks against it."""
        if context.settings.highest_opset < OPSET + 1:
            return False
        try:
            conversion = convert_for_target(model, OPSET, context.settings, context.analyses.get(Shapes))
        except ir.ModelError as error:
            obstacles: tuple[Obstacle, ...] = (
                Obstacle(f"operators that opset {OPSET} has, too", error.diagnostic.message),
            )
        else:
            obstacles = conversion.obstacles
        if obstacles:
            context.log.miss(MissedRewrite(self.name, "model", obstacles[0].condition, obstacles[0].because))
            return False
        current = ir.standard_opset(model)
        if not context.log.try_rewrite(self.name, "model", f"opset {current}", f"opset {OPSET}", Exactness.ROUNDING):
            return False
        context.rewriter.exchange(conversion.model)
        context.analyses.invalidate()
        return True


def _has_contrib(settings: Settings) -> bool:
    """Whether com.microsoft.MultiHeadAttention is as expected: on the CPU from the release with opset 24 on."""
    return settings.target.is_cuda or not settings.target.release or loads_in(settings.target.release).opset > OPSET


def _any_would_fire(groups: Sequence[Sequence[Rule]], model: ir.Model, context: PassContext) -> bool:
    return any(_would_fire(rule, node, context) for node in ir.nodes(model) for rules in groups for rule in rules)


def _would_fire(rule: Rule, node: ir.Node, context: PassContext) -> bool:
    if (node.domain, node.op_type) not in rule.roots or rule.name in context.log.exclusions.names:
        return False
    found = rule.match(node, context)
    if isinstance(found, MissedRewrite):
        context.log.miss(found)
    return bool(found)
