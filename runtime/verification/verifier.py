"""Verification: whether the result computes what the original computes, on several inputs, before it is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ... import ir
from ...ir.subgraph import tapped
from ..inputs.feed_generator import KEPT
from ..inputs.feeds import FeedSet
from ..ort.session import TIME_LIMIT, is_out_of_time
from ..ort.session_options import Array, Feeds, Outputs, SessionOptions
from ..ort.session_pool import MOST_OPEN, SMALL, SessionPool, Subject
from .comparison import (
    EXACT,
    Element,
    Tolerance,
    Verdict,
    array_bytes,
    as_numbers,
    compare,
    is_inexact,
    leaves,
    scale_of,
)
from .float64_reference import truth
from .intermediate_values import Unconfirmed, unconfirmed
from .near_ties import forgiven
from .noise_floor import (
    FACTOR,
    HALF_EPS,
    HALF_FACTOR,
    Noise,
    NoiseMeter,
    computes_in_half,
    draws_random_numbers,
    grain,
    has_unknown_operators,
    is_bounded,
    is_quantized,
    noise_floor,
    perturb,
    perturbed_weights,
    rounded_weights,
    same_distribution,
    shake,
    shaken_weights,
    to_half,
)
from .result import Verification

Source = Path | bytes
TRUTH_S = 60.0  # at most, for float64
PROBES, MORE_PROBES = (1, 2), (3, 4, 5, 6)  # seeds; more where a rounding grows on its way to an output
AS_NEAR = 2.0
"""How many times as far from the truth as the original a result may be."""
GROSS, GROSS_FACTOR = 0.25, 4.0
"""How far off a quantized result may be with optimizations on: of its scale, and times what the original is off."""
RESEED = 12_345  # the C++ engine draws the same numbers from seed 0 and seed 1, and nodes add their index


def verify(
    original: Source,
    result: Source,
    feed_sets: Sequence[FeedSet],
    options: SessionOptions | None = None,
    *,
    exact: bool = False,
    rtol: float | None = None,
    atol: float | None = None,
    time_limit_s: float | None = None,
    model: ir.Model | None = None,
    in_half: bool = False,
) -> Verification:
    """Compare the outputs of two models on `feed_sets`, with ONNX Runtime's optimizations off and on.

    `exact`: bit for bit while they are off. `rtol` and `atol` replace the noise floor. At least one set is compared,
    whatever the time limit. `model` is the original, if it is at hand. `in_half`: the result computes in float16 what
    the original computes in float32, so that the noise is what rounding inputs and weights to float16 changes.
    Raises ModelError when the original does not run, MachineError when ONNX Runtime lacks something.
    """
    reference = Reference(original, options, exact=exact, rtol=rtol, atol=atol, model=model, in_half=in_half)
    return reference.verify(result, feed_sets, time_limit_s)


@dataclass(frozen=True)
class _Expected:
    """What the original gives on one set of inputs, and how far a result may be off.

    `allowed` is what its noise allows, with ONNX Runtime's optimizations on; `limited` is less where outputs are weak.
    """

    feeds: Feeds
    plain: Outputs
    deployed: Outputs | None
    noise: Noise
    allowed: Mapping[str, Tolerance]
    limited: Mapping[str, Tolerance]

    @property
    def floor(self) -> float:
        return self.noise.relative


class Reference:
    """The original in ONNX Runtime: its outputs and noise on each set of inputs, computed once for many results.

    The arguments are those of `verify`. `looks_again`: what is beyond the noise gets a second look (ties, float64),
    which takes a second or more.
    """

    def __init__(
        self,
        original: Source,
        options: SessionOptions | None = None,
        *,
        exact: bool = False,
        rtol: float | None = None,
        atol: float | None = None,
        model: ir.Model | None = None,
        in_half: bool = False,
        looks_again: bool = True,
    ) -> None:
        if model is None:
            model = _loaded(original)
        options = options or SessionOptions()
        half = exact and computes_in_half(model)
        self.exact = exact and not half and rtol is None and atol is None
        self.rounded = in_half
        self.looks_again = looks_again
        self.model, self.rtol, self.atol = model, rtol, atol
        self.random = draws_random_numbers(model)
        self.unknown = has_unknown_operators(model)
        self.quantized = is_quantized(model)
        self.grain = max(grain(model), HALF_EPS) if in_half else grain(model)
        options = replace(options, tf32=False, arena=False)
        self.plain = replace(options, optimize=False, prepacking=options.prepacking and not self.exact)
        self.deployed = replace(options, optimize=True)
        self.pool = SessionPool(None if ir.content_bytes(model) <= SMALL else MOST_OPEN)
        self.original = Subject(original, self.plain, self.pool, fresh=self.random)
        self.original_deployed = Subject(original, self.deployed, self.pool, fresh=self.random)
        self.reseeded = Subject(original, replace(self.plain, seed=self.plain.seed + RESEED), self.pool, fresh=True)
        self.until: float | None = None
        self.stage = ""  # what is being run
        self.known: dict[int, _Expected] = {}  # by the id of the feeds, which an entry keeps alive
        self.truths: dict[int, tuple[Feeds, Outputs | None]] = {}
        self.notes: dict[str, None] = {}
        if in_half:
            self.note("computed in float16: the noise is what rounding inputs and weights to float16 changes")
            if options.provider == "cpu":
                self.note("the processor keeps float32 between most operators: only provider cuda shows what overflows")
        if half:
            self.note("float16: compared within roundings, which ONNX Runtime places by the neighbours of a node")
        if self.quantized:
            self.note("quantized: compared with ONNX Runtime's optimizations off, and run with them on")

    def verify(
        self,
        result: Source,
        feed_sets: Sequence[FeedSet],
        time_limit_s: float | None = None,
        result_model: ir.Model | None = None,
    ) -> Verification:
        """Compare a result with the original. Raises ModelError when the original does not run.

        A result that draws random numbers where the original draws none is refused outright. Whether operators that
        nothing here defines do so is seen by running it twice. Both are known by `result_model`, when that is at hand.
        """
        if result_model is not None and not self.random and draws_random_numbers(result_model):
            return Verification(False, self.exact, problem="it draws random numbers, which the original does not")
        runs_twice = result_model is not None and has_unknown_operators(result_model)
        try:
            return _Check(self, result, result_model, runs_twice=runs_twice).over(feed_sets, time_limit_s)
        finally:
            self.until = None
            self.pool.close()

    def note(self, text: str) -> None:
        self.notes.setdefault(text)

    def expect(self, feeds: Feeds) -> _Expected:
        """What the original gives, computed when it is first asked for."""
        found = self.known.get(id(feeds))
        if found is None:
            found = self.computed(feeds)
            if array_bytes(feeds, found.plain, found.deployed or {}) <= KEPT:
                self.known[id(feeds)] = found
        return found

    def computed(self, feeds: Feeds) -> _Expected:
        self.stage = "the original's run"
        plain = self.original.run(feeds, self.until)
        self.stage = "the original's noise probes"
        meter = NoiseMeter(plain, self.grain)
        for outputs in self.probes(feeds):
            meter.add(outputs)
        self.stage = "the original's run with optimizations on"
        deployed = self.run_deployed(feeds)
        if deployed is not None and not self.quantized:
            meter.add_level(deployed)
        self.stage = "the original's noise probes"
        if meter.noise().amplifies and not self.rounded:
            for outputs in self.perturbed(feeds, MORE_PROBES):
                meter.add(outputs)
        noise = meter.noise()
        factor = HALF_FACTOR if self.rounded else FACTOR
        tolerances = noise.tolerances(rtol=self.rtol, atol=self.atol, factor=factor)
        for text in noise.notes:
            self.note(text)
        allowed = {**tolerances, **self.drawn(feeds, plain, noise)}
        limited = allowed
        if self.is_strict and not self.quantized:  # there a rounding is a whole step, and the steps are the model's own
            limited = {path: self.limit(path, each, noise) for path, each in allowed.items()}
        return _Expected(feeds, plain, deployed, noise, allowed, limited)

    @property
    def is_strict(self) -> bool:
        """Whether the noise alone decides: no tolerance was asked for, and nothing is rounded on purpose."""
        return not (self.rtol is not None or self.atol is not None or self.rounded)

    def limit(self, path: str, allowed: Tolerance, noise: Noise) -> Tolerance:
        """What a weak output may be off, see `Floor.limited`."""
        floor = noise.floors[path]
        return floor.limited(self.reach.get(path, 0.0)) if floor.is_weak and allowed.values else allowed

    @cached_property
    def reach(self) -> dict[str, float]:
        """The largest magnitude of what gives an output, of those outputs that an operator bounds by 1."""
        return {output.name or "": 1.0 for output in self.model.graph.outputs if is_bounded(output)}

    def weak(self, expected: _Expected) -> list[str]:
        """The outputs that hardly tell what is computed for them: they are noise, or a tenth more or less is unseen."""
        weak = [path for path, floor in expected.noise.floors.items() if floor.is_weak]
        shaken = None
        if perturb(expected.feeds, 0) is not None:
            shaken = self.tried(self.original, shake(expected.feeds))
        elif weights := shaken_weights(self.model):
            subject = Subject(self.original.source, self.plain, self.pool, fresh=True, weights=weights)
            shaken = self.tried(subject, expected.feeds)
        if shaken is not None:
            unmoved = (
                name
                for name, want in expected.plain.items()
                if compare({name: want}, {name: shaken[name]}, expected.allowed)
            )
            weak = list(dict.fromkeys([*weak, *unmoved]))
        return weak

    def load(self, data: bytes) -> Callable[[Feeds], Outputs]:
        """A serialized model to be run as the original is, with ONNX Runtime's optimizations off."""
        return partial(Subject(data, self.plain, self.pool).run, until=self.until)

    @property
    def has_second_opinion(self) -> bool:
        """Whether what is beyond the noise may still be right: not where a tolerance was asked for, say."""
        return self.looks_again and self.is_strict and not (self.random or self.quantized)

    def truth(self, expected: _Expected, seconds: float) -> Outputs | None:
        """The outputs in float64; computed when it is first asked for."""
        feeds = expected.feeds
        if id(feeds) in self.truths:
            return self.truths[id(feeds)][1]
        found = truth(self.model, feeds, expected.plain, seconds=seconds)
        if array_bytes(feeds, found or {}) <= KEPT:
            self.truths[id(feeds)] = feeds, found
        return found

    def scores(self, value: ir.Value, expected: _Expected) -> tuple[Array, Tolerance] | None:
        """What the original computes for an inner value, and the noise of it."""
        name = value.name or ""
        try:
            run = self.load(tapped(self.model, [value]))
            base = run(expected.feeds)[name]
            moved = [each for seed in PROBES if (each := perturb(expected.feeds, seed)) is not None]
            others = [run(each)[name] for each in moved]
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return None
        except KeyError:
            return None
        noise = noise_floor({name: base}, [{name: each} for each in others], grain=self.grain)
        return (base, noise.tolerances()[name]) if isinstance(base, np.ndarray) else None

    def run_deployed(self, feeds: Feeds) -> Outputs | None:
        try:
            return self.original_deployed.run(feeds, self.until)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            self.note(f"not compared with optimizations on, where the original fails: {error.diagnostic.message}")
            return None

    def probes(self, feeds: Feeds) -> Iterator[Outputs]:
        """The original's outputs after changes of 1 ulp, of the float inputs, else of weights; one after the other."""
        if self.rounded:
            yield from self.roundings(feeds)
        elif perturb(feeds, PROBES[0]) is not None:
            yield from self.perturbed(feeds, PROBES)
        elif not self.random and (outputs := self.tried(self.with_other_weights(), feeds)) is not None:
            yield outputs

    def perturbed(self, feeds: Feeds, seeds: Iterable[int]) -> Iterator[Outputs]:
        for seed in seeds:
            moved = perturb(feeds, seed)
            if moved is not None and (outputs := self.tried(self.original, moved)) is not None:
                yield outputs

    def roundings(self, feeds: Feeds) -> Iterator[Outputs]:
        """The original's outputs from inputs and weights that were rounded to float16."""
        rounded = {name: to_half(datum) if isinstance(datum, np.ndarray) else datum for name, datum in feeds.items()}
        for subject in (self.original, self.with_other_weights()):
            if (outputs := self.tried(subject, rounded)) is not None:
                yield outputs

    def tried(self, subject: Subject | None, feeds: Feeds) -> Outputs | None:
        try:
            return None if subject is None else subject.run(feeds, self.until)
        except ir.ModelError as error:  # an input at the edge of what the model accepts, weights that must stay
            if is_out_of_time(error):
                raise
            return None

    def with_other_weights(self) -> Subject | None:
        """The original with its weights rounded to float16, where results are; else with weights moved by 1 ulp."""
        weights = rounded_weights(self.model) if self.rounded else perturbed_weights(self.model, seed=1)
        return Subject(self.original.source, self.plain, self.pool, fresh=True, weights=weights) if weights else None

    def drawn(self, feeds: Feeds, want: Outputs, noise: Noise) -> dict[str, Tolerance]:
        """What another seed changes in the original can be compared by type and rank only.

        So can what operators that nothing here defines change from one session to the next.
        """
        if not (self.random or self.unknown):
            return {}
        other = self.reseeded.run(feeds, self.until)
        free = Tolerance(values=False, dims=False)
        found: dict[str, Tolerance] = {}
        for path in noise.floors:
            name = path.split("[")[0].split("{")[0]
            if not compare({name: want[name]}, {name: other[name]}, noise.tolerances()):
                found[path] = free
                self.note(f"{name}: random in the original; only its type and rank are compared")
        return found


class _Check:
    """One result beside the original. `runs_twice`: whether two runs of the result must agree, too."""

    def __init__(
        self, reference: Reference, result: Source, result_model: ir.Model | None, *, runs_twice: bool
    ) -> None:
        self.reference, self.runs_twice = reference, runs_twice
        self.result_model = result_model
        self.is_confirmed = False  # whether what outputs cannot tell was looked at inside
        self.is_weak = False
        self.result = Subject(result, reference.plain, reference.pool, fresh=reference.random)
        self.result_deployed = Subject(result, reference.deployed, reference.pool, fresh=reference.random)
        reseeded = reference.reseeded.options
        self.result_again = Subject(result, reseeded, reference.pool, fresh=True)
        self.notes: dict[str, None] = {}
        self.until = math.inf
        self.floor = 0.0
        self.worst: Element | None = None

    def note(self, text: str) -> None:
        self.notes.setdefault(text)

    def over(self, feed_sets: Sequence[FeedSet], time_limit_s: float | None) -> Verification:
        start = time.monotonic()
        self.until = math.inf if time_limit_s is None else start + time_limit_s
        self.reference.until = None if time_limit_s is None else self.until
        covered: list[str] = []
        try:
            problem = self.interface_problem()
        except ir.ModelError as error:
            if not is_out_of_time(error):
                raise
            told = f"none of {len(feed_sets)} input sets"
            raise _nothing_compared(error, time_limit_s, self.reference.stage, told) from error
        failed_on: int | None = None
        for index, feed_set in enumerate(feed_sets):
            if problem:
                break
            try:
                if time.monotonic() > self.until and covered:
                    raise _out_of_time()
                problem = self.problem_on(feed_set.feeds)
            except ir.ModelError as error:
                if not is_out_of_time(error):
                    raise
                told = f"{len(covered)} of {len(feed_sets)} input sets"
                if not covered:
                    raise _nothing_compared(error, time_limit_s, self.reference.stage, told) from error
                self.note(
                    f"time limit of {time_limit_s:.3g} s reached after {told}, in {self.reference.stage}: the others "
                    "were not compared; --verify-timeout gives more time"
                )
                break
            if problem:
                failed_on = index
            covered.append(feed_set.description)
        if not feed_sets and not problem:
            problem = "there are no inputs to compare on"
        return Verification(
            ok=not problem,
            exact=self.reference.exact,
            inputs=tuple(covered),
            floor=self.floor,
            error=self.worst.relative if self.worst else 0.0,
            worst=self.worst,
            problem=problem,
            failed_on=failed_on,
            weak=self.is_weak,
            notes=tuple({**self.reference.notes, **self.notes}),
            seconds=time.monotonic() - start,
        )

    def interface_problem(self) -> str:
        """Whether names, order or types of inputs and outputs differ, as ONNX Runtime sees them."""
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
        """How the two differ on one set of inputs; empty when they agree."""
        expected = self.reference.expect(feeds)
        self.floor = max(self.floor, expected.floor)
        try:
            self.reference.stage = "the result's run"
            got = self.result.run(feeds, self.reference.until)
            self.reference.stage = "the second look at the result"
            verdict = self.judged(expected, expected.plain, got, expected.limited, exact=self.reference.exact)
            if not verdict:
                self.is_weak = bool(self.judged(expected, expected.plain, got, expected.allowed, exact=False))
                return verdict.problem
            if problem := self.weak_problem(expected):
                self.is_weak = True
                return problem
            if self.runs_twice and (problem := self.changing(expected, got)):
                return problem
            return self.deployed_problem(expected) if expected.deployed is not None else ""
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return error.diagnostic.message

    def weak_problem(self, expected: _Expected) -> str:
        """What could not be confirmed, where outputs alone cannot tell; looked at on the first such inputs."""
        reference = self.reference
        if self.is_confirmed or reference.exact or reference.random or not reference.is_strict:
            return ""
        if not (weak := reference.weak(expected)):
            return ""
        self.is_confirmed = True
        try:
            result = self.result_model or _loaded(self.result.source)
            left = unconfirmed(reference.model, result, expected.feeds, reference.load, grain=reference.grain)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            left = [Unconfirmed("", f"it does not run in pieces ({error.diagnostic.message})")]
        names = ", ".join(weak[:3])
        if left:
            return f"{names}: the outputs hardly depend on what is computed for them, and inside {left[0]}"
        self.note(f"{names}: hardly depends on what is computed for it; compared at inner values, too")
        return ""

    def changing(self, expected: _Expected, got: Outputs) -> str:
        """How two runs of the result in two sessions differ beyond the noise; empty when they agree."""
        again = compare(got, self.result_again.run(expected.feeds, self.reference.until), expected.allowed)
        return "" if again else f"two runs of the result differ: {again.problem}"

    def deployed_problem(self, expected: _Expected) -> str:
        """How the two differ with ONNX Runtime's optimizations on, as users run them.

        Never bit for bit: what it fuses may hang on a node that does nothing. Of quantized models, where it moves
        roundings across whole steps, only that the result runs, gives the same types and dims, and is not far off.
        """
        deployed = expected.deployed
        assert deployed is not None
        self.reference.stage = "the result's run with optimizations on"
        got = self.result_deployed.run(expected.feeds, self.reference.until)
        if self.reference.quantized:
            shapes = {path: replace(each, values=False) for path, each in expected.allowed.items()}
            verdict = compare(deployed, got, shapes)
            if verdict and (problem := _gross_problem(expected.plain, deployed, got)):
                return f"with ONNX Runtime's optimizations on: {problem}"
        else:
            verdict = self.judged(expected, deployed, got, expected.allowed, exact=False)
        if verdict:
            return ""
        if compare(expected.plain, got, expected.allowed):
            # Then its optimizations are wrong about the original, and right about the result.
            self.note("with ONNX Runtime's optimizations on, only the result computes what the model says")
            return ""
        return f"with ONNX Runtime's optimizations on: {verdict.problem}"

    def judged(
        self, expected: _Expected, want: Outputs, got: Outputs, allowed: Mapping[str, Tolerance], *, exact: bool
    ) -> Verdict:
        verdict = compare(want, got, sharpened(allowed) if exact else allowed)
        if not verdict and not exact and self.reference.is_strict:
            verdict = self.as_distributions(verdict, expected, want, got, allowed)
        if not verdict and not exact and self.reference.has_second_opinion:
            verdict = self.looked_at_again(verdict, expected, want, got, allowed)
        return self.weigh(verdict)

    def as_distributions(
        self, verdict: Verdict, expected: _Expected, want: Outputs, got: Outputs, allowed: Mapping[str, Tolerance]
    ) -> Verdict:
        """Outputs to which roundings grow may have a few elements that are further off than any probe was."""
        ours, theirs = leaves(want), leaves(got)
        alike = {
            path
            for path, floor in expected.noise.floors.items()
            if floor.amplifies and not floor.is_weak and path in ours and path in theirs
            if same_distribution(np.asarray(ours[path]), np.asarray(theirs[path]), floor)
        }
        again = compare(want, got, {**allowed, **dict.fromkeys(alike, Tolerance(values=False))})
        if not alike or not again:
            return verdict
        self.note(
            f"{', '.join(sorted(alike))}: a few elements are further off than the noise that was measured, whose "
            "distribution agrees"
        )
        return again

    def looked_at_again(
        self, verdict: Verdict, expected: _Expected, want: Outputs, got: Outputs, tolerances: Mapping[str, Tolerance]
    ) -> Verdict:
        """What is beyond the noise is right when it fell the other way in a tie, or is as near to the truth."""
        reference = self.reference
        allowed = dict(tolerances)
        ties = forgiven(reference.model, want, got, lambda value: reference.scores(value, expected))
        for name, count in ties.items():
            allowed[name] = Tolerance(values=False)
            self.note(f"{name}: {count} choices fell the other way between scores that agree")
        if ties and (again := compare(want, got, allowed)):
            return again
        # Of whole numbers it tells nothing: one that the evaluator gets wrong would let anything pass.
        left = self.until - time.monotonic()
        if left <= 0:
            raise _out_of_time()
        true = reference.truth(expected, min(TRUTH_S, left))
        if true is None:
            return verdict
        distance = noise_floor(true, [expected.plain], [want], grain=reference.grain)
        base = {name: true[name] if is_inexact(np.asarray(true[name])) else each for name, each in want.items()}
        near = distance.tolerances(factor=AS_NEAR)
        if again := compare(base, got, {path: _wider(each, near[path]) for path, each in allowed.items()}):
            self.floor = max(self.floor, distance.relative)
            self.note("as near to the float64 evaluation of the original as the original itself")
            return again
        return verdict

    def weigh(self, verdict: Verdict) -> Verdict:
        """Keep the worst element of all: of a failure first."""
        if verdict.worst is not None and (
            not verdict or self.worst is None or verdict.worst.relative > self.worst.relative
        ):
            self.worst = verdict.worst
        return verdict


def _gross_problem(plain: Outputs, deployed: Outputs, got: Outputs) -> str:
    """How a quantized result, optimized by ONNX Runtime, is off by more than roundings to whole steps explain.

    That is by `GROSS` of the largest magnitude and by `GROSS_FACTOR` times what optimizations change in the original:
    where ONNX Runtime breaks a DequantizeLinear (int8 without a zero point, moved behind a Transpose below opset 21),
    negative numbers become 0. Whole numbers and labels are not looked at.
    """
    ours, base, theirs = leaves(plain), leaves(deployed), leaves(got)
    for path, want in ours.items():
        arrays = [np.asarray(each[path]) for each in (ours, base, theirs) if path in each]
        if len(arrays) < 3 or not is_inexact(arrays[0]) or len({each.shape for each in arrays}) > 1:
            continue
        exact, before, after = (as_numbers(each) for each in arrays)
        with np.errstate(invalid="ignore"):
            usual, error = (np.abs(each - exact) for each in (before, after))
        limit = max(GROSS * scale_of(np.asarray(want)), GROSS_FACTOR * _largest_finite(usual))
        if (worst := _largest_finite(error)) > limit:
            return f"{path}: off by {worst:.3g}, where the original is off by {_largest_finite(usual):.3g}"
    return ""


def _largest_finite(magnitudes: Array) -> float:
    return float(np.max(magnitudes, where=np.isfinite(magnitudes), initial=0.0))


def _loaded(source: Source) -> ir.Model:
    return ir.from_proto(source) if isinstance(source, bytes) else ir.load(source, follow_symlinks=True)


def _out_of_time() -> ir.ModelError:
    return ir.ModelError(ir.Diagnostic(TIME_LIMIT, "the time limit of verification is over"))


def _nothing_compared(error: ir.ModelError, seconds: float | None, stage: str, told: str) -> ir.ModelError:
    limit = "" if seconds is None else f" of {seconds:.3g} s"
    message = f"{error.diagnostic.message}: the time limit{limit} of verification ended {stage}, {told} were compared"
    return ir.ModelError(replace(error.diagnostic, message=message))


def sharpened(allowed: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
    """Bit for bit, but for what is random."""
    return {path: EXACT if each.values else each for path, each in allowed.items()}


def _wider(one: Tolerance, other: Tolerance) -> Tolerance:
    """What is within either for floats, and within the first for the rest."""
    return replace(one, rtol=max(one.rtol, other.rtol), atol=max(one.atol, other.atol))
