"""Analyses of a model: computed on demand, cached, dropped unless a pass preserves them.

After MLIR's analysis manager (https://mlir.llvm.org/docs/PassManagement/#analysis-management): an analysis that was
built on another is dropped with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, TypeVar, cast

from ... import ir


class Analysis(ABC):
    """Facts about a model. A subclass lists in `needs` the analyses that it depends on."""

    needs: ClassVar[tuple[type[Analysis], ...]] = ()

    @classmethod
    @abstractmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Analysis:
        """Compute the facts about `model` in its present state."""


A = TypeVar("A", bound=Analysis)


class AnalysisManager:
    """Computes analyses of one model lazily and keeps them until they are invalidated."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._cache: dict[type[Analysis], Analysis] = {}
        self._computing: list[type[Analysis]] = []

    def get(self, kind: type[A]) -> A:
        """The analysis `kind` of the model. Raises PipelineError for a cycle of dependencies."""
        if kind not in self._cache:
            if kind in self._computing:
                circle = " needs ".join(each.__name__ for each in [*self._computing, kind])
                raise ir.PipelineError(ir.Diagnostic("analysis-cycle", f"analyses need each other: {circle}"))
            self._computing.append(kind)
            try:
                for needed in kind.needs:
                    self.get(needed)
                self._cache[kind] = kind.compute(self._model, self)
            finally:
                self._computing.pop()
        return cast(A, self._cache[kind])

    def cached(self, kind: type[A]) -> A | None:
        """The analysis if it is computed and valid, else None."""
        return cast("A | None", self._cache.get(kind))

    def invalidate(self, keep: Collection[type[Analysis]] = ()) -> None:
        """Drop every analysis that is not in `keep`, and those that depend on a dropped one."""
        self._cache = {
            kind: analysis
            for kind, analysis in self._cache.items()
            if kind in keep and all(needed in keep for needed in _closure(kind))
        }


def _closure(kind: type[Analysis]) -> set[type[Analysis]]:
    pending, found = list(kind.needs), set[type[Analysis]]()
    while pending:
        needed = pending.pop()
        if needed not in found:
            found.add(needed)
            pending.extend(needed.needs)
    return found
