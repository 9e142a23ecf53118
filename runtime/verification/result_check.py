"""Check one result against the reference on sets of inputs, within a time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ... import ir
from ..arrays import as_numbers, is_inexact, leaves
from ..inputs.feeds import FeedSet
from ..ort.session import is_out_of_time
from ..ort.session_options import Array, Feeds, Outputs
from ..ort.session_pool import Subject
from .comparison import compare, scale_of
from .intermediate_values import Unconfirmed, unconfirmed
from .judge import Judge, out_of_time
from .model_traits import draws_random_numbers, has_unknown_operators
from .reference import Expectation, Reference, Source
from .result import Verification

GROSS, GROSS_FACTOR = 0.25, 4.0
"""The error that a quantized result may have with optimizations on: a share of its scale, and a multiple of the
original's error."""


def check_result(
    reference: Reference,
    result: Source,
    feed_sets: Sequence[FeedSet],
    time_limit_s: float | None = None,
    result_model: ir.Model | None = None,
) -> Verification:
    """Compare a result with the original. Raises ModelError when the original does not run.

    A result that draws random numbers where the original draws none fails without a run; one with operators of
    unknown definition is run twice. Both follow from `result_model`, where it is given.
    """
    if result_model is not None and not reference.random and draws_random_numbers(result_model):
        return Verification(False, reference.exact, problem="it draws random numbers, which the original does not")
    runs_twice = result_model is not None and has_unknown_operators(result_model)
    try:
        return ResultCheck(reference, result, result_model, runs_twice=runs_twice).on_all(feed_sets, time_limit_s)
    finally:
        reference.until = None
        reference.pool.close()


class ResultCheck:
    """One result against the reference. `runs_twice`: whether two runs of the result must agree, too."""

    def __init__(
        self, reference: Reference, result: Path | bytes, result_model: ir.Model | None, *, runs_twice: bool
    ) -> None:
        self.reference, self.runs_twice = reference, runs_twice
        self.result_model = result_model
        self.is_confirmed = False  # whether intermediate values were compared where outputs are weak tests
        self.is_weak = False
        self.result = Subject(result, reference.plain, reference.pool, fresh=reference.random)
        self.result_deployed = Subject(result, reference.deployed, reference.pool, fresh=reference.random)
        self.result_again = Subject(result, reference.reseeded.options, reference.pool, fresh=True)
        self.notes: dict[str, None] = {}
        self.judge = Judge(reference, self.notes)

    def on_all(self, feed_sets: Sequence[FeedSet], time_limit_s: float | None) -> Verification:
        """Compare on every set of inputs until one differs or the time is over; at least one set is compared."""
        start = time.monotonic()
        self.judge.until = math.inf if time_limit_s is None else start + time_limit_s
        self.reference.until = None if time_limit_s is None else self.judge.until
        covered: list[str] = []
        try:
            problem = self._interface_problem()
        except ir.ModelError as error:
            if not is_out_of_time(error):
                raise
            raise self._nothing_compared(error, time_limit_s, f"none of {len(feed_sets)} input sets") from error
        failed_on: int | None = None
        for index, feed_set in enumerate(feed_sets):
            if problem:
                break
            try:
                if time.monotonic() > self.judge.until and covered:
                    raise out_of_time()
                problem = self.problem_on(feed_set.feeds)
            except ir.ModelError as error:
                if not is_out_of_time(error):
                    raise
                compared = f"{len(covered)} of {len(feed_sets)} input sets"
                if not covered:
                    raise self._nothing_compared(error, time_limit_s, compared) from error
                self.notes.setdefault(
                    f"time limit of {time_limit_s:.3g} s reached after {compared}, in {self.reference.stage}: the "
                    "others were not compared; --verify-timeout gives more time"
                )
                break
            if problem:
                failed_on = index
            covered.append(feed_set.description)
        if not feed_sets and not problem:
            problem = "there are no inputs to compare on"
        return self._verification(problem, failed_on, covered, time.monotonic() - start)

    def _verification(
        self, problem: str, failed_on: int | None, covered: Sequence[str], seconds: float
    ) -> Verification:
        worst = self.judge.worst
        return Verification(
            ok=not problem,
            exact=self.reference.exact,
            inputs=tuple(covered),
            floor=self.judge.floor,
            error=worst.relative if worst else 0.0,
            worst=worst,
            problem=problem,
            failed_on=failed_on,
            weak=self.is_weak,
            notes=tuple({**self.reference.notes, **self.notes}),
            seconds=seconds,
        )

    def _nothing_compared(self, error: ir.ModelError, seconds: float | None, compared: str) -> ir.ModelError:
        limit = "" if seconds is None else f" of {seconds:.3g} s"
        end = f"the time limit{limit} of verification ended {self.reference.stage}, {compared} were compared"
        return ir.ModelError(replace(error.diagnostic, message=f"{error.diagnostic.message}: {end}"))

    def _interface_problem(self) -> str:
        """The difference in names, order or types of inputs and outputs, as ONNX Runtime sees them; or empty."""
        until = self.reference.until
        self.reference.stage = "loading"
        before = self.reference.original.session(until)
        try:
            after = self.result.session(until)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return error.diagnostic.message
        for kind, ours, theirs in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
            want, got = [(port.name, port.type) for port in ours], [(port.name, port.type) for port in theirs]
            if want != got:
                return f"the {kind}s are {got} instead of {want}"
        return ""

    def problem_on(self, feeds: Feeds) -> str:
        """The difference between the two on one set of inputs; empty when they agree."""
        expected = self.reference.expect(feeds)
        self.judge.floor = max(self.judge.floor, expected.noise.relative)
        try:
            self.reference.stage = "the result's run"
            got = self.result.run(feeds, self.reference.until)
            self.reference.stage = "the second look at the result"
            exact = self.reference.exact
            verdict = self.judge.judge(expected, expected.plain, got, expected.limited, exact=exact)
            if not verdict:
                self.is_weak = bool(self.judge.judge(expected, expected.plain, got, expected.allowed, exact=False))
                return verdict.problem
            if problem := self._weak_problem(expected):
                self.is_weak = True
                return problem
            if self.runs_twice and (problem := self._rerun_problem(expected, got)):
                return problem
            return self._deployed_problem(expected) if expected.deployed is not None else ""
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return error.diagnostic.message

    def _weak_problem(self, expected: Expectation) -> str:
        """Compare intermediate values where outputs are weak tests, on the first such inputs."""
        reference = self.reference
        if self.is_confirmed or reference.exact or reference.random or not reference.criteria.is_strict:
            return ""
        if not (weak := reference.weak_outputs(expected)):
            return ""
        self.is_confirmed = True
        try:
            result = self.result_model or reference.load_model(self.result.source)
            left = unconfirmed(reference.model, result, expected.feeds, reference.load, grain=reference.grain)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            left = [Unconfirmed("", f"it does not run in pieces ({error.diagnostic.message})")]
        names = ", ".join(weak[:3])
        if left:
            return f"{names}: the outputs hardly depend on what is computed for them, and inside {left[0]}"
        self.notes.setdefault(f"{names}: hardly depends on what is computed for it; compared at inner values, too")
        return ""

    def _rerun_problem(self, expected: Expectation, got: Outputs) -> str:
        """The difference beyond the noise between two runs of the result in two sessions; empty when they agree."""
        again = compare(got, self.result_again.run(expected.feeds, self.reference.until), expected.allowed)
        return "" if again else f"two runs of the result differ: {again.problem}"

    def _deployed_problem(self, expected: Expectation) -> str:
        """The difference with ONNX Runtime's optimizations on, as users run models.

        Never bit for bit: a fusion may depend on a node that does nothing. Quantized models, where it moves roundings
        across whole steps, need only run, have the same types and dims, and no gross error.
        """
        deployed = expected.deployed
        assert deployed is not None
        self.reference.stage = "the result's run with optimizations on"
        got = self.result_deployed.run(expected.feeds, self.reference.until)
        if self.reference.quantized:
            shapes = {path: replace(tolerance, values=False) for path, tolerance in expected.allowed.items()}
            verdict = compare(deployed, got, shapes)
            if verdict and (problem := _gross_error(expected.plain, deployed, got)):
                return f"with ONNX Runtime's optimizations on: {problem}"
        else:
            verdict = self.judge.judge(expected, deployed, got, expected.allowed, exact=False)
        if verdict:
            return ""
        if compare(expected.plain, got, expected.allowed):
            # Then its optimizations are wrong about the original, and right about the result.
            self.notes.setdefault("with ONNX Runtime's optimizations on, only the result computes what the model says")
            return ""
        return f"with ONNX Runtime's optimizations on: {verdict.problem}"


def _gross_error(plain: Outputs, deployed: Outputs, got: Outputs) -> str:
    """The error of a quantized result with optimizations on that roundings to whole steps do not explain, or empty.

    That is `GROSS` of the largest magnitude and `GROSS_FACTOR` times what optimizations change in the original:
    where ONNX Runtime breaks a DequantizeLinear (int8 without a zero point, moved behind a Transpose below opset 21),
    negative numbers become 0. Integers and labels are not compared.
    """
    ours, base, theirs = leaves(plain), leaves(deployed), leaves(got)
    for path, want in ours.items():
        arrays = [np.asarray(outputs[path]) for outputs in (ours, base, theirs) if path in outputs]
        if len(arrays) < 3 or not is_inexact(arrays[0]) or len({array.shape for array in arrays}) > 1:
            continue
        exact, before, after = map(as_numbers, arrays)
        with np.errstate(invalid="ignore"):
            usual, error = np.abs(before - exact), np.abs(after - exact)
        limit = max(GROSS * scale_of(np.asarray(want)), GROSS_FACTOR * _largest_finite(usual))
        if (worst := _largest_finite(error)) > limit:
            return f"{path}: off by {worst:.3g}, where the original is off by {_largest_finite(usual):.3g}"
    return ""


def _largest_finite(magnitudes: Array) -> float:
    return float(np.max(magnitudes, where=np.isfinite(magnitudes), initial=0.0))
