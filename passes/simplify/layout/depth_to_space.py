"""DepthToSpace (pixel shuffle) and SpaceToDepth written as Reshape, Transpose, Reshape."""

from __future__ import annotations

from .... import ir
from ...analyses.symbolic import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .merge_transposes import permutation

x, grouping, target = values("x grouping target")

_MOVED = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""Element types of ONNX Runtime's CPU kernels in every known release."""

_FASTER = (
    "ONNX DepthToSpace, SpaceToDepth; with ONNX Runtime 1.32 on one CPU thread 1.6 to 3.5 and 7 to 11 times as fast as "
    "the Transpose of rank 6"
)

Dims = tuple[Dim, ...]


def _dims(m: Match) -> tuple[Dims, Dims, Dims, tuple[int, ...] | None] | None:
    """The dims of x, of the groups and of the result, of rank 4, 6 and 4, and the permutation of the groups."""
    dims, groups, result = m.x.dims, m.groups.dims, m.shapes.dims(m.root.outputs[0])
    if dims is None or groups is None or result is None or (len(dims), len(groups), len(result)) != (4, 6, 4):
        return None
    return dims, groups, result, permutation(m.Transpose, 6)


def _as_depth_to_space(m: Match) -> tuple[int, str] | str:
    """The block size and the mode of the equivalent DepthToSpace."""
    if (found := _dims(m)) is None:
        return _show_dims(m)
    (n, depth, h, w), groups, result, perm = found
    for mode, order, axes in (("DCR", (0, 3, 4, 1, 5, 2), (1, 2, 3)), ("CRD", (0, 1, 4, 2, 5, 3), (2, 3, 1))):
        b, other, c = (groups[axis] for axis in axes)
        if perm != order or not isinstance(b, int) or b < 1 or b != other:
            continue
        expected = (n, b, b, c, h, w) if mode == "DCR" else (n, c, b, b, h, w)
        if groups == expected and depth == c * b * b and result == (n, c, h * b, w * b):
            return b, mode
    return _show_dims(m)


def _as_space_to_depth(m: Match) -> int | str:
    """The block size of the equivalent SpaceToDepth."""
    if (found := _dims(m)) is None:
        return _show_dims(m)
    (n, c, height, width), groups, result, perm = found
    _, _, h, b, w, other = groups
    if perm != (0, 3, 5, 1, 2, 4) or not isinstance(b, int) or b < 1 or b != other:
        return _show_dims(m)
    fits = groups == (n, c, h, b, w, b) and (height, width) == (h * b, w * b) and result == (n, c * b * b, h, w)
    return b if fits else _show_dims(m)


def _show_dims(m: Match) -> str:
    return f"{m.shapes.show(m.x.value)} by {m.shapes.show(m.groups.value)} to {m.shapes.show(m.root.outputs[0])}"


_block_and_mode = let("channels that become blocks of the plane", _as_depth_to_space)
_block = let("blocks of the plane that become channels", _as_space_to_depth)


SHUFFLE = op.Reshape(
    op.Transpose(op.Reshape(x, grouping).any_attributes().named("groups")).any_attributes(), target
).any_attributes()

_TYPE = require("float32 or float64", lambda m: m.x.dtype in _MOVED, lambda m: str(m.x.dtype))


@rule(
    SHUFFLE.opset(since=11),
    requires=[_TYPE, _block_and_mode],
    source=_FASTER,
    benefit=1,
)
def depth_to_space(m: Match, op: Builder) -> ir.Value:
    """Recognize DepthToSpace: torch's pixel_shuffle.

    before:  y = Reshape(Transpose<perm = [0, 1, 4, 2, 5, 3]>(Reshape(x, %[n, c, b, b, h, w])), %[n, c, h·b, w·b])
    after:   y = DepthToSpace<blocksize = b, mode = "CRD">(x)
    """
    blocksize, mode = m[_block_and_mode]
    return op.DepthToSpace(m.x, blocksize=blocksize, mode=mode)


@rule(
    SHUFFLE,
    requires=[_TYPE, _block],
    source=_FASTER,
    benefit=1,
)
def space_to_depth(m: Match, op: Builder) -> ir.Value:
    """Recognize SpaceToDepth.

    before:  y = Reshape(Transpose<perm = [0, 3, 5, 1, 2, 4]>(Reshape(x, %[n, c, h, b, w, b])), %[n, b·b·c, h, w])
    after:   y = SpaceToDepth<blocksize = b>(x)
    """
    return op.SpaceToDepth(m.x, blocksize=m[_block])
