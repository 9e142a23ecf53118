"""Analyses of a model: computed on demand, cached, and in step with the rewriter or dropped.

After MLIR's analysis manager (https://mlir.llvm.org/docs/PassManagement/#analysis-management).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar, cast

from ... import ir


class Analysis(ir.Listener, ABC):
    """Facts about a model. `follows`: it stays true by what it hears from the rewriter; others end with a change."""

    follows: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Analysis:
        """Compute the facts about `model` in its present state."""

    def refresh(self, model: ir.Model) -> Sequence[ir.Node]:  # noqa: ARG002
        """Draw conclusions from the changes that were heard; the nodes of which more is known."""
        return ()


A = TypeVar("A", bound=Analysis)


class AnalysisManager(ir.Listener):
    """Computes analyses of one model lazily and keeps them as long as they are true."""

    def __init__(self, model: ir.Model, rewriter: ir.Rewriter | None = None) -> None:
        self._model = model
        self._rewriter = rewriter
        self._changes = 0  # of the model, when the analyses were last in step with it
        self._cache: dict[type[Analysis], Analysis] = {}
        self._computing: list[type[Analysis]] = []
        if rewriter is not None:
            rewriter.subscribe(self)

    def get(self, kind: type[A]) -> A:
        """The analysis `kind` of the model as it is. Raises PipelineError for a cycle of dependencies."""
        if self._rewriter is not None and self._rewriter.changes != self._changes:
            self._changes = self._rewriter.changes
            self._cache = {kind: analysis for kind, analysis in self._cache.items() if analysis.follows}
            for analysis in self._cache.values():
                analysis.refresh(self._model)
        if kind not in self._cache:
            if kind in self._computing:
                circle = " needs ".join(each.__name__ for each in [*self._computing, kind])
                raise ir.PipelineError(ir.Diagnostic("analysis-cycle", f"analyses need each other: {circle}"))
            self._computing.append(kind)
            try:
                self._cache[kind] = kind.compute(self._model, self)
            finally:
                self._computing.pop()
        return cast(A, self._cache[kind])

    def reset(self) -> None:
        """Forget all analyses."""
        self._cache.clear()

    def inserted(self, node: ir.Node) -> None:
        """Tell the analyses of a new node."""
        for analysis in self._cache.values():
            analysis.inserted(node)

    def replaced(self, old: ir.Value, new: ir.Value) -> None:
        """Tell the analyses of a value that took the place of another."""
        for analysis in self._cache.values():
            analysis.replaced(old, new)
