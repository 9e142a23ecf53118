"""A pass: one change of a whole model, as a frozen dataclass whose fields are its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from ... import ir
from ..analyses.manager import AnalysisManager
from ..targets.target import Target
from .exactness import Exactness
from .phase import Phase
from .rewrite_log import MissedRewrite, RewriteLog, Sketch, Sketched


class Evaluator(Protocol):
    """Computes nodes ahead of time. Injected: passes do not depend on a runtime."""

    def evaluate(
        self,
        nodes: Sequence[ir.Node],
        constants: Mapping[ir.Value, ir.Array],
        results: Sequence[ir.Value],
        opset_imports: Mapping[str, int],
    ) -> Mapping[ir.Value, ir.Array] | None:
        """The content of `results`, which `nodes` compute from `constants`; None where it cannot be had."""


@dataclass(frozen=True)
class Settings:
    """Settings of a whole run.

    `target`: what the result is optimized for. `verify_target`: another one that must run it, too: the one that it is
    verified on, in its newest release.
    `highest_opset`: the highest standard opset that a pass may raise the model to; 0 keeps the model's own.
    `growth_bytes`: how much larger than what it frees the result of folding may be.
    `fp16`: float32 will become float16 at the end, so that kernels are chosen for that.
    `force`: rules and passes that ignore expected profit.
    """

    target: Target = Target()
    verify_target: Target | None = None
    growth_bytes: int = 1 << 16
    highest_opset: int = 0
    fp16: bool = False
    force: frozenset[str] = frozenset()


@dataclass
class PassContext:
    """What a pass works with: the rewriter, the analyses, the log of rewrites, the evaluator and the settings."""

    rewriter: ir.Rewriter
    analyses: AnalysisManager
    log: RewriteLog
    evaluator: Evaluator | None = None
    settings: Settings = field(default_factory=Settings)

    def functions(self) -> frozenset[ir.OperatorIdentifier]:
        """The identifiers of the model's own functions: a call of one is not a call of the standard's operator."""
        return frozenset(self.rewriter.model.functions)

    def profitable(self, name: str, where: str, condition: str, because: str, *, expected: bool) -> bool:
        """Whether pass `name` does a legal rewrite: `expected` to pay, or forced; else a missed rewrite is logged."""
        if expected or name in self.settings.force:
            return True
        self.log.miss(MissedRewrite(name, where, condition, because, is_profit=True))
        return False

    def hides_operators(self) -> bool:
        """Whether a function of the model stands for operators of the standard: their names then say nothing."""
        return any(domain == "" for domain, _, _ in self.rewriter.model.functions)


class Pass(ABC):
    """A transformation of a whole model.

    Subclasses are frozen dataclasses; their fields are the options of the text form.

    `is_heuristic`: its rewrites are legal either way and done for expected profit: tuning may decide otherwise.
    `phases`: the phases whose rules it runs.
    """

    name: ClassVar[str]
    is_heuristic: ClassVar[bool] = False
    exactness: ClassVar[Exactness] = Exactness.EXACT
    phases: ClassVar[frozenset[Phase]] = frozenset()

    @abstractmethod
    def run(self, model: ir.Model, context: PassContext) -> None:
        """Change `model` through `context.rewriter`, asking `context.log.try_rewrite` before each rewrite."""


class PassFailure(Exception):
    """A pass or rule raised, or left the model malformed. `faulty` is the name to disable, `where` the value."""

    def __init__(self, faulty: str, reason: str, where: str = "") -> None:
        super().__init__(f"{faulty}: {reason}")
        self.faulty = faulty
        self.reason = reason
        self.where = where


def is_foreign(module: str) -> bool:
    """Whether a module is a plugin's, not of this package."""
    return module.partition(".")[0] != __name__.partition(".")[0]


def where(node: ir.Node) -> str:
    """The name of a node in logs: its first named output, which is stable, else its own name."""
    return next((value.name for value in node.outputs if value.name), node.name or node.op_type)


def sketch(nodes: Sequence[ir.Node]) -> Sketch:
    """A group of nodes as a drawing."""
    places = {node: place for place, node in enumerate(nodes)}
    producers = ([value.producer() for value in node.inputs if value is not None] for node in nodes)
    return tuple(
        Sketched(_operator(node), tuple(sorted({places[each] for each in above if each in places})))
        for node, above in zip(nodes, producers, strict=True)
    )


def spell(nodes: Sequence[ir.Node]) -> str:
    """A group of nodes in words: `Conv, BatchNormalization`."""
    return ", ".join(map(_operator, nodes)) or "nothing"


def _operator(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
