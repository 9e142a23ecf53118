"""Additive masks for kernels that take a row for wholly masked by the lowest float.

Results of rows whose mask is the same everywhere, measured with onnxruntime-gpu 1.31.1 on the CPU (float32):

| row of the mask                  | Softmax written out      | Attention (23, 24) | MultiHeadAttention |
|----------------------------------|--------------------------|--------------------|--------------------|
| -1e4                             | softmax of the scores    | as written out     | as written out     |
| -1e9, -3.3e38                    | mean of V                | as written out     | as written out     |
| lowest finite float              | mean of V                | **0**              | as written out     |
| -inf                             | NaN                      | **0**              | as written out     |
| -inf and lowest mixed            | mean where it is lowest  | **0**              | as written out     |
| -inf and -3.3e38 mixed           | mean where it is -3.3e38 | as written out     | as written out     |
| lowest mixed with any larger one | as the larger one says   | as written out     | as written out     |
| +inf or NaN somewhere            | NaN                      | as written out     | as written out     |
| boolean, False everywhere        | (NaN, as -inf)           | **0**              | -                  |

In float16 the same holds of its own lowest number, -65504. The function body of the standard's Attention gives 0 where
the mask has -inf alone, and the mean of V where it is the lowest float. GroupQueryAttention is used without a mask, for
causal attention in which every query sees a key. In the model, masks are summed before the kernel sees them.
"""

from __future__ import annotations

import numpy as np

from ... import ir
from .float_range import float_range
from .shapes import Shapes


def lowest_becomes_next(dtype: ir.DataType) -> float:
    """The factor that takes the lowest finite number to the next above it, -inf to itself, and others within an ulp."""
    return 1.0 - float(dtype.eps) / 2


def may_hold_lowest(mask: ir.Value, shapes: Shapes) -> bool:
    """Whether a row of the mask may be -inf and the lowest finite number alone, with the latter at least once."""
    dtype, found = shapes.dtype(mask), float_range(mask, shapes)
    if dtype is None or found is None:
        return True
    return found.low <= float(dtype.min) and not _every_row_sees(mask, dtype)


def may_hold_infinities(mask: ir.Value, shapes: Shapes) -> bool:
    """Whether a row of the mask may be -inf alone."""
    dtype, found = shapes.dtype(mask), float_range(mask, shapes)
    if dtype is None or found is None:
        return True
    return found.negative_infinity and not _every_row_sees(mask, dtype)


def _every_row_sees(mask: ir.Value, dtype: ir.DataType) -> bool:
    """Whether a constant mask has something above the lowest number in each row."""
    content = ir.constant(mask)
    return content is not None and bool(np.all(np.any(content.astype(np.float64) > float(dtype.min), axis=-1)))
