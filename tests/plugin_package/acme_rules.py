"""What a compiler engineer writes to add a rule and a pass of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimize_graph import ir
from optimize_graph.passes import Builder, Exactness, Match, Pass, PassContext, op, register, rule, spell, values, where

(x,) = values("x")


@rule(op.Log(op.Exp(x)), source="log(exp(x)) = x", exactness=Exactness.ROUNDING, keeps_type=True)
def drop_log_of_exp(m: Match, op: Builder) -> ir.Value:
    """The logarithm undoes the exponential.

    before:  x -> Exp -> Log -> y
    after:   x
    """
    return m.x.value


@register
@dataclass(frozen=True)
class SpellSquare(Pass):
    """Write Mul(x, x) as Pow(x, 2), for a runtime of ours that has no Mul.

    before:  y = Mul(x, x)
    after:   y = Pow(x, %two)
    """

    name: ClassVar[str] = "acme-spell-square"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    exponent: int = 2

    def run(self, model: ir.Model, context: PassContext) -> None:
        for node in ir.nodes(model):
            if node.op_type != "Mul" or node.inputs[0] is not node.inputs[1] or node.inputs[0] is None:
                continue
            if context.log.try_rewrite(self.name, where(node), spell([node]), "Pow", self.exactness):
                two = ir.tensor([float(self.exponent)])
                power = ir.new_node("Pow", [node.inputs[0], ir.pending_constant(two)], version=node.version)
                context.rewriter.insert(power, before=node)
                context.rewriter.replace(node, power.outputs)
