"""Optimize a model: rewrite, verify, isolate faults, tune, measure, deliver.

A straight line of steps. Each candidate is staged beside its place: the very file that is verified and measured is
renamed into place at the end.
"""

from __future__ import annotations

import filecmp
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ... import ir
from ...options import Options
from ...passes.pipeline.instruments import Instrument
from ...passes.pipeline.pass_ import PassFailure
from ...passes.pipeline.pipeline import PipelineResult
from ...passes.pipeline.rewrite_log import Exclusions
from ...passes.registry import REGISTRY
from ..model_source import Given, Source
from ..partitions import partitions_of
from ..temporary_folder import workspace
from . import remarks
from .build_record import build_record, file_hashes, input_hashes
from .fault_isolation import FaultIsolator, FaultyRewrite
from .gates import GateError, Gates, missed
from .pipeline_runner import PipelineRunner, exactness_of
from .result import PassUse, Result, Size, size_of
from .run_config import RunConfig
from .target_versions import ConvertedModel

if TYPE_CHECKING:
    from ...runtime import Ratio, Verification
    from ..measure import Measurement
    from .evaluation import Evaluation
    from .tune import Tuning

WEAK_SEARCHES = 2
"""Searches for single faulty rewrites that weak outputs cannot confirm, before all inexact rewrites are excluded."""

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

    `progress` is called with the name of each step. `model` stays as it is, unless `output` is its own path.
    Raises ModelError, PipelineError, EnvironmentSetupError, VerificationError or GateError; each carries a Diagnostic.
    """
    options = options or Options()

    def tell(step: str) -> None:
        LOG.debug(step)
        progress(step)

    with REGISTRY.using(options.plugins), workspace() as folder, ExitStack() as staged_files:
        runner = PipelineRunner(Source.of(model, options), options, tell=tell, instruments=instruments)
        output = None if output is None else Path(output)
        return _Job(runner, output, folder, tell, staged_files).run()


@dataclass(frozen=True)
class _Candidate:
    """A result of the pipeline, its staged file, and how it compares with the original (None: not asked for)."""

    result: PipelineResult
    staged: ir.Staged
    verification: Verification | None


class _Job:
    """One call of `optimize`."""

    def __init__(
        self,
        runner: PipelineRunner,
        output: Path | None,
        folder: Path,
        tell: Callable[[str], None],
        staged_files: ExitStack,
    ) -> None:
        self.runner, self.output, self.folder, self.tell, self.staged_files = runner, output, folder, tell, staged_files
        self.source, self.options = runner.source, runner.options
        self.config = runner.default_config
        self.gates = Gates(self.options)
        self.isolator = FaultIsolator(runner, self.write_reproducer if self.writes_reproducers else None, tell=tell)
        self.remarks: list[ir.Diagnostic] = []
        self.tuning: Tuning | None = None
        self.failed_on = 0  # the index of the set of inputs on which verification failed

    def run(self) -> Result:
        """Take the job from the original to the delivered file."""
        original = self.load()
        converted = self.source.convert(original)
        self.remarks = [*ir.load_remarks(original), *converted.remarks, *remarks.overridable_weights(original)]
        if lost := ir.not_representable(converted.model):
            return self.pass_through(converted, lost)
        candidate = self.verified(self.rewrite(converted), converted)
        if self.options.tune:
            candidate = self.tuned(candidate, converted)
        if self.options.strict and not (self.tuning is not None and self.tuning.keeps_original):
            self.check_determinism(candidate.result)
        return self.measured(candidate, converted)

    # --- the steps --------------------------------------------------------------------------------------------------

    def load(self) -> ir.Model:
        """The original, whose size and hashes are kept for the report."""
        self.tell("load")
        original = self.source.load()
        data = ir.data_files(original)
        self.original_hashes: Mapping[str, object] | None = input_hashes(self.source, data)
        self.original_size: Size = size_of(original, self.source.file_bytes(data))
        self.original_partitions = partitions_of(original, self.runner.settings.target)
        return original

    def rewrite(self, converted: ConvertedModel) -> PipelineResult:
        """Run the pipeline with the present configuration. A rule that raises is excluded from then on."""
        try:
            result = self.runner.run(self.config, converted, on_failure="raise" if self.options.strict else "skip")
        except PassFailure as failure:
            raise ir.VerificationError(
                ir.Diagnostic("pass-failed", str(failure), hint=f"leave it out: --disable {failure.faulty}")
            ) from failure
        for each in result.failures:
            self.exclude(self.isolator.add(FaultyRewrite.of_failure(each), self.config))
        return result

    def verified(self, result: PipelineResult, converted: ConvertedModel) -> _Candidate:
        """Stage and verify a result; while it is wrong, exclude the faulty rewrite and rewrite once more."""
        while True:
            staged = self.stage(partial(ir.stage, result.model))
            verification = self.verify(staged, result, converted)
            if verification is None or verification.ok:
                return _Candidate(result, staged, verification)
            self.staged_files.close()
            self.exclude_faulty_rewrite(result, verification)
            result = self.rewrite(self.runner.fresh())

    def verify(self, staged: ir.Staged, result: PipelineResult, converted: ConvertedModel) -> Verification | None:
        """Compare the staged file with the original, unless it has the very same bytes; None where not asked for."""
        if not self.options.verify:
            return None
        given = self.source.given
        is_file = isinstance(given, Path) and not result.rewrites and not ir.data_files(result.model)
        if is_file and filecmp.cmp(self.source.file(self.folder), staged.path, shallow=False):
            return _identical()
        return self.evaluation.verify(staged.path, result, converted)

    def exclude(self, faulty: FaultyRewrite) -> None:
        """Let further runs exclude a faulty rewrite."""
        self.config = self.config.excluding(faulty.exclusions())

    def exclude_faulty_rewrite(self, result: PipelineResult, verification: Verification) -> None:
        """Bisect to the rewrite that makes `result` wrong and exclude it.

        Raises VerificationError where none is found in time, and with `strict`.
        """
        if verification.weak and not self.config.exclusions.inexact and self.isolator.weak_searches >= WEAK_SEARCHES:
            self.config = self.config.excluding(Exclusions(inexact=True))
            self.remarks.append(remarks.exact_rewrites_only(verification))
            return
        self.isolator.weak_searches += verification.weak
        self.tell("isolate the faulty rewrite")
        until = time.monotonic() + self.options.verify_timeout
        self.failed_on = verification.failed_on or 0
        faulty: FaultyRewrite | None = None
        try:
            faulty = self.isolator.find(
                result, self.config, lambda other: self.evaluation.problem(other, verification, until), until
            )
        except ir.ModelError as error:
            from ...runtime import is_out_of_time

            if not is_out_of_time(error):
                raise
        if faulty is None or self.options.strict:
            raise remarks.rejected(verification, result, faulty, is_late=time.monotonic() > until)
        self.exclude(faulty)

    def tuned(self, candidate: _Candidate, converted: ConvertedModel) -> _Candidate:
        """Find the heuristic choices that are faster here, or remember them; the result with these, or the original."""
        self.tuning = tuning = self.tune()
        self.config = RunConfig(self.config.exclusions | tuning.choices.exclusions, tuning.choices.force)
        if tuning.keeps_original:
            self.remarks.append(remarks.nothing_faster(tuning))
            return self.verified(self.original_result(), converted)
        if tuning.choices.left_out or tuning.choices.force:
            return self.verified(self.rewrite(self.runner.fresh()), converted)
        return candidate

    def tune(self) -> Tuning:
        """What tuning finds, or what the cache has of the same model, machine and inputs."""
        from .tune import Tuner
        from .tuning_cache import TuningCache, cache_key

        options, evaluation = self.options, self.evaluation
        with_session = options.save_session_options is not None
        cache = None if options.tune_cache == "off" else TuningCache(options.tune_cache)
        key, tuning = "", None
        if cache is not None:
            model, feeds = self.runner.fresh().model, evaluation.timed_feeds.feeds
            key = cache_key(self.runner, model, feeds, evaluation.how, with_session=with_session)
            tuning = cache.find(key, options.tune_budget)
        if tuning is None:
            tuner = Tuner(
                self.runner,
                evaluation,
                self.config.exclusions,
                self.folder,
                budget_s=options.tune_budget,
                with_session=with_session,
                tell=self.tell,
            )
            tuning = tuner.run()
            if cache is not None:
                cache.keep(key, tuning)
        return tuning

    def check_determinism(self, result: PipelineResult) -> None:
        """Raise VerificationError where another run gives another model: the next build may be wrong."""
        other = self.runner.run(self.config, on_failure="skip")
        if ir.fingerprint(other.model) != ir.fingerprint(result.model):
            raise remarks.not_deterministic(result, other)

    def measured(self, candidate: _Candidate, converted: ConvertedModel) -> Result:
        """Deliver the result; the original where it is measured to be slower, unless that is wanted."""
        result = self.result_of(candidate, converted)
        if self.options.measure or self.gates.need_measurement:
            result.measurement = self.evaluation.measure(candidate.staged.path, result.model)
            speed = _slower(result.measurement)
            if speed is not None and candidate.result.rewrites and not self.options.keep_slower:
                self.remarks.append(remarks.slower(speed))
                return self.measured(self.verified(self.original_result(), converted), converted)
        self.deliver(result, candidate.staged)
        return result

    def deliver(self, result: Result, staged: ir.Staged) -> None:
        """Profile and record what was asked for, then rename the staged file into place.

        Raises GateError where the result misses a figure that was required.
        """
        result.gates = tuple(self.gates.of(result))
        problem = missed(result.gates)
        if self.options.model_profile:
            result.model_profile = self.evaluation.model_profile(staged.path, result.model)
        written = None if self.output is None or problem else file_hashes(staged.path, staged.data)
        result.build = build_record(self.options, self.original_hashes, written)
        if problem:
            raise GateError(problem, result)
        if self.options.save_session_options is not None and result.tuning is not None:
            result.tuning.write_session_options(self.options.save_session_options)
        if self.output is not None:
            staged.commit()

    def pass_through(self, converted: ConvertedModel, lost: Sequence[str]) -> Result:
        """Deliver unchanged what rewriting would damage."""
        self.remarks.append(remarks.passed_through(lost))
        staged = self.stage(partial(self.source.stage_unchanged, converted.model))
        result = PipelineResult.unchanged(converted.model, str(self.runner.pipeline))
        return self.measured(_Candidate(result, staged, _identical() if self.options.verify else None), converted)

    # --- what the steps use -----------------------------------------------------------------------------------------

    @cached_property
    def evaluation(self) -> Evaluation:
        """Created when it is needed: ONNX Runtime takes a moment, and `--no-verify` does without."""
        from .evaluation import Evaluation

        return Evaluation(self.source, self.options, self.folder, self.tell)

    def stage(self, write: Callable[[Path], ir.Staged]) -> ir.Staged:
        """Write a candidate beside the place where it will go; the one before it is discarded."""
        self.tell("write")
        self.staged_files.close()
        return self.staged_files.enter_context(write(self.output or self.folder / "result.onnx"))

    def original_result(self) -> PipelineResult:
        """The original as a result without rewrites."""
        return PipelineResult.unchanged(self.runner.fresh().model, str(self.runner.pipeline))

    @property
    def reproducer_dir(self) -> Path | None:
        """Where reproducers go: by default beside the output."""
        beside = None if self.output is None else self.output.with_name(f"{self.output.name}.reproducers")
        return self.options.reproducer_dir or beside

    @property
    def writes_reproducers(self) -> bool:
        """Whether reproducers are written."""
        return self.options.verify and self.reproducer_dir is not None

    def write_reproducer(self, faulty: FaultyRewrite, before: ir.Model, number: int) -> str:
        """Write the reproducer of a faulty rewrite of `before`; its command."""
        from .evaluation import as_verification_error
        from .reproducer import write_reproducer

        folder = self.reproducer_dir or self.folder
        with as_verification_error():
            feeds = self.evaluation.feeds[self.failed_on].feeds
        target = folder / f"{number}-{faulty.rule}"
        return write_reproducer(target, before, faulty.rule, faulty.where, feeds, self.runner)

    def result_of(self, candidate: _Candidate, converted: ConvertedModel) -> Result:
        """What the caller gets of a candidate."""
        result, staged, faulty = candidate.result, candidate.staged, self.isolator.faulty_rewrites
        before, after = self.original_partitions, partitions_of(result.model, self.runner.settings.target)
        return Result(
            result.model,
            self.original_size,
            size_of(result.model, sum(file.stat().st_size for file in (staged.path, *staged.data))),
            result.rewrites,
            result.missed,
            [
                *self.remarks,
                *result.remarks,
                *remarks.special_values(result),
                *remarks.not_verifiable(result),
                *(each.remark() for each in faulty),
            ],
            tuple(faulty),
            exactness_of(result, converted),
            result.pipeline,
            _pass_uses(result),
            result.log.uses,
            candidate.verification,
            tuning=self.tuning,
            partitions=None if before is None or after is None else (before, after),
        )


def _pass_uses(result: PipelineResult) -> dict[str, PassUse]:
    """By pass, in order of the first run."""
    found: dict[str, PassUse] = {}
    for each in result.results:
        found[each.name] = found.get(each.name, PassUse()) + PassUse(1, each.changed, each.rewrites, each.seconds)
    return found


def _identical() -> Verification:
    from ...runtime import Verification

    return Verification(ok=True, exact=True, notes=("the file is delivered byte for byte as it was",))


def _slower(measurement: Measurement) -> Ratio | None:
    """The worst speed of a result that is slower with confidence at some point and faster at none; else None."""
    speeds = [point.standings[1].timing.speed for point in measurement.points]
    if any(speed.is_faster for speed in speeds) or not any(speed.is_slower for speed in speeds):
        return None
    return min(speeds, key=lambda each: each.median)
