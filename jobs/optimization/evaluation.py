"""Evidence about results: whether they compute what the original computes, and how fast."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ... import ir, runtime
from ...options import Options
from ...passes.analyses.model_stats import live_bytes, live_bytes_of, operator
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.pipeline import PipelineResult
from ...passes.targets.target_file import find
from ...runtime.benchmark.peak_memory import available_memory
from ..measure import Measurement, Subject, measure_on, point_feeds, shapes_of
from ..model_profile import ModelProfile
from ..model_source import Source
from .pipeline_runner import exactness_of
from .target_versions import ConvertedModel, provider_of

PROFILES = 3
HELD = 3  # times the activations that live at once in a run: outputs of several runs and moved inputs are held beside
HALVING = "convert-to-fp16"


class Evaluation:
    """The original as ONNX Runtime runs it, beside any number of results. What is computed of it is computed once."""

    def __init__(self, source: Source, options: Options, folder: Path, tell: Callable[[str], None]) -> None:
        runtime.check_installation()
        self.source, self.options, self.tell, self.folder = source, options, tell, folder
        file = find(options.target)
        if not file.libraries:
            file.register_bodies()
        threads = 1 if options.threads is None else options.threads
        self.how = runtime.SessionOptions(
            provider=provider_of(options.target, options.provider),
            threads=threads,
            custom_ops=(*options.custom_ops, *file.libraries),
            seed=options.seed,
        )
        self._references: dict[tuple[bool, bool], runtime.Reference] = {}
        self.spent = 0.0  # of the time limit of the first verification: on inputs

    @cached_property
    def original(self) -> Path:
        """The file of the original."""
        return self.source.file(self.folder)

    @cached_property
    def model(self) -> ir.Model:
        """The original."""
        return self.source.load()

    @cached_property
    def feeds(self) -> Sequence[runtime.FeedSet]:
        """Sets of inputs that the original accepts: the user's own first."""
        self.tell("inputs")
        start, seconds = time.monotonic(), self.options.verify_timeout
        plain = replace(self.how, optimize=False, arena=False)
        made = runtime.usable_feeds(
            runtime.open_session(self.original, plain, time_limit_s=seconds),
            self.model,
            self.options.inputs,
            seed=self.options.seed,
            options=runtime.TrialOptions(until=start + seconds, budget=self.budget),
        )
        self.spent = time.monotonic() - start
        return made

    @property
    def budget(self) -> runtime.Budget | None:
        """Half of the memory that is free, for the arrays of a verification; None where the model has one size only."""
        free = available_memory()
        if free is None or all(
            value.shape is not None and value.shape.is_static() for value in self.model.graph.inputs
        ):
            return None
        live = live_bytes_of(self.model)

        def needed(shapes: Mapping[str, Sequence[int]]) -> int:
            inputs = sum(math.prod(shape) * 4 for shape in shapes.values())
            return HELD * max(live(shapes) or (), default=inputs)

        return runtime.Budget(free // 2, needed)

    @cached_property
    def timed_feeds(self) -> runtime.FeedSet:
        """What speed is measured on: the user's own inputs, else sizes that a user is likely to run, not small ones."""
        if self.options.inputs:
            return self.feeds[0]
        (typical,) = point_feeds(Subject(self.original, self.model), at=(), options=self.how)
        return typical

    def reference(self, exact: bool, in_half: bool) -> runtime.Reference:
        """The original as what results are compared with: bit for bit, or in float16."""
        if (exact, in_half) not in self._references:
            self._references[exact, in_half] = runtime.Reference(
                self.original,
                self.how,
                runtime.Criteria(exact, self.options.rtol, self.options.atol, in_half),
                model=self.model,
            )
        return self._references[exact, in_half]

    def verify(self, path: Path, report: PipelineResult, converted: ConvertedModel) -> runtime.Verification:
        """Compare the file at `path` with the original on every set of inputs."""
        with as_verification_error():
            feeds = self.feeds
            self.tell("verify")
            seconds, self.spent = self.options.verify_timeout - self.spent, 0.0
            reference = self._reference_for(report, converted)
            return runtime.check_result(reference, path, feeds, seconds, result_model=report.model)

    def problem(self, report: PipelineResult, failed: runtime.Verification, until: float) -> str:
        """Why another result is wrong, compared as one that `failed` was and on the inputs where it did; else empty.

        Raises ModelError (`time-limit`) where that cannot be told before `until`.
        """
        feeds = self.feeds if failed.failed_on is None else [self.feeds[failed.failed_on]]
        reference = self.reference(failed.exact, computes_in_half(report))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            path = Path(name) / "probe.onnx"
            ir.save(report.model, path)
            left = until - time.monotonic()
            return runtime.check_result(reference, path, feeds, left, result_model=report.model).problem

    def measure(self, path: Path, model: ir.Model) -> Measurement:
        """The original and a result side by side, at the sizes that were asked for."""
        self.tell("measure")
        subjects = [Subject(self.original, self.model), Subject(path, model)]
        points = self.options.measure_at
        sets = point_feeds(subjects[0], at=points, options=self.how) if points else [self.timed_feeds]
        return measure_on(sets, subjects, self.how, seconds=self.options.measure_seconds, progress=self.tell)

    def model_profile(self, path: Path, model: ir.Model) -> tuple[ModelProfile, ModelProfile]:
        """The original and a result from inside, on what speed is measured on."""
        self.tell("profile")
        feeds = self.timed_feeds.feeds
        shapes = shapes_of(feeds)
        sides = ((self.original, self.model), (path, model))
        # In turn, and of each the quietest session: another process may have been busy during one of them.
        profiles = [[runtime.profile(each, feeds, self.how) for each, _ in sides] for _ in range(PROFILES)]
        before, after = (
            ModelProfile(
                Counter(operator(node) for node in ir.nodes(each) if node.op_type != "Constant"),
                min((both[place] for both in profiles), key=lambda found: found.microseconds),
                live_bytes(each, shapes),
            )
            for place, (_, each) in enumerate(sides)
        )
        return before, after

    def _reference_for(self, report: PipelineResult, converted: ConvertedModel) -> runtime.Reference:
        return self.reference(exactness_of(report, converted) is Exactness.EXACT, computes_in_half(report))


def computes_in_half(report: PipelineResult) -> bool:
    """Whether a result is to be compared as float16."""
    return any(rewrite.rule == HALVING for rewrite in report.rewrites)


@contextmanager
def as_verification_error() -> Iterator[None]:
    """What ONNX Runtime does not run cannot be verified, and so is not written."""
    try:
        yield
    except ir.ModelError as error:
        found = error.diagnostic
        is_late = runtime.is_out_of_time(error)
        if not is_late and found.code not in ("onnxruntime-refuses-model", "run-failed", "no-usable-inputs"):
            raise
        hint = "nothing was written; --inputs, --custom-ops or --no-verify may help"
        if is_late:
            hint = (
                "nothing was written; --verify-timeout gives more time, --dim and --input-shape make smaller inputs, "
                "--no-verify goes without"
            )
        raise ir.VerificationError(replace(found, hint=f"{found.hint}; {hint}" if found.hint else hint)) from error
