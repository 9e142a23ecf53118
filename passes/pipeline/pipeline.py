"""Pipelines: passes in order, bounded fixpoints, faulty passes and rules excluded and reported."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from ... import ir
from ..analyses import Shapes
from ..analyses.manager import AnalysisManager
from ..registry import REGISTRY, Registry
from ..targets.quantization_faults import broken_nodes, new_faults, respell
from . import pipeline_parser
from .instruments import CheckFailed, Instrument, VerifyEach
from .pass_ import Evaluator, Pass, PassContext, PassFailure, Settings, is_foreign, where
from .rewrite_log import Exclusions, MissedRewrite, Rewrite, RewriteLog


@dataclass(frozen=True)
class Fixpoint:
    """Run `steps` until none of them changes the model, at most `limit` times."""

    steps: tuple[Pass | Fixpoint, ...]
    limit: int = 12

    def __str__(self) -> str:
        bound = "" if self.limit == Fixpoint.limit else f"{{limit={self.limit}}}"
        return f"fixpoint{bound}({_show(self.steps)})"


@dataclass(frozen=True)
class PassResult:
    """One run of one pass, as the pipeline observed it."""

    step: Pass
    changed: bool
    seconds: float
    rewrites: int

    @property
    def name(self) -> str:
        """The name of the pass."""
        return self.step.name


@dataclass(frozen=True)
class Failure:
    """A pass or rule that is excluded: it raised or left the model malformed, at `where`, after so many rewrites.

    `trace`: the traceback of what it raised.
    """

    faulty: str
    reason: str
    where: str
    rewrites: int
    trace: str = ""


@dataclass
class PipelineResult:
    """The result of a run. `model`: the model of the call, rewritten; after a failure a fresh copy of it."""

    model: ir.Model
    pipeline: str
    log: RewriteLog
    results: list[PassResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    remarks: list[ir.Diagnostic] = field(default_factory=list)

    @classmethod
    def unchanged(cls, model: ir.Model, pipeline: str) -> PipelineResult:
        """The result of a run without rewrites."""
        return cls(model, pipeline, RewriteLog())

    @property
    def rewrites(self) -> Sequence[Rewrite]:
        """The rewrites, in order."""
        return self.log.rewrites

    @property
    def missed(self) -> Sequence[MissedRewrite]:
        """The missed rewrites."""
        return self.log.missed


@dataclass(frozen=True)
class Pipeline:
    """Passes and fixpoints in order. `Pipeline.parse(str(p)) == p`."""

    steps: tuple[Pass | Fixpoint, ...]

    @classmethod
    def parse(cls, text: str, registry: Registry = REGISTRY) -> Pipeline:
        """The pipeline that `text` spells. Raises PipelineError with a caret under what is wrong."""
        reader = pipeline_parser.Reader(text)
        steps = _read_steps(reader, registry)
        if reader.peek():
            reader.fail("expected ',' or the end")
        return cls(steps)

    def __str__(self) -> str:
        return _show(self.steps)

    def run(
        self,
        model: ir.Model,
        instruments: Sequence[Instrument] = (),
        *,
        evaluator: Evaluator | None = None,
        settings: Settings | None = None,
        exclusions: Exclusions | None = None,
        limit: int | None = None,
        on_failure: Literal["raise", "skip"] = "raise",
        restore: Callable[[], ir.Model] | None = None,
    ) -> PipelineResult:
        """Run on `model`, in place.

        A pass or rule that raises, or that leaves the model malformed, is faulty: with on_failure="skip" it is
        excluded and reported, and the run starts again from the original, which `restore` gives (by default a copy
        taken before the start). Raises PassFailure with on_failure="raise".
        """
        if on_failure == "skip" and restore is None:
            restore = model.clone().clone
        left_out: list[Failure] = []
        while True:
            failed = Exclusions(frozenset(each.faulty for each in left_out))
            excluded = (exclusions or Exclusions()) | failed

            def attempt(model: ir.Model, limit: int | None, excluded: Exclusions = excluded) -> _Run:
                log = RewriteLog(limit, excluded)
                return _Run(model, instruments, log, evaluator, settings or Settings())

            run = attempt(model, limit)
            try:
                report = run.of(self, left_out)
                fault = next((each for each in report.missed if each.is_fault), None)
                if fault is None or restore is None or on_failure == "raise":
                    return report
                left_out.append(Failure(fault.rule, fault.because, fault.where, len(report.rewrites)))
                model = restore()
            except PassFailure as raised:
                failure, number = raised, len(run.context.log.rewrites)
                if restore is not None and ir.verify(run.model):
                    failure, number = self._trace(raised, number, attempt, restore)
                known = failure.faulty in excluded.names
                if on_failure == "raise" or restore is None or known:
                    if failure is raised:
                        raise
                    raise failure from raised
                trace = "" if raised.__cause__ is None else "".join(traceback.format_exception(raised.__cause__))
                left_out.append(Failure(failure.faulty, failure.reason, failure.where, number, trace))
                model = restore()

    def _trace(
        self,
        raised: PassFailure,
        count: int,
        attempt: Callable[[ir.Model, int | None], _Run],
        restore: Callable[[], ir.Model],
    ) -> tuple[PassFailure, int]:
        """Trace a malformed model to the rewrite, or the pass, that left it so; and how many rewrites came before.

        The pass that raised, or the last one, may only have met the damage. Bisects over the number of rewrites, each
        run from the original.
        """

        def malformed(limit: int) -> tuple[str, _Run]:
            run = attempt(restore(), limit)
            with suppress(PassFailure):
                run.of(self, ())
            return next(map(str, ir.verify(run.model)), ""), run

        if malformed(0)[0]:
            run = attempt(restore(), 0)
            run.instruments = [*run.instruments, VerifyEach()]
            try:
                run.of(self, ())
            except PassFailure as named:
                return named, 0
            return raised, count
        good, bad = 0, count
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if malformed(middle)[0] else (middle, bad)
        found, run = malformed(bad)
        if not found or len(run.context.log.rewrites) < bad:
            return raised, count  # after the last rewrite, or not deterministic
        rewrite = run.context.log.rewrites[bad - 1]
        return PassFailure(rewrite.rule, f"the model is malformed afterwards: {found}", rewrite.where), bad - 1


class _Run:
    """One attempt."""

    def __init__(
        self,
        model: ir.Model,
        instruments: Sequence[Instrument],
        log: RewriteLog,
        evaluator: Evaluator | None,
        settings: Settings,
    ) -> None:
        self.model = model
        self.instruments = list(instruments)
        rewriter = ir.Rewriter(model)
        self.context = PassContext(rewriter, AnalysisManager(model, rewriter), log, evaluator, settings)
        self.results: list[PassResult] = []
        self.remarks: list[ir.Diagnostic] = []
        self.idle_at: dict[Pass, int] = {}  # how many changes there were when a pass last found nothing to do
        self.known_at = 0  # how many changes there were when analyses were last computed from scratch
        self.broken = self.broken_quantization()

    def of(self, pipeline: Pipeline, left_out: Sequence[Failure]) -> PipelineResult:
        for instrument in self.instruments:
            instrument.before_run()
        for step in pipeline.steps:
            self.step(step)
        if not any(isinstance(each, VerifyEach) for each in self.instruments):
            self.raise_if_malformed(pipeline)
        return PipelineResult(self.model, str(pipeline), self.context.log, self.results, list(left_out), self.remarks)

    def raise_if_malformed(self, pipeline: Pipeline) -> None:
        """Verify the model once, at the end; the faulty rewrite is traced only when it is malformed."""
        if problems := ir.verify(self.model):
            last = next((each.name for each in reversed(self.results) if each.changed), str(pipeline))
            raise PassFailure(last, f"the model is malformed afterwards: {problems[0]}")

    def step(self, step: Pass | Fixpoint) -> None:
        if isinstance(step, Fixpoint):
            self.fixpoint(step)
        elif (
            (not step.phases or not step.phases.isdisjoint(self.context.settings.target.file.phases))
            and step.name not in self.context.log.exclusions.names
            and self.idle_at.get(step) != self.context.rewriter.changes
        ):
            self.apply(step)

    def fixpoint(self, fixpoint: Fixpoint) -> None:
        for _ in range(fixpoint.limit):
            changes, first = self.context.rewriter.changes, len(self.results)
            rewrites = len(self.context.log.rewrites)
            for step in fixpoint.steps:
                self.step(step)
            if self.context.rewriter.changes == changes:
                if self.known_at == changes:
                    return
                # Preserved analyses are true, but recomputed ones may be more precise.
                self.context.analyses.reset()
                self.idle_at.clear()
                self.known_at = changes
        restless = ", ".join(dict.fromkeys(each.name for each in self.results[first:] if each.changed))
        rules = ", ".join(dict.fromkeys(each.rule for each in self.context.log.rewrites[rewrites:]))
        self.remarks.append(
            ir.Diagnostic(
                "fixpoint-limit",
                f"still changing after {fixpoint.limit} rounds: {restless}"
                + (f" (rewrites: {rules})" if rules else ""),
                hint="the result is right; running the command on it again may simplify it further",
                severity=ir.Severity.WARNING,
            )
        )

    def apply(self, step: Pass) -> None:
        rewriter, log = self.context.rewriter, self.context.log
        changes, rewrites = rewriter.changes, len(log.rewrites)
        for instrument in self.instruments:
            instrument.before_pass(step.name, self.model)
        started = time.perf_counter()
        try:
            step.run(self.model, self.context)
        except (PassFailure, ir.OptimizeGraphError):
            raise
        except (Exception, SystemExit) as error:  # a plugin's code may raise anything: it is excluded and reported
            raise PassFailure(step.name, f"{type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - started
        changed = rewriter.changes != changes
        if is_foreign(type(step).__module__):
            ir.stamp_versions(self.model)  # nodes of another library may have no versions
            self.context.analyses.reset()
        if changed:
            self.keep_quantization_sound(step)
        else:
            self.idle_at[step] = changes
        self.results.append(PassResult(step, changed, seconds, len(log.rewrites) - rewrites))
        try:
            for instrument in self.instruments:
                instrument.after_pass(step.name, self.model, changed)
        except CheckFailed as rejected:
            raise PassFailure(step.name, str(rejected)) from rejected

    def keep_quantization_sound(self, step: Pass) -> None:
        """Repair what ONNX Runtime's optimizer breaks since `step`, or fail: see targets/quantization_faults.py."""
        broken = self.broken_quantization()
        if new_faults(self.broken, broken):
            respell(self.model, self.dtype, self.context.rewriter, lambda *_: True)
            broken = self.broken_quantization()
        for node in new_faults(self.broken, broken):
            raise PassFailure(step.name, f"ONNX Runtime breaks a DequantizeLinear: {broken[node]}", where(node))
        self.broken = broken

    def broken_quantization(self) -> dict[ir.Node, str]:
        return dict(broken_nodes(self.model, self.dtype))

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type of a value. Shapes are computed only for models with DequantizeLinear."""
        known = ir.declared_dtype(value)
        if known is not None:
            return known
        return self.context.analyses.get(Shapes).dtype(value)


def _show(steps: Sequence[Pass | Fixpoint]) -> str:
    return ",".join(str(step) if isinstance(step, Fixpoint) else pipeline_parser.show(step) for step in steps)


def _read_steps(reader: pipeline_parser.Reader, registry: Registry) -> tuple[Pass | Fixpoint, ...]:
    steps: list[Pass | Fixpoint] = []
    while True:
        steps += _read_step(reader, registry)
        if not reader.take(","):
            return tuple(steps)


def _read_step(reader: pipeline_parser.Reader, registry: Registry) -> Iterator[Pass | Fixpoint]:
    name, start = pipeline_parser.read_name(reader)
    options = pipeline_parser.read_options(reader)
    if name == "fixpoint":
        reader.expect("(")
        steps = _read_steps(reader, registry)
        reader.expect(")")
        limit, _ = options.pop("limit", (str(Fixpoint.limit), 0))
        if options or not limit.isdecimal() or int(limit) < 1:
            reader.fail("fixpoint has one option, limit, a number above 0", start)
        yield Fixpoint(steps, int(limit))
    elif name in registry.presets and not options:
        yield from Pipeline.parse(registry.presets[name], registry).steps
    elif name in registry.passes:
        yield pipeline_parser.make(registry.passes[name], options, reader)
    else:
        hint = " (that is a rule: write rewrite{rules=" + name + "})" if name in registry.rules else ""
        reader.fail(f"no pass or preset is called {name!r}{hint}", start)
