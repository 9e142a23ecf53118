"""Measure the noise floor of a model's outputs; tolerances are multiples of it, not one number for all models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import as_numbers, eps_of, is_inexact, leaves, pairs
from ..ort.session_options import Array, Outputs
from .comparison import Tolerance, scale_of, specials

FACTOR = 8.0  # a rewrite may change the order of roundings more often than the probes do
# Computing in float16 rounds more often than rounding inputs and weights to it does: up to 2.3 times the change was
# seen in encoders, decoders and convolutional networks.
FP16_FACTOR = 4.0
FEW_EPS, FEW_FP16_EPS = 4.0, 1.0  # of float16 and bfloat16 one: kernels compute in float32 and round once
FP16_EPS = float(np.finfo(np.float16).eps)
# A difference between ONNX Runtime's levels beyond this is no rounding (its LayerNormalization fusion ignores the
# exponent, for one) and would let anything pass.
MOST_EPS, MOST = 1e4, 0.05
TOO_WEAK = 0.01  # a floor above this share of an output's scale is worth telling
VISIBLE = 0.01  # of an output's scale: what a user may notice, whatever the noise is
AMPLIFIED = 16.0  # times a few eps
OUTLIERS, FURTHEST = 1e-3, 4.0  # the share of elements that may be further off than allowed, and how many times as far


@dataclass(frozen=True)
class Floor:
    """The noise of one output: `absolute` plus `share` of each element; `flips` and `step` for discrete outputs.

    `scale` is the output's largest magnitude, `rms` the root of the mean square of what changes.
    """

    absolute: float
    scale: float
    share: float = 0.0
    flips: int = 0
    step: float = 0.0
    dims: bool = True  # whether its shape held still
    rms: float = 0.0

    @property
    def relative(self) -> float:
        """The noise over the scale of the output."""
        return self.absolute / self.scale if self.scale else 0.0

    @property
    def is_weak(self) -> bool:
        """Whether so much is noise that something else could pass for it: not where the type itself is that coarse."""
        return self.relative > max(TOO_WEAK, 2 * self.share)

    @property
    def amplifies(self) -> bool:
        """Whether a rounding grows on its way to this output, so that a few probes do not show the largest change."""
        return self.relative > AMPLIFIED * self.share > 0

    def limited(self, reach: float) -> Tolerance:
        """The tolerance of a weak output: at most what a user would see, or what roundings of `reach` amount to.

        `reach`: the largest magnitude that the operator which gives the output could have given, as far as it has one.
        """
        allowed = self.allows()
        most = max(VISIBLE * self.scale, FACTOR * self.share * max(self.scale, reach))
        return replace(allowed, atol=min(allowed.atol, most))

    def allows(self, factor: float = FACTOR) -> Tolerance:
        """The tolerance that is `factor` times the noise."""
        flips = int(np.ceil(self.flips * factor))
        return Tolerance(self.share * factor, self.absolute * factor, flips=flips, step=self.step, dims=self.dims)


@dataclass(frozen=True)
class Noise:
    """The floor of every leaf of the outputs, and what is worth telling about them."""

    floors: Mapping[str, Floor]
    notes: tuple[str, ...] = ()

    @property
    def relative(self) -> float:
        """The largest floor over its output's scale."""
        return max((floor.relative for floor in self.floors.values()), default=0.0)

    @property
    def amplifies(self) -> bool:
        """Whether a rounding grows on its way to an output."""
        return any(floor.amplifies for floor in self.floors.values())

    def tolerances(
        self, *, rtol: float | None = None, atol: float | None = None, factor: float = FACTOR
    ) -> dict[str, Tolerance]:
        """The tolerance of each leaf; `rtol` and `atol`, when one is given, replace the floor of floats."""
        allowed = {path: floor.allows(factor) for path, floor in self.floors.items()}
        if rtol is None and atol is None:
            return allowed
        relative, absolute = rtol or 0.0, atol or 0.0
        return {
            path: Tolerance(relative, absolute, flips=each.flips, step=each.step, dims=each.dims)
            for path, each in allowed.items()
        }


def noise_floor(
    want: Outputs, perturbed: Iterable[Outputs] = (), levels: Iterable[Outputs] = (), *, grain: float = 0.0
) -> Noise:
    """The noise of the original model's outputs `want`, on the inputs that they were computed from.

    `perturbed` are its outputs after a change of 1 ulp, `levels` those at other optimization levels. The floor is the
    largest of what these change and of a few eps of the output's scale, where eps is at least `grain` (see there).
    """
    meter = NoiseMeter(want, grain)
    for each in perturbed:
        meter.add(each)
    for each in levels:
        meter.add_level(each)
    return meter.noise()


class NoiseMeter:
    """Accumulate the noise of `want` from other outputs, which are not kept (see `noise_floor`)."""

    def __init__(self, want: Outputs, grain: float = 0.0) -> None:
        self._leaves: dict[str, _FloatLeaf | _DiscreteLeaf] = {}
        for path, datum in leaves(want).items():
            base = np.asarray(datum)
            if datum is None or base.dtype.kind in "OUS":
                continue
            self._leaves[path] = _FloatLeaf(path, base, grain) if is_inexact(base) else _DiscreteLeaf(path, base)

    def add(self, outputs: Outputs) -> None:
        """Outputs after a change of 1 ulp."""
        for leaf, probe in self._measured(outputs):
            leaf.add(probe)

    def add_level(self, outputs: Outputs) -> None:
        """Outputs at another optimization level."""
        for leaf, other in self._measured(outputs):
            leaf.add_level(other)

    def _measured(self, outputs: Outputs) -> Iterator[tuple[_FloatLeaf | _DiscreteLeaf, Array]]:
        found = leaves(outputs)
        return ((leaf, np.asarray(found[path])) for path, leaf in self._leaves.items() if path in found)

    def noise(self) -> Noise:
        """The noise that was measured so far."""
        floors = {path: leaf.floor() for path, leaf in self._leaves.items()}
        notes = [note for path, leaf in self._leaves.items() for note in leaf.notes(floors[path])]
        return Noise(floors, tuple(notes))


class _FloatLeaf:
    def __init__(self, path: str, base: Array, grain: float) -> None:
        self.path, self.base = path, base
        self.eps = max(eps_of(base.dtype), grain)
        self.scale, self.few = scale_of(base), _few(self.eps)
        self.change, self.rms, self.dims = self.few * self.scale, 0.0, True
        self.of_levels = 0.0  # the largest change of a level, also of one that is no rounding

    def add(self, probe: Array) -> None:
        self.change = max(self.change, _change(self.base, probe, self.few))
        self.rms = max(self.rms, rms_change(self.base, probe))
        self.dims &= probe.shape == self.base.shape

    def add_level(self, other: Array) -> None:
        change = _change(self.base, other, self.few)
        self.of_levels = max(self.of_levels, change)
        if change <= _most(self.eps) * self.scale:
            self.change = max(self.change, change)
        self.dims &= other.shape == self.base.shape

    def floor(self) -> Floor:
        return Floor(self.change, self.scale, self.few, dims=self.dims, rms=self.rms)

    def notes(self, floor: Floor) -> Iterator[str]:
        if floor.is_weak:
            yield f"{self.path}: the model's own noise is {floor.relative:.1%} of its scale: a weak test"
        if self.of_levels > _most(self.eps) * self.scale:
            share = self.of_levels / self.scale if self.scale else np.inf
            yield f"{self.path}: ONNX Runtime's own optimizations change the original by {share:.1%} of its scale"
        yield from _remarks(self.path, self.base, floor)


class _DiscreteLeaf:
    def __init__(self, path: str, base: Array) -> None:
        self.path, self.base = path, base
        self.flips, self.step, self.dims = 0, 0.0, True

    def add(self, probe: Array) -> None:
        if probe.shape != self.base.shape:
            self.dims = False
            return
        self.flips = max(self.flips, int((probe != self.base).sum()))
        self.step = max(self.step, _change(self.base, probe))

    add_level = add

    def floor(self) -> Floor:
        return Floor(0.0, 0.0, flips=self.flips, step=self.step, dims=self.dims)

    def notes(self, floor: Floor) -> Iterator[str]:
        yield from _remarks(self.path, self.base, floor)


def _remarks(path: str, base: Array, floor: Floor) -> list[str]:
    notes = []
    if not floor.dims:
        notes.append(f"{path}: rounding noise changes its shape; only type and rank are compared where it does")
    if floor.flips:
        notes.append(f"{path}: rounding noise changes {floor.flips} of {base.size} elements, which may differ")
    return notes


def _change(base: Array, other: Array, share: float = 0.0) -> float:
    """The largest difference beyond `share` of an element, where both are finite; 0 where shapes differ."""
    if base.shape != other.shape:
        return 0.0
    most = 0.0
    for _, one, two in pairs(base, other):
        ours, theirs = as_numbers(one), as_numbers(two)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(ours - theirs) - share * np.abs(ours)
        most = max(most, float(error[np.isfinite(error)].max(initial=0.0)))
    return most


def rms_change(base: Array, other: Array) -> float:
    """The root of the mean square of the differences that are finite; 0 where shapes differ."""
    if base.shape != other.shape:
        return 0.0
    total, count = 0.0, 0
    for _, one, two in pairs(base, other):
        with np.errstate(invalid="ignore", over="ignore"):
            square = np.abs(as_numbers(one) - as_numbers(two)) ** 2
        finite = square[np.isfinite(square)]
        total, count = total + float(finite.sum()), count + finite.size
    return float(np.sqrt(total / count)) if count else 0.0


def same_distribution(want: Array, got: Array, floor: Floor) -> bool:
    """Whether two float outputs differ as noise makes them differ, but for a few elements that are further off.

    Where a model amplifies its roundings, its largest change has a long tail that no number of probes shows.
    """
    if not floor.amplifies or want.shape != got.shape or rms_change(want, got) > FACTOR / 2 * floor.rms:
        return False
    allowed = floor.allows()
    ours, theirs = as_numbers(want), as_numbers(got)
    odd, wrong = specials(ours, theirs)
    if wrong.any():
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        over = np.abs(ours - theirs) / (allowed.atol + allowed.rtol * np.abs(ours))
    return bool((over[~odd] <= FURTHEST).all() and (over[~odd] > 1).sum() <= OUTLIERS * want.size)


def _few(eps: float) -> float:
    return (FEW_EPS if eps < 1e-5 else FEW_FP16_EPS) * eps


def _most(eps: float) -> float:
    return min(MOST_EPS * eps, MOST)
