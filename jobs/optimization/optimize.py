"""The public face: `optimize` takes a model and gives back one that computes the same, with the evidence."""

from __future__ import annotations

import filecmp
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ... import ir
from ...options import Options
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.instruments import Instrument
from ...passes.pipeline.pass_ import PassFailure
from ...passes.pipeline.pipeline import PipelineResult, seconds_by_pass
from ...passes.pipeline.registry import REGISTRY
from ...passes.pipeline.rewrite_log import Exclusions
from ...passes.rewriting.kernel_check import WHERE_VERIFIED
from ..model_source import Given, Source
from ..temporary_folder import workspace
from .build_record import build_record, file_hashes, input_hashes
from .fault_isolation import FaultIsolator, FaultyRewrite
from .pipeline_runner import Optimizer, exactness_of
from .result import Result, Size, size_of
from .target_versions import ConvertedModel

if TYPE_CHECKING:
    from ...runtime import Ratio, Verification
    from ..measure import Measurement
    from .evaluation import Evaluation
    from .tune import Tuning

WEAK_SEARCHES = 2
"""Rewrites that are looked for one by one, where a weak output cannot confirm them, before all inexact ones go."""

LOG = logging.getLogger("optimize_graph")


def optimize(
    model: Given,
    output: str | Path | None = None,
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda step: None,
    instruments: Sequence[Instrument] = (),
) -> Result:
    """Optimize a model; write the result to `output` when it is given, and only once it is verified.

    `progress` is told what is being done. `model` is left as it is, unless `output` is its own path.
    Raises ModelError, PipelineError, MachineError or VerificationError; each carries a Diagnostic.
    """
    options = options or Options()

    def tell(step: str) -> None:
        LOG.debug(step)
        progress(step)

    with REGISTRY.using(options.plugins), workspace() as folder:
        optimizer = Optimizer(Source.of(model, options), options, tell=tell, instruments=instruments)
        return _Job(optimizer, None if output is None else Path(output), folder, tell).run()


class _Job:
    """One call of `optimize`."""

    def __init__(self, optimizer: Optimizer, output: Path | None, folder: Path, tell: Callable[[str], None]) -> None:
        self.optimizer, self.output, self.folder, self.tell = optimizer, output, folder, tell
        self.source, self.options = optimizer.source, optimizer.options
        self.remarks: list[ir.Diagnostic] = []
        self.failed_on = 0  # the place of the set of inputs that shows what went wrong
        self.given_hashes: Mapping[str, object] | None = None
        self._evaluation: Evaluation | None = None

    @property
    def evaluation(self) -> Evaluation:
        """Made late: ONNX Runtime takes a moment, and `--no-verify` does without."""
        if self._evaluation is None:
            from .evaluation import Evaluation

            self._evaluation = Evaluation(self.source, self.options, self.folder, self.tell)
        return self._evaluation

    def run(self) -> Result:
        self.tell("load")
        given = self.source.load()
        self.given_hashes = input_hashes(self.source, ir.data_files(given))
        before = size_of(given)
        fitted = self.source.fit(given)
        self.remarks = [*ir.load_remarks(given), *fitted.remarks, *_overridable(given)]
        if lost := ir.not_representable(fitted.model):
            self.remarks.append(_unchanged(lost))
            return self.pass_through(fitted, before)
        isolator = FaultIsolator(self.optimizer, self.show if self.shows else None, tell=self.tell)
        report = self.rewrite(fitted, isolator)
        tuning: Tuning | None = None
        while True:
            with self.stage(report) as staged:
                verification = self.verify(staged, report, fitted)
                if verification is None or verification.ok:
                    if self.options.tune and tuning is None:
                        tuning = self.tune(isolator)
                        if (other := self.tuned(tuning, isolator)) is not None:
                            report = other
                            continue
                    if self.options.strict and not (tuning is not None and tuning.keeps_original):
                        self.check_determinism(report, isolator)
                    result = self.result(report, fitted, before, isolator.faulty_rewrites, verification)
                    result.tuning = tuning
                    self.measure(result, staged)
                    if report.rewrites and not self.options.keep_slower and (speed := _slower(result.measurement)):
                        self.remarks.append(_original_kept(speed))
                        report = PipelineResult.unchanged(self.optimizer.fresh().model, str(self.optimizer.pipeline))
                        continue
                    self.finish(result, staged)
                    return result
            self.exclude_faulty_rewrite(isolator, report, verification)
            report = self.rewrite(self.optimizer.fresh(), isolator)

    # --- the steps --------------------------------------------------------------------------------------------------

    def verify(self, staged: ir.Staged, report: PipelineResult, fitted: ConvertedModel) -> Verification | None:
        """Compare the staged file with the original, unless it has the very same bytes; None where nothing is asked."""
        if not self.options.verify:
            return None
        given = self.source.given
        is_file = isinstance(given, Path) and not report.rewrites and not ir.data_files(report.model)
        if is_file and filecmp.cmp(self.source.file(self.folder), staged.path, shallow=False):
            return _identical()
        return self.evaluation.verify(staged.path, report, fitted)

    def rewrite(self, fitted: ConvertedModel, isolator: FaultIsolator) -> PipelineResult:
        """Run the pipeline without what is in quarantine; what raises joins it."""
        try:
            report = self.optimizer.run(
                fitted,
                exclusions=isolator.exclusions,
                force=isolator.force,
                on_failure="raise" if self.options.strict else "skip",
            )
        except PassFailure as failure:
            raise ir.VerificationError(
                ir.Diagnostic("pass-failed", str(failure), hint=f"leave it out: --disable {failure.faulty}")
            ) from failure
        isolator.add_failures(report.failures)
        return report

    def exclude_faulty_rewrite(
        self, isolator: FaultIsolator, report: PipelineResult, verification: Verification
    ) -> None:
        """Raises VerificationError where nobody is found in time, and with `strict`."""
        if verification.weak and not isolator.exclusions.inexact and isolator.weak_searches >= WEAK_SEARCHES:
            isolator.exclusions |= Exclusions(inexact=True)
            self.remarks.append(_only_exact(verification))
            return
        isolator.weak_searches += verification.weak
        self.tell("quarantine")
        until = time.monotonic() + self.options.verify_timeout
        self.failed_on = verification.failed_on or 0
        faulty: FaultyRewrite | None = None
        try:
            faulty = isolator.find(report, lambda each: self.evaluation.problem(each, verification, until), until)
        except ir.ModelError as error:
            from ...runtime import is_out_of_time

            if not is_out_of_time(error):
                raise
        if faulty is None or self.options.strict:
            raise _rejected(verification, report, faulty, is_late=time.monotonic() > until)

    def tune(self, isolator: FaultIsolator) -> Tuning:
        """Find what is faster here, or remember it, and have runs do that from now on."""
        from .tune import Tuner
        from .tuning_cache import TuningCache, cache_key

        asked = self.options
        with_session = asked.save_session_options is not None
        cache = None if asked.tune_cache == "off" else TuningCache(asked.tune_cache)
        key, found = "", None
        if cache is not None:
            model, feeds = self.optimizer.fresh().model, self.evaluation.timed_feeds.feeds
            key = cache_key(self.optimizer, model, feeds, self.evaluation.how, with_session=with_session)
            found = cache.find(key, asked.tune_budget)
        if found is None:
            found = Tuner(
                self.optimizer,
                self.evaluation,
                isolator.exclusions,
                self.folder,
                budget_s=asked.tune_budget,
                with_session=with_session,
                tell=self.tell,
            ).run()
            if cache is not None:
                cache.keep(key, found)
        isolator.exclusions |= found.choices.exclusions
        isolator.force = found.choices.force
        return found

    def tuned(self, tuning: Tuning, isolator: FaultIsolator) -> PipelineResult | None:
        """What tuning would rather deliver; None where that is what is there."""
        if tuning.keeps_original:
            self.remarks.append(_not_faster(tuning))
            return PipelineResult.unchanged(self.optimizer.fresh().model, str(self.optimizer.pipeline))
        if tuning.choices.left_out or tuning.choices.force:
            return self.rewrite(self.optimizer.fresh(), isolator)
        return None

    def check_determinism(self, report: PipelineResult, isolator: FaultIsolator) -> None:
        """Raises VerificationError where another run gives another model: the next build may be wrong."""
        again = self.optimizer.run(exclusions=isolator.exclusions, force=isolator.force, on_failure="skip")
        if ir.fingerprint(again.model) != ir.fingerprint(report.model):
            pairs = zip_longest(report.rewrites, again.rewrites)
            first = next((one or two for one, two in pairs if one != two), None)
            found = f"rules that fired: {_rules_of(report)}"
            if first is not None:
                found = f"{first.rule} at {first.where} is the first to differ"
            message = f"another run gives another model; {found}"
            raise ir.VerificationError(ir.Diagnostic("not-repeatable", message, hint="nothing was written"))

    @property
    def shows(self) -> bool:
        """Whether reproducers are written."""
        return self.options.verify and self.place_of_reproducers is not None

    @property
    def place_of_reproducers(self) -> Path | None:
        beside = None if self.output is None else self.output.with_name(f"{self.output.name}.reproducers")
        return self.options.reproducer_dir or beside

    def show(self, faulty: FaultyRewrite, before: ir.Model, number: int) -> str:
        from .evaluation import as_verification_error
        from .reproducer import write_reproducer

        assert self.place_of_reproducers is not None
        place = self.place_of_reproducers / f"{number}-{faulty.rule}"
        with as_verification_error():
            feeds = self.evaluation.feeds[self.failed_on].feeds
        return write_reproducer(place, before, faulty.rule, faulty.where, feeds, self.optimizer)

    def result(
        self,
        report: PipelineResult,
        fitted: ConvertedModel,
        before: Size,
        faulty_rewrites: Sequence[FaultyRewrite],
        verification: Verification | None,
    ) -> Result:
        return Result(
            report.model,
            before,
            size_of(report.model),
            report.rewrites,
            report.missed,
            [
                *self.remarks,
                *report.remarks,
                *_special_values(report),
                *_unverifiable(report),
                *(each.remark() for each in faulty_rewrites),
            ],
            tuple(faulty_rewrites),
            exactness_of(report, fitted),
            report.pipeline,
            seconds_by_pass(report.results),
            verification,
        )

    def pass_through(self, fitted: ConvertedModel, before: Size) -> Result:
        """Deliver what rewriting would harm as it came."""
        report = PipelineResult.unchanged(fitted.model, str(self.optimizer.pipeline))
        with self.staged(lambda target: self.source.stage_unchanged(fitted.model, target)) as staged:
            verification = _identical() if self.options.verify else None
            result = self.result(report, fitted, before, (), verification)
            self.measure(result, staged)
            self.finish(result, staged)
        return result

    def stage(self, report: PipelineResult) -> ir.Staged:
        """The result beside the place where it will go: that very file is verified and measured."""
        return self.staged(lambda target: ir.stage(report.model, target))

    def staged(self, write: Callable[[Path], ir.Staged]) -> ir.Staged:
        self.tell("write")
        return write(self.output or self.folder / "result.onnx")

    def measure(self, result: Result, staged: ir.Staged) -> None:
        if self.options.measure:
            result.measurement = self.evaluation.measure(staged.path, result.model)

    def finish(self, result: Result, staged: ir.Staged) -> None:
        if self.options.model_profile:
            result.model_profile = self.evaluation.model_profile(staged.path, result.model)
        if self.options.save_session_options is not None and result.tuning is not None:
            result.tuning.write_session_options(self.options.save_session_options)
        written = None if self.output is None else file_hashes(staged.path, staged.data)
        result.build = build_record(self.options, self.given_hashes, written)
        if self.output is not None:
            staged.commit()


def _identical() -> Verification:
    from ...runtime import Verification

    return Verification(ok=True, exact=True, notes=("the file is delivered byte for byte as it was",))


def _overridable(model: ir.Model) -> Iterator[ir.Diagnostic]:
    """Weights that callers may override are no constants, for ONNX Runtime neither: that costs speed."""
    weights = [value for value in model.graph.inputs if ir.is_overridable(value)]
    if weights:
        nbytes = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
        message = (
            f"{len(weights)} weights ({nbytes:,} bytes) are also inputs, which callers may override: what reads them "
            "is not folded, and ONNX Runtime neither folds nor prepacks them (a small network took x1.33 the time)"
        )
        hint = "--freeze all (or NAME) makes them constants and takes them out of the interface"
        yield ir.Diagnostic("overridable-weights", message, hint=hint, severity=ir.Severity.WARNING)


def _unverifiable(report: PipelineResult) -> Iterator[ir.Diagnostic]:
    """What only another provider could verify is not written."""
    found = Counter(miss.rule for miss in report.missed if miss.condition == WHERE_VERIFIED)
    if found:
        rules = ", ".join(f"{rule} ({count})" for rule, count in sorted(found.items()))
        message = f"left out, for want of a kernel that could verify the result here: {rules}"
        hint = "--provider cuda verifies it, --no-verify goes without"
        yield ir.Diagnostic("not-verifiable-here", message, hint=hint, severity=ir.Severity.WARNING)


def _special_values(report: PipelineResult) -> list[ir.Diagnostic]:
    """The rules that fired and may make another value of infinities, NaN or a zero's sign."""
    rules = {each.rule for each in report.log.rewrites if each.exactness is Exactness.SPECIAL_VALUES}
    if not rules:
        return []
    names = ", ".join(sorted(rules))
    message = f"infinities, NaN, the sign of zero and numbers near overflow may become other values: {names}"
    hint = "--disable leaves a rule out; for usual numbers these rules are as exact as any that round"
    return [ir.Diagnostic("special-values", message, hint=hint, severity=ir.Severity.REMARK)]


def _only_exact(verification: Verification) -> ir.Diagnostic:
    message = f"only exact rewrites are delivered, bit for bit: {verification.problem}"
    hint = "--rtol and --atol say what may differ"
    return ir.Diagnostic("only-exact", message, hint=hint, severity=ir.Severity.WARNING)


def _slower(measurement: Measurement | None) -> Ratio | None:
    """The worst speed of a result that is slower with confidence at some point and faster at none; else None."""
    speeds = [] if measurement is None else [point.standings[1].timing.speed for point in measurement.points]
    if any(speed.is_faster for speed in speeds) or not any(speed.is_slower for speed in speeds):
        return None
    return min(speeds, key=lambda each: each.median)


def _original_kept(speed: Ratio) -> ir.Diagnostic:
    message = f"the result is slower here, x{speed.median:.2f} [{speed.low:.2f}, {speed.high:.2f}]"
    hint = "--tune looks for what is faster, --keep-slower delivers the result all the same"
    return ir.Diagnostic("slower", f"{message}: the original is delivered", hint=hint, severity=ir.Severity.WARNING)


def _not_faster(tuning: Tuning) -> ir.Diagnostic:
    message = f"nothing that was tried is as fast as the original, which is delivered: {tuning.summary()}"
    return ir.Diagnostic("original-is-faster", message, severity=ir.Severity.WARNING)


def _unchanged(lost: Sequence[str]) -> ir.Diagnostic:
    return ir.Diagnostic(
        "passed-through",
        f"the model has {', '.join(lost)}, which rewriting would lose: it is written as it came",
        severity=ir.Severity.WARNING,
    )


def _rules_of(report: PipelineResult) -> str:
    """The rules that fired, each once, in order."""
    return ", ".join(dict.fromkeys(rewrite.rule for rewrite in report.rewrites)) or "none"


def _rejected(
    verification: Verification, report: PipelineResult, faulty: FaultyRewrite | None, *, is_late: bool = False
) -> ir.VerificationError:
    if faulty is None:
        found = "; there was no time to find out why" if is_late else ""
        hint = "--verify-timeout gives more time; " if is_late else ""
        hint += f"rules that fired: {_rules_of(report)}; --disable leaves one out"
    else:
        found, hint = f"; it is {faulty.rule} at {faulty.where}", f"--disable {faulty.rule} leaves it out"
        hint += f"; to see it again: {faulty.reproducer}" if faulty.reproducer else ""
    message = f"{verification.summary()}{found}"
    return ir.VerificationError(ir.Diagnostic("verification-failed", message, hint=f"nothing was written; {hint}"))
