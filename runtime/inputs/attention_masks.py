"""Masks for generated inputs: padding on either side, samples that are masked wholly, causal masks, additive ones."""

from __future__ import annotations

from enum import Enum

import numpy as np

from ... import ir
from ..ort.session_options import Array


class MaskKind(Enum):
    """The positions that the masks of a set of inputs hide.

    PLAIN: padding at the end of every second sample, and what is causal where an additive mask is square. MIXED:
    padding at the start of some samples and at the end of others. EXTREME: every third sample is masked wholly, another
    has padding at its start. Transformers' exporters clamp to the lowest float for the sake of such samples.
    """

    PLAIN = "plain"
    MIXED = "mixed"
    EXTREME = "extreme"


def kept(
    shape: tuple[int, ...], kind: MaskKind, *, causal: bool = False
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which elements are kept, for a mask `[batch, …, length]`; a mask of images `[batch, height, width]` ends on both.

    `causal`: of a mask whose last two axes are queries and keys, no query sees a later key, and only keys are padded.
    """
    keep = np.ones(shape, dtype=np.bool_)
    if not shape:
        return keep
    if causal and len(shape) > 1 and shape[-2] > 1:
        keep &= np.tri(shape[-2], shape[-1], shape[-1] - shape[-2], dtype=np.bool_)
    has_batch = len(shape) > 1 and not (causal and len(shape) == 2)
    rows = keep if has_batch else keep[np.newaxis]
    first = 1 if len(shape) == 3 and not causal else max(rows.ndim - 1, 1)
    for sample in range(rows.shape[0]):
        side = _side(sample, kind, alone=not has_batch)
        if side == "all":
            rows[sample] = False
        elif side:
            for axis in range(first, rows.ndim):
                _pad(rows[sample], axis - 1, at_end=side == "end")
    return keep


def _side(sample: int, kind: MaskKind, *, alone: bool) -> str:
    match kind:
        case MaskKind.PLAIN:
            return "end" if alone or sample % 2 else ""
        case MaskKind.MIXED:
            return ("start", "end", "")[sample % 3]
        case MaskKind.EXTREME:
            return "start" if alone else ("", "all", "start")[sample % 3]


def _pad(sample: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], axis: int, *, at_end: bool) -> None:
    """Mask a third of one axis, but never all of it."""
    size = sample.shape[axis]
    padding = min(size // 3, size - 1)
    if padding > 0:
        along = [slice(None)] * sample.ndim
        along[axis] = slice(size - padding, None) if at_end else slice(None, padding)
        sample[tuple(along)] = False


def additive(shape: tuple[int, ...], kind: MaskKind, dtype: ir.DataType) -> Array:
    """A mask that is added to scores: 0, and what exporters write for minus infinity, another for each sample.

    Samples that are masked wholly have the lowest float, whose rows have a softmax; rows of -inf have none.
    """
    lowest = float(dtype.min)
    keep = kept(shape, kind, causal=len(shape) > 1 and shape[-2] > 1)
    choices = {
        MaskKind.PLAIN: (lowest, -np.inf),
        MaskKind.MIXED: (-1e4, -1e9),
        MaskKind.EXTREME: (-np.inf, lowest, -np.inf),
    }[kind]
    fill = np.zeros(shape[:1] + (1,) * (len(shape) - 1)) if shape else np.zeros(())
    for sample in range(fill.shape[0] if shape else 0):
        value = choices[sample % len(choices)] if len(shape) > 2 else choices[0]
        fill[sample] = max(value, lowest) if np.isfinite(value) else value
    mask = np.where(keep, 0.0, np.broadcast_to(fill, shape))
    if not shape:
        return mask
    hidden = ~keep.any(axis=-1, keepdims=True)  # padding at the start hides all keys from the first queries
    return np.where(hidden & np.isinf(mask), lowest, mask)
