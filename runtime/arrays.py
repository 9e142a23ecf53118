"""Tensors as ONNX Runtime gives them: leaves of nested outputs, sizes, numbers, pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .ort.session_options import Array, Datum

PIECE = 1 << 18
"""Elements that are compared at once."""


def leaves(outputs: Mapping[str, Datum]) -> dict[str, Datum]:
    """The tensors and numbers in nested outputs by path: `y`, `y[2]` in a sequence, `y[0]{"cat"}` in a map."""
    found: dict[str, Datum] = {}
    pending: list[tuple[str, Datum]] = list(outputs.items())[::-1]
    while pending:
        path, datum = pending.pop()
        if isinstance(datum, Mapping):
            found[f"{path}{{}}"] = np.asarray(len(datum))
            pending += [(f"{path}{{{json.dumps(key)}}}", item) for key, item in datum.items()][::-1]
        elif isinstance(datum, Sequence) and not isinstance(datum, str):
            found[f"{path}[]"] = np.asarray(len(datum))
            pending += [(f"{path}[{index}]", item) for index, item in enumerate(datum)][::-1]
        else:
            found[path] = datum
    return found


def eps_of(dtype: np.dtype[np.generic]) -> float:
    """The distance from 1 to the next number of a float type; 0 for other types."""
    if issubclass(dtype.type, np.inexact):
        return float(np.finfo(dtype.name).eps)
    if "float" not in dtype.name:
        return 0.0
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.name).eps)  # type: ignore[no-untyped-call]  # it ships no types


def array_bytes(*data: Mapping[str, Datum]) -> int:
    """Bytes of the tensors in inputs or outputs, those in sequences and maps included."""
    return sum(np.asarray(datum).nbytes for named in data for datum in leaves(named).values() if datum is not None)


def is_inexact(array: Array) -> bool:
    """Whether an array holds floats or complex numbers, those of ml_dtypes included."""
    return array.dtype.kind in "fc" or "float" in array.dtype.name


def as_numbers(array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64 | np.complex128]]:
    """The array in double precision."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def pieces(array: Array) -> Iterator[Array]:
    """An array flat, a few elements at a time: views of it, where it is contiguous.

    What is computed of a whole array in double precision takes several times as much memory as the array.
    """
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]


def pairs(one: Array, other: Array) -> Iterator[tuple[int, Array, Array]]:
    """Two arrays of one shape likewise, and the position of the first element in each piece."""
    for nth, (ours, theirs) in enumerate(zip(pieces(one), pieces(other), strict=True)):
        yield nth * PIECE, ours, theirs
