"""Channels that are dealt out anew (ShuffleNet) are one Gather."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.rule import rule
from ..layout.merge_transposes import permutation
from .depth_to_space import SHUFFLE

_MOST = 1 << 12  # channels
_LEAST = 16  # elements that stay together


def _dealt(m: Match) -> tuple[int, int, int] | None:
    """`axis, groups, size` where an axis of `groups * size` is cut in two, its halves swapped, and put together."""
    given, parted, result = m.x.dims, m.groups.dims, m.shapes.dims(m.root.outputs[0])
    if given is None or parted is None or given != result or len(parted) != len(given) + 1:
        return None
    perm = permutation(m.Transpose, len(parted))
    for axis in range(len(given) - 1):
        swapped = (*range(axis), axis + 1, axis, *range(axis + 2, len(parted)))
        groups, size = parted[axis], parted[axis + 1]
        if perm != swapped or not isinstance(groups, int) or not isinstance(size, int):
            continue
        if parted == (*given[:axis], groups, size, *given[axis + 1 :]) and given[axis] == groups * size <= _MOST:
            return axis, groups, size
    return None


def _row(m: Match) -> int:
    """How many elements lie behind one channel, as far as is known."""
    found = _dealt(m)
    behind = [] if found is None or m.x.dims is None else m.x.dims[found[0] + 1 :]
    return int(np.prod([dim if isinstance(dim, int) else _LEAST for dim in behind], dtype=np.int64))


@rule(
    SHUFFLE,
    requires=[
        require(
            "an axis before the last whose two factors change places",
            lambda m: _dealt(m) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} by {m.shapes.show(m.groups.value)}",
        ),
        require(f"{_LEAST} elements or more that stay together", lambda m: _row(m) >= _LEAST, lambda m: str(_row(m))),
    ],
    source="Zhang et al. 2018, ShuffleNet (arXiv:1707.01083); 1.5 to 1.8 times as fast on ONNX Runtime's CPU kernels",
)
def channel_shuffle_to_gather(m: Match, op: Builder) -> ir.Value:
    """Deal out channels by one Gather.

    before:  x[n, 6, h, w] -> Reshape[n, 2, 3, h, w] -> Transpose(0, 2, 1, 3, 4) -> Reshape[n, 6, h, w] -> y
    after:   x -> Gather([0, 3, 1, 4, 2, 5], axis 1) -> y
    """
    found = _dealt(m)
    assert found is not None
    axis, groups, size = found
    order = np.arange(groups * size, dtype=np.int64).reshape(groups, size).T.reshape(-1)
    return op.Gather(m.x, op.constant(order), axis=axis)
