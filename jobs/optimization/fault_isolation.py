"""Fault isolation: bisect to the rewrite that made a result wrong, exclude it, write a minimal reproducer.

Rewrites are numbered, and a run that stops after n of them is the prefix of every longer run. So the first faulty
rewrite of a thousand takes ten runs to find, each from the original (delta debugging of a sequence: Zeller 1999).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from ... import ir
from ...passes.pipeline.pass_ import is_foreign
from ...passes.pipeline.pipeline import Failure, PipelineResult
from ...passes.pipeline.rewrite_log import Exclusions
from ...passes.registry import REGISTRY
from .pipeline_runner import PipelineRunner
from .run_config import RunConfig

NOT_REPEATABLE = "the rule is not deterministic"
RUNS = 6

WriteReproducer = Callable[["FaultyRewrite", ir.Model, int], str]


@dataclass(frozen=True)
class FaultyRewrite:
    """A rewrite that is excluded: the `number`-th of its run, by `rule` at the value `where`, and why.

    `raised`: the rule raised an exception; otherwise it made the result wrong. `whole`: the rule is excluded
    everywhere. `reproducer`: the command that replays it on the smallest model that shows the fault; empty where none
    was asked for or could be cut out, or where the rule has one already. `trace`: the traceback of what it raised.
    """

    rule: str
    where: str
    number: int
    why: str
    whole: bool
    raised: bool = False
    reproducer: str = ""
    trace: str = ""

    @classmethod
    def of_failure(cls, failure: Failure) -> FaultyRewrite:
        """A rule or pass that raised."""
        number = failure.rewrites + 1
        return cls(failure.faulty, failure.where, number, failure.reason, whole=True, raised=True, trace=failure.trace)

    def exclusions(self) -> Exclusions:
        """What further runs exclude."""
        if self.whole:
            return Exclusions(frozenset({self.rule}))
        return Exclusions(places=frozenset({(self.rule, self.where)}))

    def remark(self) -> ir.Diagnostic:
        """The warning of the report."""
        place = f" at {self.where}" if self.where else ""
        what = f"{self.rule} failed{place}" if self.raised else f"{self.rule}{place} makes the result wrong"
        excluded = "the rule is excluded" if self.whole else "that rewrite is excluded"
        hint = f"to reproduce: {self.reproducer}" if self.reproducer else ""
        return ir.Diagnostic("isolated", f"{what}, and {excluded}: {self.why}", hint=hint, severity=ir.Severity.WARNING)

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return asdict(self)


class FaultIsolator:
    """Finds faulty rewrites and keeps those of one job.

    `write_reproducer`: writes the reproducer of a faulty rewrite, given the model right before it and its index among
    the faulty ones, and gives back its command; None where none are wanted.
    """

    def __init__(
        self,
        runner: PipelineRunner,
        write_reproducer: WriteReproducer | None,
        *,
        tell: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.runner, self.write_reproducer, self.tell = runner, write_reproducer, tell
        self.faulty_rewrites: list[FaultyRewrite] = []
        self.weak_searches = 0  # searches for faults that weak outputs could not confirm

    def find(
        self, result: PipelineResult, config: RunConfig, problem: Callable[[PipelineResult], str], until: float
    ) -> FaultyRewrite | None:
        """Find the rewrite that makes `result` wrong; None where no single one does, or at `until`.

        `problem` says what is wrong with a result; empty when nothing is. A rule that is found twice, or that is not
        deterministic, is faulty as a whole.
        """
        search = Search(lambda limit: self._run(config, limit), problem, len(result.rewrites), until)
        number = search.first_wrong()
        if number is None:
            return self._find_unnumbered(search, config, until)
        rewrite = self._run(config, number).rewrites[number - 1]
        whole = not search.is_repeatable or any(each.rule == rewrite.rule for each in self.faulty_rewrites)
        why = search.reasons.get(number, NOT_REPEATABLE)
        return self.add(FaultyRewrite(rewrite.rule, rewrite.where, number, why, whole), config)

    def _find_unnumbered(self, search: Search, config: RunConfig, until: float) -> FaultyRewrite | None:
        """Find the pass or rule of a plugin that changes the model without recording a rewrite.

        In a run that allows no rewrite, the result is wrong with it and right without it.
        """
        if not search.is_wrong(0):
            return None
        names = [*(each.name for each in REGISTRY.passes.values() if is_foreign(each.__module__))]
        names += [each.name for each in REGISTRY.rules.values() if is_foreign(each.module)]
        names = [name for name in names if name not in config.exclusions.names]
        if not names or search.problem(self._run(config, 0, frozenset(names))):
            return None
        for name in names:
            if time.monotonic() > until:
                return None
            if problem := search.problem(self._run(config, 0, frozenset(names) - {name})):
                why = f"it changes the model without recording a rewrite: {problem}"
                self.faulty_rewrites.append(FaultyRewrite(name, "", 0, why, whole=True))
                return self.faulty_rewrites[-1]
        return None

    def _run(self, config: RunConfig, limit: int, excluded: frozenset[str] = frozenset()) -> PipelineResult:
        return self.runner.run(config.excluding(Exclusions(excluded)), limit=limit, on_failure="skip")

    def add(self, faulty: FaultyRewrite, config: RunConfig) -> FaultyRewrite:
        """Keep a faulty rewrite of a run with `config`, with its reproducer where it is the first of its rule."""
        is_known = any(each.rule == faulty.rule for each in self.faulty_rewrites)
        if self.write_reproducer is not None and not is_known:
            self.tell(f"reproducer of {faulty.rule}")
            before = self._run(config, faulty.number - 1, frozenset({faulty.rule} if faulty.raised else ()))
            command = self.write_reproducer(faulty, before.model, len(self.faulty_rewrites) + 1)
            faulty = replace(faulty, reproducer=command)
        self.faulty_rewrites.append(faulty)
        return faulty


class Search:
    """Bisection over the number of rewrites. `reasons`: what was wrong after so many, where something was."""

    def __init__(
        self,
        run: Callable[[int], PipelineResult],
        problem: Callable[[PipelineResult], str],
        count: int,
        until: float = float("inf"),
    ) -> None:
        self.run, self.problem, self.count, self.until = run, problem, count, until
        self.reasons: dict[int, str] = {}
        self.is_repeatable = True

    def first_wrong(self) -> int | None:
        """The number of a rewrite before which the result is right and after which it is wrong; None without one.

        Where the same run is right once and wrong once, it is the first rewrite that differs between two runs.
        """
        if self.is_wrong(0):
            return None
        if not self.differs(self.count, runs=2) and self.is_wrong(self.count):
            number = self.bisect(self.is_wrong)
            if number is None or (self.is_wrong(number) and not self.is_wrong(number - 1)):
                return number
        self.is_repeatable = False
        return self.bisect(self.differs) if self.differs(self.count) else None

    def is_wrong(self, number: int) -> bool:
        """Whether the result after `number` rewrites is wrong; why is kept in `reasons`."""
        if problem := self.problem(self.run(number)):
            self.reasons[number] = problem
        return bool(problem)

    def differs(self, number: int, runs: int = RUNS) -> bool:
        """Whether `number` rewrites give different models in several runs: two of them may be equal by chance."""
        first = ir.fingerprint(self.run(number).model)
        return any(ir.fingerprint(self.run(number).model) != first for _ in range(runs - 1))

    def bisect(self, is_bad: Callable[[int], bool]) -> int | None:
        """The least bad number, given that 0 is good and `count` is bad; None when the time is up."""
        good, bad = 0, self.count
        while bad - good > 1:
            if time.monotonic() > self.until:
                return None
            middle = (good + bad) // 2
            good, bad = (good, middle) if is_bad(middle) else (middle, bad)
        return bad
