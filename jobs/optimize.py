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

from .. import ir
from ..options import Options
from ..passes.engine.exactness import Exactness
from ..passes.engine.instruments import Instrument
from ..passes.engine.journal import Without
from ..passes.engine.kernels import WHERE_CHECKED
from ..passes.engine.pass_ import PassFailure
from ..passes.engine.pipeline import Report, seconds_by_pass
from ..passes.engine.registry import REGISTRY
from ..result import Result, Size, size_of
from .build_record import build_record, file_hashes, input_hashes
from .optimizer import Optimizer, exactness_of
from .quarantine import Culprit, Quarantine
from .source import Given, Source
from .versions import Fitted
from .workspace import workspace

if TYPE_CHECKING:
    from ..runtime import Ratio, Verification
    from .measure import Measurement
    from .proof import Proof
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
        self._proof: Proof | None = None

    @property
    def proof(self) -> Proof:
        """Made late: ONNX Runtime takes a moment, and `--no-verify` does without."""
        if self._proof is None:
            from .proof import Proof

            self._proof = Proof(self.source, self.options, self.folder, self.tell)
        return self._proof

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
        quarantine = Quarantine(self.optimizer, self.show if self.shows else None, tell=self.tell)
        report = self.rewrite(fitted, quarantine)
        tuning: Tuning | None = None
        while True:
            with self.stage(report) as staged:
                verification = self.verify(staged, report, fitted)
                if verification is None or verification.ok:
                    if self.options.tune and tuning is None:
                        tuning = self.tune(quarantine)
                        if (other := self.tuned(tuning, quarantine)) is not None:
                            report = other
                            continue
                    if self.options.strict and not (tuning is not None and tuning.keeps_original):
                        self.refuse_what_is_not_the_same_twice(report, quarantine)
                    result = self.result(report, fitted, before, quarantine.culprits, verification)
                    result.tuning = tuning
                    self.measure(result, staged)
                    if report.rewrites and not self.options.keep_slower and (speed := _slower(result.measurement)):
                        self.remarks.append(_original_kept(speed))
                        report = Report.unchanged(self.optimizer.fresh().model, str(self.optimizer.pipeline))
                        continue
                    self.finish(result, staged)
                    return result
            self.leave_out_who_is_wrong(quarantine, report, verification)
            report = self.rewrite(self.optimizer.fresh(), quarantine)

    # --- the steps --------------------------------------------------------------------------------------------------

    def verify(self, staged: ir.Staged, report: Report, fitted: Fitted) -> Verification | None:
        """Compare the staged file with the original, unless it has the very same bytes; None where nothing is asked."""
        if not self.options.verify:
            return None
        given = self.source.given
        is_file = isinstance(given, Path) and not report.rewrites and not ir.data_files(report.model)
        if is_file and filecmp.cmp(self.source.file(self.folder), staged.path, shallow=False):
            return _identical()
        return self.proof.verify(staged.path, report, fitted)

    def rewrite(self, fitted: Fitted, quarantine: Quarantine) -> Report:
        """Run the pipeline without what is in quarantine; what raises joins it."""
        try:
            report = self.optimizer.run(
                fitted,
                without=quarantine.without,
                eager=quarantine.eager,
                on_failure="raise" if self.options.strict else "skip",
            )
        except PassFailure as failure:
            raise ir.VerificationError(
                ir.Diagnostic("pass-failed", str(failure), hint=f"leave it out: --disable {failure.culprit}")
            ) from failure
        quarantine.add_failures(report.failures)
        return report

    def leave_out_who_is_wrong(self, quarantine: Quarantine, report: Report, verification: Verification) -> None:
        """Raises VerificationError where nobody is found in time, and with `strict`."""
        if verification.weak and not quarantine.without.inexact and quarantine.weak_searches >= WEAK_SEARCHES:
            quarantine.without |= Without(inexact=True)
            self.remarks.append(_only_exact(verification))
            return
        quarantine.weak_searches += verification.weak
        self.tell("quarantine")
        until = time.monotonic() + self.options.verify_seconds
        self.failed_on = verification.failed_on or 0
        culprit: Culprit | None = None
        try:
            culprit = quarantine.find(report, lambda each: self.proof.problem(each, verification, until), until)
        except ir.ModelError as error:
            from ..runtime import is_out_of_time

            if not is_out_of_time(error):
                raise
        if culprit is None or self.options.strict:
            raise _rejected(verification, report, culprit, is_late=time.monotonic() > until)

    def tune(self, quarantine: Quarantine) -> Tuning:
        """Find what is faster here, or remember it, and have runs do that from now on."""
        from .tune import Tuner
        from .tuning_cache import TuningCache, cache_key

        asked = self.options
        with_session = asked.session_options is not None
        cache = None if asked.tune_cache == "off" else TuningCache(asked.tune_cache)
        key, found = "", None
        if cache is not None:
            model, feeds = self.optimizer.fresh().model, self.proof.timed_feeds.feeds
            key = cache_key(self.optimizer, model, feeds, self.proof.how, with_session=with_session)
            found = cache.find(key, asked.tune_budget)
        if found is None:
            found = Tuner(
                self.optimizer,
                self.proof,
                quarantine.without,
                self.folder,
                budget_s=asked.tune_budget,
                with_session=with_session,
                tell=self.tell,
            ).run()
            if cache is not None:
                cache.keep(key, found)
        quarantine.without |= found.choices.without
        quarantine.eager = found.choices.eager
        return found

    def tuned(self, tuning: Tuning, quarantine: Quarantine) -> Report | None:
        """What tuning would rather deliver; None where that is what is there."""
        if tuning.keeps_original:
            self.remarks.append(_not_faster(tuning))
            return Report.unchanged(self.optimizer.fresh().model, str(self.optimizer.pipeline))
        if tuning.choices.left_out or tuning.choices.eager:
            return self.rewrite(self.optimizer.fresh(), quarantine)
        return None

    def refuse_what_is_not_the_same_twice(self, report: Report, quarantine: Quarantine) -> None:
        """Raises VerificationError where another run gives another model: the next build may be wrong."""
        again = self.optimizer.run(without=quarantine.without, eager=quarantine.eager, on_failure="skip")
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
        return self.options.reproducers or beside

    def show(self, culprit: Culprit, before: ir.Model, number: int) -> str:
        from .proof import saying_how_to_go_on
        from .reproducer import write_reproducer

        assert self.place_of_reproducers is not None
        place = self.place_of_reproducers / f"{number}-{culprit.rule}"
        with saying_how_to_go_on():
            feeds = self.proof.feeds[self.failed_on].feeds
        return write_reproducer(place, before, culprit.rule, culprit.where, feeds, self.optimizer)

    def result(
        self,
        report: Report,
        fitted: Fitted,
        before: Size,
        culprits: Sequence[Culprit],
        verification: Verification | None,
    ) -> Result:
        return Result(
            report.model,
            before,
            size_of(report.model),
            report.rewrites,
            report.refusals,
            [
                *self.remarks,
                *report.remarks,
                *_special_values(report),
                *_unverifiable(report),
                *(each.remark() for each in culprits),
            ],
            tuple(culprits),
            exactness_of(report, fitted),
            report.pipeline,
            seconds_by_pass(report.results),
            verification,
        )

    def pass_through(self, fitted: Fitted, before: Size) -> Result:
        """Deliver what rewriting would harm as it came."""
        report = Report.unchanged(fitted.model, str(self.optimizer.pipeline))
        with self.staged(lambda target: self.source.stage_unchanged(fitted.model, target)) as staged:
            verification = _identical() if self.options.verify else None
            result = self.result(report, fitted, before, (), verification)
            self.measure(result, staged)
            self.finish(result, staged)
        return result

    def stage(self, report: Report) -> ir.Staged:
        """The result beside the place where it will go: that very file is verified and measured."""
        return self.staged(lambda target: ir.stage(report.model, target))

    def staged(self, write: Callable[[Path], ir.Staged]) -> ir.Staged:
        self.tell("write")
        return write(self.output or self.folder / "result.onnx")

    def measure(self, result: Result, staged: ir.Staged) -> None:
        if self.options.measure:
            result.measurement = self.proof.measure(staged.path, result.model)

    def finish(self, result: Result, staged: ir.Staged) -> None:
        if self.options.anatomy:
            result.anatomy = self.proof.anatomy(staged.path, result.model)
        if self.options.session_options is not None and result.tuning is not None:
            result.tuning.write_session_options(self.options.session_options)
        written = None if self.output is None else file_hashes(staged.path, staged.data)
        result.build = build_record(self.options, self.given_hashes, written)
        if self.output is not None:
            staged.commit()


def _identical() -> Verification:
    from ..runtime import Verification

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


def _unverifiable(report: Report) -> Iterator[ir.Diagnostic]:
    """What only another provider could verify is not written."""
    found = Counter(refusal.rule for refusal in report.refusals if refusal.condition == WHERE_CHECKED)
    if found:
        rules = ", ".join(f"{rule} ({count})" for rule, count in sorted(found.items()))
        message = f"left out, for want of a kernel that could verify the result here: {rules}"
        hint = "--provider cuda verifies it, --no-verify goes without"
        yield ir.Diagnostic("not-verifiable-here", message, hint=hint, severity=ir.Severity.WARNING)


def _special_values(report: Report) -> list[ir.Diagnostic]:
    """The rules that fired and may make another value of infinities, NaN or a zero's sign."""
    rules = {each.rule for each in report.journal.rewrites if each.exactness is Exactness.SPECIAL_VALUES}
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


def _rules_of(report: Report) -> str:
    """The rules that fired, each once, in order."""
    return ", ".join(dict.fromkeys(rewrite.rule for rewrite in report.rewrites)) or "none"


def _rejected(
    verification: Verification, report: Report, culprit: Culprit | None, *, is_late: bool = False
) -> ir.VerificationError:
    if culprit is None:
        found = "; there was no time to find out why" if is_late else ""
        hint = "--verify-seconds gives more time; " if is_late else ""
        hint += f"rules that fired: {_rules_of(report)}; --disable leaves one out"
    else:
        found, hint = f"; it is {culprit.rule} at {culprit.where}", f"--disable {culprit.rule} leaves it out"
        hint += f"; to see it again: {culprit.reproducer}" if culprit.reproducer else ""
    message = f"{verification.summary()}{found}"
    return ir.VerificationError(ir.Diagnostic("verification-failed", message, hint=f"nothing was written; {hint}"))
