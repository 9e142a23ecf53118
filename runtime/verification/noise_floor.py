"""How far a result may be off: a multiple of what the model's own arithmetic leaves open, not one number for all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ... import ir
from ..ort.session_options import Array, Datum, Feeds, Outputs
from .comparison import Tolerance, as_numbers, is_inexact, leaves, pairs, pieces, scale_of, specials

FACTOR = 8.0  # a rewrite may change the order of roundings more often than the probes do
# Computing in float16 rounds more often than rounding inputs and weights to it does: up to 2.3 times the change was
# seen in encoders, decoders and convolutional networks.
HALF_FACTOR = 4.0
FEW_EPS, FEW_HALF_EPS = 4.0, 1.0  # of float16 and bfloat16 one: kernels compute in float32 and round once
HALF_EPS = float(np.finfo(np.float16).eps)
# A difference between ONNX Runtime's levels beyond this is no rounding (its LayerNormalization fusion ignores the
# exponent, for one) and would let anything pass.
MOST_EPS, MOST = 1e4, 0.05
SHAKE = 0.1
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
        """What an output that is weak may be off: no more than a user would see, or than roundings of `reach` are.

        `reach`: the largest magnitude that the operator which gives the output could have given, as far as it has one.
        """
        allowed = self.allows()
        most = max(VISIBLE * self.scale, FACTOR * self.share * max(self.scale, reach))
        return replace(allowed, atol=min(allowed.atol, most))

    def allows(self, factor: float = FACTOR) -> Tolerance:
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
        """What each leaf may be off; `rtol` and `atol`, when one is given, replace the floor of floats."""
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
    """The noise of `want`, from other outputs that are looked at one by one and not kept: see `noise_floor`."""

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
        """What was measured so far."""
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
    return (FEW_EPS if eps < 1e-5 else FEW_HALF_EPS) * eps


def _most(eps: float) -> float:
    return min(MOST_EPS * eps, MOST)


_BOUNDED = frozenset("Sigmoid HardSigmoid Softmax Hardmax Tanh Erf Softsign Sin Cos".split())
"""Operators whose results are at most 1, and whose kernels round by an eps of 1 wherever they are."""
_MOVEMENT = frozenset("Identity Reshape Squeeze Unsqueeze Flatten Transpose Slice Gather Split Concat Cast Pad".split())


def is_bounded(output: ir.Value) -> bool:
    """Whether an output comes from an operator that bounds it by 1, through data movement."""
    value: ir.Value | None = output
    while value is not None and (node := value.producer()) is not None and node.domain == "":
        if node.op_type in _BOUNDED:
            return True
        if node.op_type not in _MOVEMENT:
            return False
        value = node.inputs[0]
    return False


def grain(model: ir.Model) -> float:
    """The eps of the coarsest float type that the model computes in, as far as inputs, weights and casts tell.

    An output may be finer: boxes in float64 that were computed in float32.
    """
    used = {ir.declared_dtype(value) for value in model.graph.inputs}
    weights = {ir.declared_dtype(value) for value in model.graph.initializers.values()}
    used |= weights & {ir.DataType.FLOAT, ir.DataType.DOUBLE}  # halves may be for storage only, with a Cast after
    used |= {ir.attribute(node, "to") for node in ir.nodes(model) if node.op_type == "Cast"}  # type: ignore[misc]
    computed = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return max((eps_of(dtype.numpy()) for dtype in computed if dtype in used), default=0.0)


def eps_of(dtype: np.dtype[np.generic]) -> float:
    """The distance from 1 to the next number of a float type; 0 for other types."""
    if issubclass(dtype.type, np.inexact):
        return float(np.finfo(dtype.name).eps)
    if "float" not in dtype.name:
        return 0.0
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.name).eps)  # type: ignore[no-untyped-call]  # it ships no types


def perturb(feeds: Feeds, seed: int) -> dict[str, Datum] | None:
    """The feeds with every float moved by 1 ulp up or down, or None when there is nothing to move.

    Inputs of whole numbers (masks, scales, indices in floats) stay: they are compared, not computed with.
    """
    random = np.random.default_rng(seed)
    moved = {name: perturb_array(datum, random) for name, datum in feeds.items() if isinstance(datum, np.ndarray)}
    changed = {name: array for name, array in moved.items() if array is not None}
    return {**feeds, **changed} if changed else None


def perturb_array(array: Array, random: np.random.Generator) -> Array | None:
    """`array` with every element moved by 1 ulp, or None when it holds no floats or whole numbers only."""
    if not issubclass(array.dtype.type, np.floating) or not array.size:
        return None
    if holds_whole_numbers(array):
        return None
    moved = np.array(array, order="C")
    for piece in pieces(moved):
        numbers: np.ndarray[tuple[int, ...], np.dtype[np.floating]] = piece.astype(array.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            upwards = random.integers(0, 2, piece.shape, dtype=np.int8) == 1
            near = np.nextafter(numbers, np.where(upwards, np.inf, -np.inf).astype(array.dtype))
        piece[:] = np.where(np.isfinite(numbers) & np.isfinite(near), near, numbers)
    return moved


def holds_whole_numbers(array: Array) -> bool:
    """Whether all finite floats of an array are whole, and small enough that their type could hold others."""
    for piece in pieces(array):
        numbers = as_numbers(piece)
        with np.errstate(invalid="ignore"):
            whole = (numbers == np.round(numbers)) & (np.abs(numbers) * eps_of(array.dtype) < 1)
        if not np.all(whole | ~np.isfinite(numbers)):
            return False
    return True


def shake(feeds: Feeds, seed: int = 0) -> dict[str, Datum]:
    """The feeds with every float moved by up to a tenth of itself: what does not change then is hardly tested.

    Inputs of whole numbers stay, as in `perturb`.
    """
    random = np.random.default_rng(seed)
    return {name: _shaken(datum, random) for name, datum in feeds.items()}


def shaken_weights(model: ir.Model, seed: int = 0) -> dict[str, Array]:
    """The weights that `perturbed_weights` moves by 1 ulp, moved by up to a tenth of themselves."""
    random = np.random.default_rng(seed)
    return {name: np.asarray(_shaken(array, random)) for name, array in perturbed_weights(model, seed).items()}


def _shaken(datum: Datum, random: np.random.Generator) -> Datum:
    if not isinstance(datum, np.ndarray) or perturb_array(datum, random) is None:
        return datum
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(as_numbers(datum) * (1 + SHAKE * random.uniform(-1, 1, datum.shape))).astype(datum.dtype)


def perturbed_weights(model: ir.Model, seed: int) -> dict[str, Array]:
    """The first weights of the model, moved by 1 ulp: the probe for models that take no floats.

    Small constants stay (axes, scales of a Resize, epsilons), and 64 MiB are enough to see what rounding does.
    """
    random, moved, size = np.random.default_rng(seed), dict[str, Array](), 0
    for name, value in model.graph.initializers.items():
        tensor = ir.constant_tensor(value)
        if tensor is None or tensor.size < 64 or size + tensor.nbytes > 64 << 20:
            continue
        if tensor.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
            array = perturb_array(np.asarray(tensor.numpy()), random)
            if array is not None:
                moved[name] = array
                size += array.nbytes
    return moved


def to_half(array: Array) -> Array:
    """`array` rounded to float16, in its own type; what float16 has no number for, and other types, stay."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16).astype(np.float32)
    return np.asarray(np.where(np.isfinite(rounded), rounded, array))


def rounded_weights(model: ir.Model) -> dict[str, Array]:
    """The float32 weights rounded to float16: all that are matrices, up to 256 MiB."""
    found, size = dict[str, Array](), 0
    for name, value in model.graph.initializers.items():
        tensor = ir.constant_tensor(value)
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
            continue
        if size + tensor.nbytes <= 256 << 20:
            found[name] = to_half(np.asarray(tensor.numpy()))
            size += tensor.nbytes
    return found


_QUANTIZED = re.compile(r"quant|integer|qlinear|^qattention|^qgemm|^qmoe|qordered|nbits|bnb4", re.IGNORECASE)


def is_quantized(model: ir.Model) -> bool:
    """Whether the model rounds to integers inside, or ONNX Runtime's optimizations may make it do so.

    Then the smallest noise may become a whole step. DequantizeLinear alone counts: with optimizations on, ONNX Runtime
    makes MatMulNBits at accuracy level 4 of a product with its result (core/optimizer/qdq_transformer).
    """
    return any(_QUANTIZED.search(node.op_type) for node in ir.nodes(model))


def computes_in_half(model: ir.Model) -> bool:
    """Whether float16 is computed with. On the CPU, ONNX Runtime runs such nodes in float32 where neighbours allow it.

    What it rounds in between then depends on the neighbours, so that even an exact rewrite moves results.
    """
    half = ir.DataType.FLOAT16
    return any(
        value is not None and ir.declared_dtype(value) == half
        for graph in ir.graphs(model)
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())
    ) or any(node.op_type == "Cast" and ir.attribute(node, "to") == half for node in ir.nodes(model))


def draws_random_numbers(model: ir.Model) -> bool:
    """Whether an operator of the model, or of its functions, draws random numbers by its definition."""
    return any(ir.is_random(node) for node in ir.nodes(model))


def has_unknown_operators(model: ir.Model) -> bool:
    """Whether the model calls operators that nothing here defines: whether those draw numbers, a run must tell."""
    functions = model.functions
    return any(
        node.domain != "com.microsoft" and node.op_identifier() not in functions and not ir.is_known(node)
        for node in ir.nodes(model)
    )
