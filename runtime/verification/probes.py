"""Probes for the noise of a model: inputs and weights moved by 1 ulp, rounded to float16, or moved by a tenth."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..arrays import as_numbers, eps_of, pieces
from ..ort.session_options import Array, Datum, Feeds

SHAKE = 0.1  # of an element


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


def round_to_fp16(array: Array) -> Array:
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
            found[name] = round_to_fp16(np.asarray(tensor.numpy()))
            size += tensor.nbytes
    return found
