"""Blocks of pixels that move between the channels and the plane: pixel shuffle, and back."""

from __future__ import annotations

from .... import ir
from ...analyses.symbolic import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ..layout.merge_transposes import permutation

x, grouping, target = values("x grouping target")

_MOVED = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""Element types that ONNX Runtime's CPU kernels take in every release that we know."""

_FASTER = (
    "ONNX DepthToSpace, SpaceToDepth; with ONNX Runtime 1.32 on one CPU thread 1.6 to 3.5 and 7 to 11 times as fast as "
    "the Transpose of rank 6"
)

Dims = tuple[Dim, ...]


def _dims(m: Match) -> tuple[Dims, Dims, Dims, tuple[int, ...] | None] | None:
    """The dims before, in groups and after, of rank 4, 6 and 4, and how the groups are transposed."""
    given, groups, result = m.x.dims, m.groups.dims, m.shapes.dims(m.root.outputs[0])
    if given is None or groups is None or result is None or (len(given), len(groups), len(result)) != (4, 6, 4):
        return None
    return given, groups, result, permutation(m.Transpose, 6)


def _to_space(m: Match) -> tuple[int, str] | None:
    """The block size and the mode of the DepthToSpace that this is."""
    if (found := _dims(m)) is None:
        return None
    (n, depth, h, w), groups, result, perm = found
    for mode, order, places in (("DCR", (0, 3, 4, 1, 5, 2), (1, 2, 3)), ("CRD", (0, 1, 4, 2, 5, 3), (2, 3, 1))):
        b, other, c = (groups[place] for place in places)
        if perm != order or not isinstance(b, int) or b < 1 or b != other:
            continue
        spelled = (n, b, b, c, h, w) if mode == "DCR" else (n, c, b, b, h, w)
        if groups == spelled and depth == c * b * b and result == (n, c, h * b, w * b):
            return b, mode
    return None


def _to_depth(m: Match) -> int | None:
    """The block size of the SpaceToDepth that this is."""
    if (found := _dims(m)) is None:
        return None
    (n, c, height, width), groups, result, perm = found
    _, _, h, b, w, other = groups
    if perm != (0, 3, 5, 1, 2, 4) or not isinstance(b, int) or b < 1 or b != other:
        return None
    fits = groups == (n, c, h, b, w, b) and (height, width) == (h * b, w * b) and result == (n, c * b * b, h, w)
    return b if fits else None


def _shown(m: Match) -> str:
    return f"{m.shapes.show(m.x.value)} by {m.shapes.show(m.groups.value)} to {m.shapes.show(m.root.outputs[0])}"


SHUFFLE = op.Reshape(
    op.Transpose(op.Reshape(x, grouping).any_attributes().named("groups")).any_attributes(), target
).any_attributes()

_TYPE = require("float32 or float64", lambda m: m.x.dtype in _MOVED, lambda m: str(m.x.dtype))


@rule(
    SHUFFLE.opset(since=11),
    requires=[_TYPE, require("channels that become blocks of the plane", lambda m: _to_space(m) is not None, _shown)],
    source=_FASTER,
    benefit=1,
)
def depth_to_space(m: Match, op: Builder) -> ir.Value:
    """Spread channels over the plane by one operator: torch's pixel_shuffle.

    before:  x -> Reshape[n, c, b, b, h, w] -> Transpose(0, 1, 4, 2, 5, 3) -> Reshape[n, c, h·b, w·b] -> y
    after:   x -> DepthToSpace(b, CRD) -> y
    """
    found = _to_space(m)
    assert found is not None
    return op.DepthToSpace(m.x, blocksize=found[0], mode=found[1])


@rule(
    SHUFFLE,
    requires=[_TYPE, require("blocks of the plane that become channels", lambda m: _to_depth(m) is not None, _shown)],
    source=_FASTER,
    benefit=1,
)
def space_to_depth(m: Match, op: Builder) -> ir.Value:
    """Stack blocks of the plane as channels by one operator.

    before:  x -> Reshape[n, c, h, b, w, b] -> Transpose(0, 3, 5, 1, 2, 4) -> Reshape[n, b·b·c, h, w] -> y
    after:   x -> SpaceToDepth(b) -> y
    """
    return op.SpaceToDepth(m.x, blocksize=_to_depth(m))
