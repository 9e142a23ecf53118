"""Quarantine: the rewrite that made a result wrong is found by halving, left out, and put on show.

Rewrites are numbered, and a run that stops after n of them is the start of every longer one. So the first wrong rewrite
of a thousand is found with ten runs, each from the original.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from ... import ir
from ...passes.pipeline.pass_ import is_foreign
from ...passes.pipeline.pipeline import Failure, PipelineResult
from ...passes.pipeline.registry import REGISTRY
from ...passes.pipeline.rewrite_log import Exclusions
from .pipeline_runner import Optimizer

NOT_REPEATABLE = "it does not do the same every time"
RUNS = 6


@dataclass(frozen=True)
class FaultyRewrite:
    """A rewrite that was left out: the `number`-th of its run, by `rule` at the value `where`, and why.

    `raised`: it did not make the result wrong, it raised. `whole`: the rule was left out everywhere. `reproducer`: the
    command that replays it on the smallest model that shows it; empty where none was asked for or could be cut out, or
    the rule has one already.
    """

    rule: str
    where: str
    number: int
    why: str
    whole: bool
    raised: bool = False
    reproducer: str = ""

    def exclusions(self) -> Exclusions:
        """What a run must leave out."""
        if self.whole:
            return Exclusions(frozenset({self.rule}))
        return Exclusions(places=frozenset({(self.rule, self.where)}))

    def remark(self) -> ir.Diagnostic:
        """What is told."""
        place = f" at {self.where}" if self.where else ""
        what = f"{self.rule} failed{place}" if self.raised else f"{self.rule}{place} makes the result wrong"
        left = "the rule is left out" if self.whole else "that rewrite is left out"
        hint = f"to see it again: {self.reproducer}" if self.reproducer else ""
        return ir.Diagnostic("isolated", f"{what}, and {left}: {self.why}", hint=hint, severity=ir.Severity.WARNING)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class FaultIsolator:
    """The culprits of one call so far.

    `show`: writes the reproducer of a culprit, given the model right before it, and gives back its command.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        show: Callable[[FaultyRewrite, ir.Model, int], str] | None,
        *,
        tell: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.optimizer, self.show, self.tell = optimizer, show, tell
        self.exclusions = Exclusions(frozenset(optimizer.options.disable))
        self.force: frozenset[str] = frozenset()
        self.faulty_rewrites: list[FaultyRewrite] = []
        self.weak_searches = 0  # for what weak outputs could not confirm

    def add_failures(self, failures: Sequence[Failure]) -> None:
        """Take in rules that raised: the run went on without them already."""
        for each in failures:
            self._add(FaultyRewrite(each.faulty, each.where, each.rewrites + 1, each.reason, whole=True, raised=True))

    def find(
        self, report: PipelineResult, wrong: Callable[[PipelineResult], str], until: float
    ) -> FaultyRewrite | None:
        """Find the rewrite that makes `report` wrong, and leave it out; None where it is nobody's, or time is up.

        `wrong` says what is wrong with a result; empty when nothing is. A rule that is caught twice, or does not do
        the same every time, is left out as a whole.
        """
        search = Search(self._run, wrong, len(report.rewrites), until)
        number = search.first_wrong()
        if number is None:
            return self._find_unnumbered(search, until)
        rewrite = self._run(number).rewrites[number - 1]
        whole = not search.is_repeatable or any(each.rule == rewrite.rule for each in self.faulty_rewrites)
        return self._add(
            FaultyRewrite(rewrite.rule, rewrite.where, number, search.reasons.get(number, NOT_REPEATABLE), whole)
        )

    def _find_unnumbered(self, search: Search, until: float) -> FaultyRewrite | None:
        """Find the pass or rule of a plugin that changes the model without asking the journal: in a run that allows no
        rewrite, the result is wrong with it and right without it.
        """
        if not search.is_wrong(0):
            return None
        names = [*(each.name for each in REGISTRY.passes.values() if is_foreign(each.__module__))]
        names += [each.name for each in REGISTRY.rules.values() if is_foreign(each.module)]
        names = [name for name in names if name not in self.exclusions.names]
        if not names or search.wrong(self._run(0, frozenset(names))):
            return None
        for name in names:
            if time.monotonic() > until:
                return None
            if problem := search.wrong(self._run(0, frozenset(names) - {name})):
                why = f"it changes the model without asking for permission: {problem}"
                return self._add(FaultyRewrite(name, "", 0, why, whole=True), is_reproducible=False)
        return None

    def _run(self, limit: int, silenced: frozenset[str] = frozenset()) -> PipelineResult:
        exclusions = self.exclusions | Exclusions(silenced)
        return self.optimizer.run(limit=limit, exclusions=exclusions, force=self.force, on_failure="skip")

    def _add(self, faulty: FaultyRewrite, *, is_reproducible: bool = True) -> FaultyRewrite:
        known = any(each.rule == faulty.rule for each in self.faulty_rewrites)
        if self.show is not None and not known and is_reproducible:
            self.tell(f"reproducer of {faulty.rule}")
            before = self._run(faulty.number - 1, frozenset({faulty.rule} if faulty.raised else ()))
            faulty = replace(faulty, reproducer=self.show(faulty, before.model, len(self.faulty_rewrites) + 1))
        self.faulty_rewrites.append(faulty)
        self.exclusions |= faulty.exclusions()
        return faulty


class Search:
    """Halving over the number of rewrites. `reasons`: what was wrong after so many, where something was."""

    def __init__(
        self,
        run: Callable[[int], PipelineResult],
        wrong: Callable[[PipelineResult], str],
        count: int,
        until: float = float("inf"),
    ) -> None:
        self.run, self.wrong, self.count, self.until = run, wrong, count, until
        self.reasons: dict[int, str] = {}
        self.is_repeatable = True

    def first_wrong(self) -> int | None:
        """The number of a rewrite before which all is well and after which it is not; None where there is none.

        Where the same run is right once and wrong once, it is that of the first rewrite that differs between two runs.
        """
        if self.is_wrong(0):
            return None
        if not self.differs(self.count, runs=2) and self.is_wrong(self.count):
            found = self.halve(self.is_wrong)
            if found is None or (self.is_wrong(found) and not self.is_wrong(found - 1)):
                return found
        self.is_repeatable = False
        return self.halve(self.differs) if self.differs(self.count) else None

    def is_wrong(self, number: int) -> bool:
        if said := self.wrong(self.run(number)):
            self.reasons[number] = said
        return bool(said)

    def differs(self, number: int, runs: int = RUNS) -> bool:
        """Whether so many rewrites give different models in several runs: chance may have it that two are alike."""
        first = ir.fingerprint(self.run(number).model)
        return any(ir.fingerprint(self.run(number).model) != first for _ in range(runs - 1))

    def halve(self, is_bad: Callable[[int], bool]) -> int | None:
        good, bad = 0, self.count
        while bad - good > 1:
            if time.monotonic() > self.until:
                return None
            middle = (good + bad) // 2
            good, bad = (good, middle) if is_bad(middle) else (middle, bad)
        return bad
