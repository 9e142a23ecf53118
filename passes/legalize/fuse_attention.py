"""The pass that looks for attention and, where it finds any, raises the opset to the one that has the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..analyses import Shapes
from ..engine.exactness import Exactness
from ..engine.journal import Refusal
from ..engine.kernels import ON_TARGET, WHERE_CHECKED, lost_at_opset
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

    It may be where the target is ONNX Runtime, the user asked for no opset, the oldest ONNX Runtime that must load the
    result has kernels for that opset, no operator of the model loses its kernel by it, on the target or where the
    result is verified, and ONNX Runtime's optimizer is not known to fail on the model from there on.
    Where the opset stays, the rules of group `contrib-attention` use ONNX Runtime's own operators for target
    `ort-cuda`, and those of group `causal-attention` do at any opset: at once, and again where rotary embedding
    went before the heads. Nothing is raised where no rule would fire.

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
        settings, shapes = context.settings, context.analyses.get(Shapes)
        if fault := _propagation_fault(model, shapes):
            condition = "int8 quantization that ONNX Runtime's optimizer moves correctly from opset 21 on"
            context.journal.refuse(Refusal(self.name, "model", condition, fault))
            return False
        if settings.target == "ort-cuda" and (lost := kernels_lost(model, OPSET)):
            condition = f"CUDA kernels for every operator at opset {OPSET}"
            context.journal.refuse(Refusal(self.name, "model", condition, f"none for {', '.join(lost)}"))
            return False
        for condition, target, release in (
            (ON_TARGET, settings.target, settings.release),
            (WHERE_CHECKED, settings.checked_on, ""),
        ):
            lost = lost_at_opset(model, OPSET, shapes, target, release) if target.startswith("ort-") else []
            if lost:
                message = f"none at opset {OPSET} for {', '.join(lost)}"
                context.journal.refuse(Refusal(self.name, "model", condition, message))
                return False
        return True


_MOVED_THROUGH = frozenset({"MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice", "Flatten"})


def _propagation_fault(model: ir.Model, shapes: Shapes) -> str:
    """The int8 quantization of the model that raising it to opset 21 or above would break; "" where there is none.

    ONNX Runtime 1.31.1 copies int8 DequantizeLinear behind views of what is computed (`QDQPropagationTransformer`) with
    a QuantizeLinear before it that, from opset 21 on, says int8 in `output_dtype` and has a uint8 zero point: the
    session does not open with the default optimizations. uint8, per-axis scales and constants are not affected; the
    mirrored form, QuantizeLinear behind a view, counts too, as it is moved by the same pass.
    """
    if (ir.standard_opset(model) or 0) >= 21:
        return ""
    for node in ir.nodes(model):
        if node.domain or node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
            continue
        is_dequantize = node.op_type == "DequantizeLinear"
        source = node.inputs[0]
        value = node.outputs[0] if is_dequantize else source
        quantized = node.inputs[0] if is_dequantize else node.outputs[0]
        if source is None or value is None or quantized is None or ir.is_constant(source):
            continue
        if shapes.dtype(quantized) not in (None, ir.DataType.INT8):
            continue
        producer = value.producer()
        neighbors = [user for user, _ in value.uses()] if is_dequantize else [producer] if producer else []
        if any(each.op_type in _MOVED_THROUGH and not each.domain for each in neighbors):
            return f"{node.op_type} beside a view"
    return ""


def _rules(groups: Sequence[str]) -> list[Rule]:
    return [rule for rule in REGISTRY.rules.values() if rule.group in groups]


def _would_fire(rule: Rule, node: ir.Node, context: PassContext) -> bool:
    if (node.domain, node.op_type) not in rule.roots or rule.name in context.journal.without.names:
        return False
    found = rule.match(node, context)
    if isinstance(found, Refusal):
        context.journal.refuse(found)
    return bool(found)
