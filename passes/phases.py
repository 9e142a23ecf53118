"""The passes that run rules: by phase, or by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from .. import ir
from .pipeline.exactness import Exactness
from .pipeline.pass_ import Pass, PassContext, where
from .pipeline.phase import Phase
from .pipeline.rewrite_log import MissedRewrite
from .registry import REGISTRY, register
from .rewriting.driver import apply_rules
from .rewriting.rewrite_rule import Rule


def rules_of(phases: Collection[Phase]) -> list[Rule]:
    """The rules of some phases."""
    return [rule for rule in REGISTRY.rules.values() if rule.phase in phases]


@register
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Apply every rule of phase `canonicalize`: cheap, exact, towards fewer and simpler operators.

    before:  y = Relu(Identity(x))
    after:   y = Relu(x)
    """

    name: ClassVar[str] = "canonicalize"
    phases: ClassVar[frozenset[Phase]] = frozenset({Phase.CANONICALIZE})

    limit: int | None = None

    def run(self, model: ir.Model, context: PassContext) -> None:
        apply_rules(rules_of(self.phases), model, context, limit=self.limit)


@register
@dataclass(frozen=True)
class Simplify(Canonicalize):
    """Apply every rule of phase `simplify`: several operators become one, at most up to rounding.

    before:  y = BatchNormalization(Conv(x, w), …)
    after:   y = Conv(x, w', b')
    """

    name: ClassVar[str] = "simplify"
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES
    phases: ClassVar[frozenset[Phase]] = frozenset({Phase.SIMPLIFY})


_QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


def quantizer_in(model: ir.Model) -> ir.Node | None:
    """A node that quantizes: rounding otherwise before it may change the result by a whole step."""
    return next((node for node in ir.nodes(model) if node.op_type in _QUANTIZERS), None)


class UnlessQuantized(Canonicalize):
    """Apply rules that change rounding, except in models with quantizers."""

    def run(self, model: ir.Model, context: PassContext) -> None:
        quantizer = quantizer_in(model)
        if quantizer is None:
            super().run(model, context)
        else:
            context.log.miss(MissedRewrite(self.name, where(quantizer), "no quantizer in the model", quantizer.op_type))


@register
@dataclass(frozen=True)
class Recognize(UnlessQuantized):
    """Apply every rule of phase `recognize`: what exporters spell in many operators becomes the standard's own.

    before:  y = Div(Mul(x, Clip(Add(x, 3), 0, 6)), 6)
    after:   y = Mul(x, HardSigmoid(x))
    """

    name: ClassVar[str] = "recognize"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    phases: ClassVar[frozenset[Phase]] = frozenset({Phase.RECOGNIZE})


@register
@dataclass(frozen=True)
class OrtSpecialize(Canonicalize):
    """Apply every rule of phase `ort-specialize`: the operators that ONNX Runtime runs best, after everything else.

    before:  z = LayerNormalization(Add(x, y), …)
    after:   z = LayerNormalization(Sum(x, y), …)
    """

    name: ClassVar[str] = "ort-specialize"
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES
    phases: ClassVar[frozenset[Phase]] = frozenset({Phase.ORT_SPECIALIZE})


@register
@dataclass(frozen=True)
class OrtAlgorithms(UnlessQuantized):
    """Apply every rule of phase `ort-algorithms`: less arithmetic in more operators, when no pass matches the plain
    operator any more.

    before:  y = Conv(x, w)
    after:   y = Concat(sums of convolutions with fewer taps)
    """

    name: ClassVar[str] = "ort-algorithms"
    exactness: ClassVar[Exactness] = Exactness.SPECIAL_VALUES
    phases: ClassVar[frozenset[Phase]] = frozenset({Phase.ORT_ALGORITHMS})


@register
@dataclass(frozen=True)
class RewriteNamed(Pass):
    """Apply the rules that are named, whatever their phase: `rewrite{rules=eliminate-nop-identity|eliminate-nop-cast}`.

    before:  whatever the rules match
    after:   what they build
    """

    name: ClassVar[str] = "rewrite"
    exactness: ClassVar[Exactness] = Exactness.APPROXIMATE

    rules: tuple[str, ...] = ()
    limit: int | None = None

    def run(self, model: ir.Model, context: PassContext) -> None:
        unknown = [name for name in self.rules if name not in REGISTRY.rules]
        if unknown:
            raise ir.PipelineError(
                ir.Diagnostic(
                    "unknown-rule", f"no rule is called {', '.join(unknown)}", hint="see optimize-graph passes"
                )
            )
        apply_rules((REGISTRY.rules[name] for name in self.rules), model, context, limit=self.limit)
