"""What one run of the pipeline leaves out, and what it does although it is not expected to pay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...passes.pipeline.rewrite_log import Exclusions


@dataclass(frozen=True)
class RunConfig:
    """`exclusions`: rules, passes and rewrites to leave out. `force`: rules and passes that ignore expected profit."""

    exclusions: Exclusions = field(default_factory=Exclusions)
    force: frozenset[str] = frozenset()

    def excluding(self, exclusions: Exclusions) -> RunConfig:
        """The same with `exclusions`, too."""
        return replace(self, exclusions=self.exclusions | exclusions)
