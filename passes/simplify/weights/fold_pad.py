"""A Pad with zeros becomes the padding of the convolution, or of the average that counts it, behind it."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule

w, b = values("w b")

_PAD = any_call("Pad").named("pad")


def _pads(m: Match) -> list[int] | None:
    """What the Pad adds to each side of the spatial dims; None where it pads others, cuts, or is not known."""
    node, rank = m.pad.node, m.shapes.rank(m.pad.value)
    given = ir.parameter(node, "pads" if (node.version or 0) >= 2 else "paddings")
    if rank is None or rank < 3 or not isinstance(given, np.ndarray):
        return None
    full = np.zeros(2 * rank, dtype=np.int64)
    axes = ir.parameter(node, "axes") if (node.version or 0) >= 18 else None
    if axes is None:
        places = list(range(rank))
    elif isinstance(axes, np.ndarray):
        places = [int(axis) % rank for axis in axes]
    else:
        return None
    if given.size != 2 * len(places):
        return None
    for at, axis in enumerate(places):
        full[axis], full[axis + rank] = given[at], given[at + len(places)]
    if np.any(full < 0) or np.any(full[[0, 1, rank, rank + 1]]):
        return None
    return [*map(int, full[2:rank]), *map(int, full[rank + 2 :])]


def _zero(m: Match) -> bool:
    node = m.pad.node
    if ir.attribute(node, "mode") not in (None, "constant", b"constant"):
        return False
    name = "value" if (node.version or 0) < 11 else "constant_value"
    value = ir.parameter(node, name)
    return value is None or (isinstance(value, np.ndarray) and value.size == 1 and not np.any(value))


def _own_pads(m: Match) -> list[int] | None:
    rank = m.shapes.rank(m.pad.value) or 2
    match ir.attribute(m.root, "auto_pad"):
        case None | "NOTSET":
            own = ir.attribute(m.root, "pads")
            return list(map(int, own)) if isinstance(own, (list, tuple)) else [0] * (2 * (rank - 2))
        case "VALID":
            return [0] * (2 * (rank - 2))
        case _:
            return None


def _counts_padding(m: Match) -> bool:
    """ONNX Runtime refuses pads as large as the window; with ceil_mode the last window may end in uncounted ones."""
    pads, own, kernel = _pads(m), _own_pads(m), ir.attribute(m.root, "kernel_shape")
    if ir.attribute(m.root, "count_include_pad") != 1 or ir.attribute(m.root, "ceil_mode") not in (None, 0):
        return False
    if pads is None or own is None or not isinstance(kernel, (list, tuple)):
        return False
    sides = zip(pads, own, (*kernel, *kernel), strict=True)
    return all(one + other < int(size) for one, other, size in sides)


@rule(
    op.Conv(_PAD, w, b.optional()).any_attributes() | op.AveragePool(_PAD).any_attributes(),
    requires=[
        require("a Pad of spatial dims by known amounts", lambda m: _pads(m) is not None),
        require("a Pad with zeros", _zero),
        require("a window with pads in numbers", lambda m: _own_pads(m) is not None),
        require("an average that counts what is padded", lambda m: m.has("Conv") or _counts_padding(m)),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Conv, AveragePool; MaxPool pads with -infinity, so no Pad goes into it",
)
def fold_pad_into_conv(m: Match, op: Builder) -> ir.Value:
    """The operator pads itself.

    before:  x -> Pad(zeros) -> Conv(w, b) -> y        the same for AveragePool with count_include_pad
    after:   x -> Conv(w, b, pads) -> y
    """
    pads, own = _pads(m), _own_pads(m)
    assert pads is not None and own is not None
    attributes: dict[str, ir.AttributeValue | ir.Attr | None] = dict(m.root.attributes)
    attributes.pop("auto_pad", None)
    attributes["pads"] = [one + other for one, other in zip(pads, own, strict=True)]
    return op.node(m.root.op_type, [m.pad.node.inputs[0], *m.root.inputs[1:]], attributes=attributes)[0]
