"""The original in ONNX Runtime: its outputs and their noise on each set of inputs, computed once for many results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ... import ir
from ...ir.subgraph import tapped
from ..arrays import array_bytes
from ..inputs.feed_generator import KEPT
from ..ort.session import is_out_of_time
from ..ort.session_options import Array, Feeds, Outputs, SessionOptions
from ..ort.session_pool import MOST_OPEN, SMALL, SessionPool, Subject
from .comparison import Tolerance, compare
from .float64_reference import truth
from .model_traits import (
    computes_in_fp16,
    draws_random_numbers,
    grain,
    has_unknown_operators,
    is_bounded,
    is_quantized,
)
from .noise_floor import FACTOR, FP16_EPS, FP16_FACTOR, Noise, NoiseMeter, noise_floor
from .probes import perturb, perturbed_weights, round_to_fp16, rounded_weights, shake, shaken_weights

Source = Path | bytes
PROBES, MORE_PROBES = (1, 2), (3, 4, 5, 6)  # seeds; more where roundings are amplified on their way to an output
RESEED = 12_345  # the C++ engine draws the same numbers from seed 0 and seed 1, and nodes add their index


@dataclass(frozen=True)
class Criteria:
    """The agreement that is asked for.

    `exact`: bit for bit while ONNX Runtime's optimizations are off. `rtol` and `atol` replace the noise floor.
    `in_fp16`: the result computes in float16 what the original computes in float32, so that the noise is what rounding
    inputs and weights to float16 changes. `second_look`: differences beyond the noise are examined again (ties,
    float64), which takes a second or more.
    """

    exact: bool = False
    rtol: float | None = None
    atol: float | None = None
    in_fp16: bool = False
    second_look: bool = True

    @property
    def has_tolerance(self) -> bool:
        """Whether a tolerance is given."""
        return self.rtol is not None or self.atol is not None

    @property
    def is_strict(self) -> bool:
        """Whether the noise alone decides: no tolerance is given, and nothing is rounded on purpose."""
        return not (self.has_tolerance or self.in_fp16)


@dataclass(frozen=True)
class Expectation:
    """The original's outputs on one set of inputs, with ONNX Runtime's optimizations off and on, and their noise.

    `allowed`: the tolerances that follow from the noise; `limited`: smaller ones for outputs that are weak tests.
    """

    feeds: Feeds
    plain: Outputs
    deployed: Outputs | None
    noise: Noise
    allowed: Mapping[str, Tolerance]
    limited: Mapping[str, Tolerance]


class Reference:
    """The original model, which results are compared with. `model` is the original, if it is loaded already."""

    def __init__(
        self,
        original: Source,
        options: SessionOptions | None = None,
        criteria: Criteria | None = None,
        *,
        model: ir.Model | None = None,
    ) -> None:
        self.criteria = criteria or Criteria()
        self.model = self.load_model(original) if model is None else model
        options = replace(options or SessionOptions(), tf32=False, arena=False)
        rounds_exact = self.criteria.exact and computes_in_fp16(self.model)
        self.exact = self.criteria.exact and not rounds_exact and not self.criteria.has_tolerance
        self.random = draws_random_numbers(self.model)
        self.unknown = has_unknown_operators(self.model)
        self.quantized = is_quantized(self.model)
        self.grain = max(grain(self.model), FP16_EPS) if self.criteria.in_fp16 else grain(self.model)
        self.plain = replace(options, optimize=False, prepacking=options.prepacking and not self.exact)
        self.deployed = replace(options, optimize=True)
        self.pool = SessionPool(None if ir.content_bytes(self.model) <= SMALL else MOST_OPEN)
        self.original = Subject(original, self.plain, self.pool, fresh=self.random)
        self.original_deployed = Subject(original, self.deployed, self.pool, fresh=self.random)
        self.reseeded = Subject(original, replace(self.plain, seed=self.plain.seed + RESEED), self.pool, fresh=True)
        self.until: float | None = None
        self.stage = ""  # the current run, for messages
        self.expectations: dict[int, Expectation] = {}  # by the id of the feeds, which an entry keeps alive
        self.truths: dict[int, tuple[Feeds, Outputs | None]] = {}
        self.notes: dict[str, None] = {}
        self._note_limits(options, rounds_exact)

    def _note_limits(self, options: SessionOptions, rounds_exact: bool) -> None:
        if self.criteria.in_fp16:
            self.note("computed in float16: the noise is what rounding inputs and weights to float16 changes")
            if options.provider == "cpu":
                self.note("the CPU keeps float32 between most operators: only provider cuda shows overflows")
        if rounds_exact:
            self.note("float16: compared within roundings, which ONNX Runtime places by the neighbours of a node")
        if self.quantized:
            self.note("quantized: compared with ONNX Runtime's optimizations off, and run with them on")

    def note(self, text: str) -> None:
        """Add a remark to every verification."""
        self.notes.setdefault(text)

    @property
    def has_second_look(self) -> bool:
        """Whether a difference beyond the noise may still be right: not where a tolerance is given, for one."""
        return self.criteria.second_look and self.criteria.is_strict and not (self.random or self.quantized)

    # --- expectations -------------------------------------------------------------------------------------------------

    def expect(self, feeds: Feeds) -> Expectation:
        """The original's outputs and noise on `feeds`, computed at the first call."""
        expectation = self.expectations.get(id(feeds))
        if expectation is None:
            expectation = self._compute(feeds)
            if array_bytes(feeds, expectation.plain, expectation.deployed or {}) <= KEPT:
                self.expectations[id(feeds)] = expectation
        return expectation

    def _compute(self, feeds: Feeds) -> Expectation:
        self.stage = "the original's run"
        plain = self.original.run(feeds, self.until)
        self.stage = "the original's noise probes"
        meter = NoiseMeter(plain, self.grain)
        for outputs in self._probes(feeds):
            meter.add(outputs)
        self.stage = "the original's run with optimizations on"
        deployed = self._run_deployed(feeds)
        if deployed is not None and not self.quantized:
            meter.add_level(deployed)
        self.stage = "the original's noise probes"
        if meter.noise().amplifies and not self.criteria.in_fp16:
            for outputs in self._perturbed(feeds, MORE_PROBES):
                meter.add(outputs)
        noise = meter.noise()
        factor = FP16_FACTOR if self.criteria.in_fp16 else FACTOR
        tolerances = noise.tolerances(rtol=self.criteria.rtol, atol=self.criteria.atol, factor=factor)
        for text in noise.notes:
            self.note(text)
        allowed = {**tolerances, **self._random_outputs(feeds, plain, noise)}
        limited = allowed
        if self.criteria.is_strict and not self.quantized:  # in quantized models a rounding is a whole step
            limited = {path: self._limited(path, tolerance, noise) for path, tolerance in allowed.items()}
        return Expectation(feeds, plain, deployed, noise, allowed, limited)

    def _limited(self, path: str, allowed: Tolerance, noise: Noise) -> Tolerance:
        """The tolerance of a weak output, see `Floor.limited`."""
        floor = noise.floors[path]
        return floor.limited(self._bounds.get(path, 0.0)) if floor.is_weak and allowed.values else allowed

    @cached_property
    def _bounds(self) -> dict[str, float]:
        """The magnitude that outputs may have, of those that an operator bounds by 1."""
        return {output.name or "": 1.0 for output in self.model.graph.outputs if is_bounded(output)}

    def weak_outputs(self, expected: Expectation) -> list[str]:
        """The outputs that are mostly noise, or that hide a change of a tenth in the inputs or weights."""
        weak = [path for path, floor in expected.noise.floors.items() if floor.is_weak]
        shaken = None
        if perturb(expected.feeds, 0) is not None:
            shaken = self._try_run(self.original, shake(expected.feeds))
        elif weights := shaken_weights(self.model):
            shaken = self._try_run(self._with_weights(weights), expected.feeds)
        if shaken is not None:
            unmoved = (
                name
                for name, want in expected.plain.items()
                if compare({name: want}, {name: shaken[name]}, expected.allowed)
            )
            weak = list(dict.fromkeys([*weak, *unmoved]))
        return weak

    def truth(self, expected: Expectation, seconds: float) -> Outputs | None:
        """The outputs in float64, computed at the first call; None where they cannot be computed in time."""
        feeds = expected.feeds
        if id(feeds) in self.truths:
            return self.truths[id(feeds)][1]
        outputs = truth(self.model, feeds, expected.plain, seconds=seconds)
        if array_bytes(feeds, outputs or {}) <= KEPT:
            self.truths[id(feeds)] = feeds, outputs
        return outputs

    def scores(self, value: ir.Value, expected: Expectation) -> tuple[Array, Tolerance] | None:
        """An intermediate value in the original and the tolerance for its noise."""
        name = value.name or ""
        try:
            run = self.load(tapped(self.model, [value]))
            base = run(expected.feeds)[name]
            moved = [feeds for seed in PROBES if (feeds := perturb(expected.feeds, seed)) is not None]
            others = [run(feeds)[name] for feeds in moved]
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return None
        except KeyError:
            return None
        noise = noise_floor({name: base}, [{name: other} for other in others], grain=self.grain)
        return (base, noise.tolerances()[name]) if isinstance(base, np.ndarray) else None

    @staticmethod
    def load_model(source: Source) -> ir.Model:
        """Load a model from a file or from its bytes."""
        return ir.from_proto(source) if isinstance(source, bytes) else ir.load(source, follow_symlinks=True)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def load(self, data: bytes) -> Callable[[Feeds], Outputs]:
        """Run a serialized model as the original is, with ONNX Runtime's optimizations off."""
        return partial(Subject(data, self.plain, self.pool).run, until=self.until)

    def _run_deployed(self, feeds: Feeds) -> Outputs | None:
        try:
            return self.original_deployed.run(feeds, self.until)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            self.note(f"not compared with optimizations on, where the original fails: {error.diagnostic.message}")
            return None

    def _probes(self, feeds: Feeds) -> Iterator[Outputs]:
        """The original's outputs after changes of 1 ulp in float inputs, else in weights, one after the other."""
        if self.criteria.in_fp16:
            yield from self._roundings(feeds)
        elif perturb(feeds, PROBES[0]) is not None:
            yield from self._perturbed(feeds, PROBES)
        elif not self.random and (outputs := self._try_run(self._with_moved_weights(), feeds)) is not None:
            yield outputs

    def _perturbed(self, feeds: Feeds, seeds: Iterable[int]) -> Iterator[Outputs]:
        for seed in seeds:
            moved = perturb(feeds, seed)
            if moved is not None and (outputs := self._try_run(self.original, moved)) is not None:
                yield outputs

    def _roundings(self, feeds: Feeds) -> Iterator[Outputs]:
        """The original's outputs from inputs, and from weights, rounded to float16."""
        rounded = {
            name: round_to_fp16(datum) if isinstance(datum, np.ndarray) else datum for name, datum in feeds.items()
        }
        for subject in (self.original, self._with_moved_weights()):
            if (outputs := self._try_run(subject, rounded)) is not None:
                yield outputs

    def _try_run(self, subject: Subject | None, feeds: Feeds) -> Outputs | None:
        """Outputs; None where the model does not accept the moved inputs or weights."""
        try:
            return None if subject is None else subject.run(feeds, self.until)
        except ir.ModelError as error:
            if is_out_of_time(error):
                raise
            return None

    def _with_moved_weights(self) -> Subject | None:
        """The original with weights rounded to float16, where results compute in it; else moved by 1 ulp."""
        weights = rounded_weights(self.model) if self.criteria.in_fp16 else perturbed_weights(self.model, seed=1)
        return self._with_weights(weights) if weights else None

    def _with_weights(self, weights: Mapping[str, Array]) -> Subject:
        return Subject(self.original.source, self.plain, self.pool, fresh=True, weights=weights)

    def _random_outputs(self, feeds: Feeds, want: Outputs, noise: Noise) -> dict[str, Tolerance]:
        """Tolerances without values and dims for outputs that another seed changes, in random and unknown operators."""
        if not (self.random or self.unknown):
            return {}
        other = self.reseeded.run(feeds, self.until)
        free = Tolerance(values=False, dims=False)
        random: dict[str, Tolerance] = {}
        for path in noise.floors:
            name = path.split("[")[0].split("{")[0]
            if not compare({name: want[name]}, {name: other[name]}, noise.tolerances()):
                random[path] = free
                self.note(f"{name}: random in the original; only its type and rank are compared")
        return random
