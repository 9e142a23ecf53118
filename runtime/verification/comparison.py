"""Whether two runs agree: shape and dtype exact, NaN and infinities in the same places, the rest within a tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np

from ..arrays import as_numbers, is_inexact, leaves, pairs, pieces
from ..ort.session_options import Array, Datum, Outputs

Mask: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be off: each float by `atol + rtol * |want|`; integers, bools and strings not at all.

    `bitwise`: floats too, where -0.0 differs from 0.0 but any NaN equals any other. `flips`: so many elements of a
    discrete output may differ, by `step` at most. `values` and `dims` False: what is random in the model itself is not
    compared.
    """

    rtol: float = 0.0
    atol: float = 0.0
    bitwise: bool = False
    flips: int = 0
    step: float = 0.0
    values: bool = True
    dims: bool = True


EXACT = Tolerance(bitwise=True)
SENTINEL = 1e4  # times what is usual in an output (and at least this): beyond, a magnitude is a sentinel


@dataclass(frozen=True)
class Element:
    """The element that is furthest off: `relative` is the error over its output's scale, or its own magnitude."""

    output: str
    index: tuple[int, ...]
    want: str
    got: str
    error: float
    relative: float

    def __str__(self) -> str:
        place = f"{self.output}{list(self.index) if self.index else ''}"
        return f"{place}: {self.got} instead of {self.want} (off by {self.relative:.1e} of the output's scale)"

    def to_json(self) -> dict[str, object]:
        """The fields by name, None for numbers that are not finite."""
        numbers = {"error": self.error, "relative": self.relative}  # JSON has no infinity
        finite = {name: number if np.isfinite(number) else None for name, number in numbers.items()}
        return {**asdict(self), "index": list(self.index), **finite}


@dataclass(frozen=True)
class Verdict:
    """Truthy when the two agree. `problem` says why not; `worst` is the furthest element, also of those that agree."""

    problem: str = ""
    worst: Element | None = None

    def __bool__(self) -> bool:
        return not self.problem

    @property
    def relative(self) -> float:
        """The largest error over its output's scale."""
        return self.worst.relative if self.worst is not None else 0.0


def compare(want: Outputs, got: Outputs, tolerance: Tolerance | Mapping[str, Tolerance] = EXACT) -> Verdict:
    """Whether `got` agrees with `want`. Tolerances may differ per leaf (see `leaves`): exact where none is given."""
    if list(want) != list(got):
        return Verdict(f"the outputs are {list(got)} instead of {list(want)}")
    ours, theirs = leaves(want), leaves(got)
    for path in [*ours, *theirs]:
        if path not in ours or path not in theirs:
            one, two = ("no", "a") if path in ours else ("a", "no")
            if not _free(path, tolerance):
                return Verdict(f"{path}: {one} value instead of {two} value")
    worst: Element | None = None
    for path in ours:
        if path not in theirs:
            continue
        allowed = tolerance if isinstance(tolerance, Tolerance) else tolerance.get(path, EXACT)
        verdict = _compare_leaf(path, ours[path], theirs[path], allowed)
        if not verdict:
            return verdict
        if verdict.worst is not None and (worst is None or verdict.worst.relative > worst.relative):
            worst = verdict.worst
    return Verdict(worst=worst)


def _free(path: str, tolerance: Tolerance | Mapping[str, Tolerance]) -> bool:
    """Whether the length of the sequence that `path` is in may differ."""
    if not isinstance(tolerance, Tolerance):
        tolerance = tolerance.get(f"{path[: path.rfind('[')]}[]", EXACT)
    return not tolerance.dims or tolerance.flips > 0


def _compare_leaf(path: str, want: Datum, got: Datum, allowed: Tolerance) -> Verdict:
    if want is None or got is None:
        return Verdict() if want is got else Verdict(f"{path}: {_say(got)} instead of {_say(want)}")
    if not isinstance(want, np.ndarray) or not isinstance(got, np.ndarray):
        want, got = np.asarray(want), np.asarray(got)
    if want.dtype != got.dtype:
        return Verdict(f"{path}: type {got.dtype} instead of {want.dtype}")
    if want.ndim != got.ndim or (allowed.dims and want.shape != got.shape):
        return Verdict(f"{path}: shape {list(got.shape)} instead of {list(want.shape)}")
    if not allowed.values or want.shape != got.shape:
        return Verdict()
    if allowed.bitwise:
        return _compare_bits(path, want, got)
    if is_inexact(want):
        return _compare_floats(path, want, got, allowed)
    return _compare_discrete(path, want, got, allowed)


def _say(datum: Datum) -> str:
    return "nothing" if datum is None else "a value"


def scale_of(array: Array) -> float:
    """The largest magnitude in an array, 0 when there is none but zeros.

    Sentinels are no magnitudes: a -3.4e38 where logits are masked would make every error look small.
    """
    count = sum(found.size for found in _magnitudes(array))
    if not count:
        return 0.0
    step, skipped = max(1, count // 1_000_000), 0
    samples = []
    for found in _magnitudes(array):
        samples.append(found[-skipped % step :: step].copy())
        skipped += found.size
    sample = np.concatenate(samples)
    samples.clear()
    rank = (sample.size - 1) // 10  # most of an attention matrix may be masked
    sample.partition(rank)
    most = SENTINEL * max(float(sample[rank]), 1.0)
    return max(float(found[found <= most].max(initial=0.0)) for found in _magnitudes(array))


def _magnitudes(array: Array) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The magnitudes that are finite and not 0, in pieces."""
    for piece in pieces(array):
        magnitudes = np.abs(as_numbers(piece))
        yield magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]


def _compare_bits(path: str, want: Array, got: Array) -> Verdict:
    if not is_inexact(want):
        return _compare_discrete(path, want, got, EXACT)
    count, first = 0, 0
    for start, ours, theirs in pairs(want, got):
        unequal = (_codes(ours) != _codes(theirs)).any(axis=-1)
        if unequal.any():
            unequal &= ~(np.isnan(as_numbers(ours)) & np.isnan(as_numbers(theirs)))
            first = first if count else start + int(np.argmax(unequal))
            count += int(unequal.sum())
    if not count:
        return Verdict()
    worst = _element(path, want, got, _place(first, want))
    return Verdict(f"not equal bit for bit in {count} of {want.size} elements, first {worst}", worst)


def _codes(array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The bytes of every element of a flat array along a last axis."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(array.size, array.dtype.itemsize)


def specials(ours: Array, theirs: Array) -> tuple[Mask, Mask]:
    """Where one of two numbers is NaN or an infinity, and where the other is not the same then."""
    odd = ~np.isfinite(ours) | ~np.isfinite(theirs)
    with np.errstate(invalid="ignore"):
        same = (np.isnan(ours) & np.isnan(theirs)) | (ours == theirs)
    return odd, odd & ~same


def _compare_floats(path: str, want: Array, got: Array, allowed: Tolerance) -> Verdict:
    count, largest, beyond = 0, (0.0, 0), (0.0, 0)  # how far an element is off, or beyond what is allowed, and which
    for start, one, two in pairs(want, got):
        ours, theirs = as_numbers(one), as_numbers(two)
        odd, wrong = specials(ours, theirs)
        if wrong.any():
            worst = _element(path, want, got, _place(start + int(np.argmax(wrong)), want))
            return Verdict(f"NaN or infinity in other places, first {worst}", worst)
        with np.errstate(invalid="ignore"):
            error = np.where(odd, 0.0, np.abs(ours - theirs))
            over = error - (allowed.atol + allowed.rtol * np.where(odd, 0.0, np.abs(ours)))
        count += int((over > 0).sum())
        largest = max(largest, _furthest(error, start), key=lambda each: each[0])
        beyond = max(beyond, _furthest(over, start), key=lambda each: each[0])
    if not largest[0]:
        return Verdict()
    if not count:
        return Verdict(worst=_element(path, want, got, _place(largest[1], want)))
    furthest = _element(path, want, got, _place(beyond[1], want))
    return Verdict(f"{count} of {want.size} elements too far off, worst {furthest}", furthest)


def _furthest(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]], start: int) -> tuple[float, int]:
    index = int(np.argmax(array))
    return float(array[index]), start + index


def _place(index: int, array: Array) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.unravel_index(index, array.shape))


def _compare_discrete(path: str, want: Array, got: Array, allowed: Tolerance) -> Verdict:
    places = np.argwhere(want != got)
    if not len(places):
        return Verdict()
    worst = _element(path, want, got, tuple(int(axis) for axis in places[0]))
    numeric = want.dtype.kind in "biu"
    furthest = float(np.abs(as_numbers(want) - as_numbers(got)).max()) if numeric else np.inf
    if len(places) <= allowed.flips and furthest <= allowed.step:
        return Verdict(worst=worst)
    return Verdict(f"{len(places)} of {want.size} elements differ, first {worst}", worst)


def _element(path: str, want: Array, got: Array, index: tuple[int, ...]) -> Element:
    one, two = want[index], got[index]
    if want.dtype.kind in "OUS":
        return Element(path, index, repr(one), repr(two), np.inf, np.inf)
    ours, theirs = as_numbers(np.asarray(one)), as_numbers(np.asarray(two))
    with np.errstate(invalid="ignore"):
        error = float(np.abs(ours - theirs))
    scale = max(scale_of(want), float(np.abs(ours)))
    relative = 0.0 if not error else error / scale if scale else np.inf
    return Element(path, index, f"{one}", f"{two}", error, relative)
