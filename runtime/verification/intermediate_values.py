"""Comparison at inner values, where a comparison of outputs could not tell right from wrong.

An output that is saturated (a sigmoid of 1e-7, a rectifier that is off) or chaotic (an iterated phase) hardly depends
on what is computed before it, or on nothing but its roundings. So both models are cut at the values that they have in
common, each piece is given what the original computed there, and its result is compared within the noise of that
piece alone. This is translation validation at cut points (Necula 2000, "Translation validation for an optimizing
compiler", section 3), with tests in the place of a prover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ... import ir
from ...ir.partition import CUT, cut_at, piece_inputs, same_piece
from ...ir.subgraph import tapped
from ..arrays import as_numbers, is_inexact
from ..ort.session import is_out_of_time
from ..ort.session_options import Array, Datum, Feeds, Outputs
from .comparison import compare
from .noise_floor import TOO_WEAK, noise_floor
from .probes import holds_whole_numbers, perturb, shake

MOST_ROUNDS = 6
SCALES = (0.25, 0.02)
"""Factors of float inputs that bring a piece out of saturation.

What a rewrite may have proven of a value (its sign, that it is at most 1) still holds, so that a piece which disagrees
is wrong. Where floats change their signs or places, one that agrees is confirmed, and one that disagrees may be right.
"""
LARGE_SCALES = (1e3, 1e6, 1e9)
"""Factors that make a product outweigh what is added to it: a bias hides one with untrained weights of 1e-10.

They leave proven bounds behind, as changed signs do.
"""

Run = Callable[[Feeds], Outputs]


@dataclass(frozen=True)
class Unconfirmed:
    """A value whose piece could not be shown to be right, and why."""

    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.value}: {self.why}"


def unconfirmed(
    original: ir.Model, result: ir.Model, feeds: Feeds, load: Callable[[bytes], Run], *, grain: float = 0.0
) -> list[Unconfirmed]:
    """The pieces of `result` that are not shown to compute what those of `original` do on `feeds`; empty when all are.

    `load` gives a serialized model to be run, with ONNX Runtime's optimizations off. A piece is right when it agrees
    within eight times its own noise on given values, or on scaled ones, and is sensitive to them, or when it is the
    same operators on the same constants. A common value that disagrees may mean something else in the result: it is
    given up as a cut point, and the pieces that it stood between are compared as one. Raises ModelError where the
    models cannot be run in pieces.
    """
    known = _common_values(original, result, feeds, load)
    for nth in range(MOST_ROUNDS):
        pieces = _Pieces(original, result, known, feeds, load, grain)
        judged = pieces.judge(pieces.given)
        wrong = {name for name, judgement in judged.items() if not judgement.agrees}
        inner = wrong - pieces.outputs
        if not inner:
            break
        first = {name for name in inner if not pieces.reads(name) & inner} or inner
        for name in inner if nth == MOST_ROUNDS - 2 else first:
            del known[name]
    if wrong:
        why = "it differs from the original by more than the noise of what it is computed from"
        return [Unconfirmed(name, why) for name in sorted(wrong)]
    return pieces.weak(judged)


def _common_values(
    original: ir.Model, result: ir.Model, feeds: Feeds, load: Callable[[bytes], Run]
) -> dict[str, Array]:
    """The original's values of the numeric tensors that the main graphs of both compute under one name.

    They have the same element type and shape in the result.
    """
    ours, theirs = _tensors(original), _tensors(result)
    names = [name for name in ours if name in theirs]
    one = load(tapped(original, [ours[name] for name in names]))(feeds)
    other = load(tapped(result, [theirs[name] for name in names]))(feeds)
    return {name: np.asarray(one[name]) for name in names if _are_alike(one[name], other[name])}


def _are_alike(one: Datum, other: Datum) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.dtype.kind in "OUS":
        return False
    return one.dtype == other.dtype and one.shape == other.shape


def _tensors(model: ir.Model) -> dict[str, ir.Value]:
    """The results of nodes of the main graph that may be tensors, by name."""
    return {
        value.name: value
        for node in model.graph
        if node.op_type != "Constant"
        for value in node.outputs
        if value.name and (value.type is None or isinstance(value.type, ir.TensorType))
    }


class _Judgement(NamedTuple):
    """Whether two models agree on a value, and whether the comparison could have told that they do not.

    `value` is what the original computes.
    """

    agrees: bool
    is_strong: bool
    value: Datum

    @property
    def is_discrete(self) -> bool:
        return isinstance(self.value, np.ndarray) and not is_inexact(self.value)


class _Pieces:
    """Both models cut at `known` values."""

    def __init__(
        self,
        original: ir.Model,
        result: ir.Model,
        known: Mapping[str, Array],
        feeds: Feeds,
        load: Callable[[bytes], Run],
        grain: float,
    ) -> None:
        self.known, self.given, self.grain = dict(known), {**feeds, **known}, grain
        types = {name: (ir.DataType.from_numpy(array.dtype), array.shape) for name, array in known.items()}
        self.run_original, self.run_result = load(cut_at(original, types)), load(cut_at(result, types))
        self.outputs = {output.name or "" for output in original.graph.outputs}
        self.of_original, self.of_result = _computed(original), _computed(result)

    def reads(self, name: str) -> set[str]:
        """The cut values that the result's piece for `name` reads."""
        return {value.name or "" for value in piece_inputs(self.of_result[name], self.known)}

    def judge(self, given: Feeds) -> dict[str, _Judgement]:
        """The cut values and outputs by name."""
        base = self.run_original(given)
        probes = [self.run_original(each) for seed in (1, 2) if (each := perturb(given, seed)) is not None]
        noise = noise_floor(base, probes, grain=self.grain)
        allowed = noise.tolerances()
        shaken, got = self.run_original(shake(given)), self.run_result(given)
        found = {}
        for name, want in base.items():
            agrees = bool(compare({name: want}, {name: got.get(name)}, allowed))
            floor = noise.floors.get(name)
            is_noisy = floor is not None and floor.relative > TOO_WEAK
            moves = not compare({name: want}, {name: shaken[name]}, allowed)
            found[name.removesuffix(CUT)] = _Judgement(agrees, moves and not is_noisy, want)
        return found

    def weak(self, judged: Mapping[str, _Judgement]) -> list[Unconfirmed]:
        """The values that agree, but would if something else were computed for them."""
        weak = {name for name, judgement in judged.items() if not judgement.is_strong}
        strong = judged.keys() - weak
        weak = {name for name in weak if not self.beside(name) & strong}
        weak = {name for name in weak if self.depends_on_floats(name) and not self.is_untouched(name)}
        refuted: set[str] = set()
        changed: set[str] = set()  # whole numbers that other values changed, in both models alike
        for other, refutes, is_large in _other_values(self.given):
            if not weak - refuted:
                break
            try:
                again = self.judge(other)
            except ir.ModelError as error:
                if is_out_of_time(error):
                    raise
                continue  # beyond what an operator accepts
            told = {name for name in weak if not (is_large and again[name].is_discrete)}
            disagreeing = {name for name in told if not again[name].agrees}
            refuted |= disagreeing if refutes else set()
            weak -= {name for name in told - refuted if again[name].agrees and again[name].is_strong}
            changed |= {name for name in told & weak if again[name].is_discrete and self.differs(name, judged, again)}
            changed -= disagreeing
        weak -= changed - refuted
        reasons = "it hardly depends on what it is computed from, and that was rewritten", "scaled values give another"
        return [Unconfirmed(name, reasons[name in refuted]) for name in sorted(weak)]

    @staticmethod
    def differs(name: str, judged: Mapping[str, _Judgement], again: Mapping[str, _Judgement]) -> bool:
        return not compare({name: judged[name].value}, {name: again[name].value})

    def beside(self, name: str) -> set[str]:
        """The other results of the node that gives a value in both models: a zero point beside a scale, say."""
        nodes = [side[name].producer() for side in (self.of_original, self.of_result)]
        names = [set() if node is None else {value.name or "" for value in node.outputs} for node in nodes]
        return (names[0] & names[1]) - {name}

    def depends_on_floats(self, name: str) -> bool:
        """Whether the original's piece for a value reads floats that can be moved: those of whole numbers are exact."""
        read = (self.given.get(value.name or "") for value in piece_inputs(self.of_original[name], self.known))
        arrays = [each for each in read if isinstance(each, np.ndarray) and is_inexact(each)]
        return not all(map(holds_whole_numbers, arrays))

    def is_untouched(self, name: str) -> bool:
        return same_piece(self.of_original[name], self.of_result[name], self.known)


def _computed(model: ir.Model) -> dict[str, ir.Value]:
    """The results of the nodes of the main graph, and its outputs, by name."""
    results = [value for node in model.graph for value in node.outputs if value.name]
    return {value.name or "": value for value in [*results, *model.graph.outputs]}


def _other_values(given: Feeds) -> Iterator[tuple[Feeds, bool, bool]]:
    """Other values for a model cut in pieces, whether a piece that disagrees on them is wrong, and if they are large.

    Large ones say nothing of a comparison: any factor gives the same order.
    """
    for scale in SCALES:
        yield _changed(given, partial(_scaled, scale)), True, False
    random = np.random.default_rng(0)
    for scale in (-1.0, *LARGE_SCALES):
        yield _changed(given, partial(_scaled, scale)), False, scale > 1
    permuted = _changed(given, lambda array: random.permutation(as_numbers(array).reshape(-1)).reshape(array.shape))
    yield permuted, False, False


def _scaled(scale: float, array: Array) -> Array:
    with np.errstate(over="ignore"):
        return as_numbers(array) * scale


def _changed(given: Feeds, change: Callable[[Array], Array]) -> dict[str, Datum]:
    """`given` with its floats changed, but for arrays of whole numbers: they may be sizes."""
    return {
        name: np.asarray(change(datum)).astype(datum.dtype)
        if isinstance(datum, np.ndarray) and is_inexact(datum) and not holds_whole_numbers(datum)
        else datum
        for name, datum in given.items()
    }
