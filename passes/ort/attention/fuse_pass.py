"""Fuse attention, and raise the opset to the first that has it and RMS normalization where a rule would match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...phases import quantizer_in, rules_of
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, Settings
from ...pipeline.phase import Phase
from ...pipeline.rewrite_log import MissedRewrite
from ...recognize.normalization import recognize_layer_normalization, recognize_rms_normalization
from ...registry import register
from ...rewriting.convert_for_target import Obstacle, convert_for_target
from ...rewriting.driver import apply_rules
from ...rewriting.rewrite_rule import Rule
from ...targets.ort_releases import loads_in

OPSET = 23
STANDARD = (Phase.ATTENTION, Phase.CAUSAL_ATTENTION)
CONTRIB = (Phase.CONTRIB_ATTENTION,)
ANY_OPSET = (Phase.CAUSAL_ATTENTION,)
NORMALIZATIONS = ((recognize_layer_normalization, 17), (recognize_rms_normalization, OPSET))
"""Rules, and the first opset that has their operators. The contrib forms below are no valid ONNX."""


@register
@dataclass(frozen=True)
class FuseAttention(Pass):
    """Apply the rules of phase `attention`, and raise the opset to 23 before, if possible; for normalizations, after.

    That is where the target is ONNX Runtime, no opset was requested, the oldest ONNX Runtime that must load the result
    has kernels for that opset, every operator of the model keeps its kernel (RandomNormal has none at 22 on the CPU,
    MaxPool none on CUDA), no known fault of ONNX Runtime begins between the opsets, and a rule would match. Otherwise
    the rules of phase `contrib-attention` use ONNX Runtime's own operators. Those of phase `causal-attention` do so at
    any opset: first, and again after rotary embedding moved before the split of heads.

    before:  y = Reshape(Transpose(MatMul(Softmax(Add(MatMul(…), mask)), …)))      opset 17
    after:   y = Attention(q, k, v, mask)                                          opset 23
    """

    name: ClassVar[str] = "fuse-attention"
    is_heuristic: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES
    phases: ClassVar[frozenset[Phase]] = frozenset((*STANDARD, *CONTRIB))

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Apply the rules that the opset, or the raised one, allows."""
        current = ir.standard_opset(model)
        if current is None or not context.settings.target.is_onnxruntime:
            return
        apply_rules(rules_of(ANY_OPSET), model, context)
        if current > 24:
            return  # from 25 on the definition differs, and ONNX Runtime has no kernel
        rules = rules_of(STANDARD)
        gains = current < OPSET and _any_would_match(rules, model, context)
        if current < OPSET and not (gains and self._raise(model, context)):
            rules = rules_of(CONTRIB) if _has_contrib(context.settings) else []
        apply_rules(rules, model, context)
        waiting = [rule for rule, since in NORMALIZATIONS if current < since and quantizer_in(model) is None]
        if not gains and _any_would_match(waiting, model, context):
            self._raise(model, context)

    def _raise(self, model: ir.Model, context: PassContext) -> bool:
        """Raise the opset and return True, or log what prevents it."""
        if context.settings.highest_opset < OPSET + 1:
            return False
        try:
            conversion = convert_for_target(model, OPSET, context.settings, context.analyses.get(Shapes))
        except ir.ModelError as error:
            obstacles: Sequence[Obstacle] = [
                Obstacle(f"operators that opset {OPSET} has, too", error.diagnostic.message)
            ]
        else:
            obstacles = conversion.obstacles
        if obstacles:
            context.log.miss(MissedRewrite(self.name, "model", obstacles[0].condition, obstacles[0].because))
            return False
        current = ir.standard_opset(model)
        if not context.log.try_rewrite(self.name, "model", f"opset {current}", f"opset {OPSET}", Exactness.ROUNDING):
            return False
        context.rewriter.exchange(conversion.model)
        return True


def _has_contrib(settings: Settings) -> bool:
    """Whether com.microsoft.MultiHeadAttention is as the rules assume: on the CPU since the release with opset 24."""
    target = settings.target
    return target.is_cuda or not target.release or loads_in(target.release).opset > OPSET


def _any_would_match(rules: Sequence[Rule], model: ir.Model, context: PassContext) -> bool:
    return any(_would_match(rule, node, context) for node in ir.nodes(model) for rule in rules)


def _would_match(rule: Rule, node: ir.Node, context: PassContext) -> bool:
    if (node.domain, node.op_type) not in rule.roots or rule.name in context.log.exclusions.names:
        return False
    match = rule.match(node, context)
    if isinstance(match, MissedRewrite):
        context.log.miss(match)
    return bool(match)
