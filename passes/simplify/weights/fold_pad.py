"""Fold a Pad with zeros into the operator with a sliding window after it."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule

w, b = values("w b")

_PAD = any_call("Pad").named("pad")


def _pads_of_pad(m: Match) -> list[int] | str:
    """The pads of the Pad along the spatial axes; why it is not a Pad of these alone by known amounts."""
    node, rank = m.pad.node, m.shapes.rank(m.pad.value)
    amounts = ir.parameter(node, "pads" if (node.version or 0) >= 2 else "paddings")
    if rank is None or rank < 3 or not isinstance(amounts, np.ndarray):
        return "the pads are computed, or there are no spatial axes"
    axes = ir.parameter(node, "axes") if (node.version or 0) >= 18 else None
    if axes is None:
        padded = list(range(rank))
    elif isinstance(axes, np.ndarray):
        padded = [int(axis) % rank for axis in axes]
    else:
        return "the axes are computed"
    if amounts.size != 2 * len(padded):
        return f"{amounts.size} pads for {len(padded)} axes"
    full = np.zeros(2 * rank, dtype=np.int64)
    for at, axis in enumerate(padded):
        full[axis], full[axis + rank] = amounts[at], amounts[at + len(padded)]
    if np.any(full < 0) or np.any(full[[0, 1, rank, rank + 1]]):
        return f"pads = {full.tolist()}"
    return [*map(int, full[2:rank]), *map(int, full[rank + 2 :])]


def _pads_with_zeros(m: Match) -> bool:
    node = m.pad.node
    if ir.attribute(node, "mode") not in (None, "constant", b"constant"):
        return False
    value = ir.parameter(node, "value" if (node.version or 0) < 11 else "constant_value")
    return value is None or (isinstance(value, np.ndarray) and value.size == 1 and not np.any(value))


def _pads_of_window(m: Match) -> list[int] | str:
    """The pads of the Conv or AveragePool itself."""
    rank = m.shapes.rank(m.pad.value) or 2
    match ir.attribute(m.root, "auto_pad"):
        case None | "NOTSET":
            pads = ir.attribute(m.root, "pads")
            return list(map(int, pads)) if isinstance(pads, (list, tuple)) else [0] * (2 * (rank - 2))
        case "VALID":
            return [0] * (2 * (rank - 2))
        case other:
            return f"auto_pad = {other}"


_added = let("a Pad of spatial dims by known amounts", _pads_of_pad)
_own = let("a window with explicit pads", _pads_of_window)


def _counts_padding(m: Match) -> bool:
    """ONNX Runtime rejects pads as large as the window; with ceil_mode the last window may end in uncounted ones."""
    kernel = ir.attribute(m.root, "kernel_shape")
    if ir.attribute(m.root, "count_include_pad") != 1 or ir.attribute(m.root, "ceil_mode") not in (None, 0):
        return False
    if not isinstance(kernel, (list, tuple)):
        return False
    added, own = m[_added], m[_own]
    sides = zip(added, own, (*kernel, *kernel), strict=True)
    return all(one + other < int(size) for one, other, size in sides)


@rule(
    op.Conv(_PAD, w, b.optional()).any_attributes() | op.AveragePool(_PAD).any_attributes(),
    requires=[
        _added,
        require("a Pad with zeros", _pads_with_zeros, lambda m: f"mode = {ir.attribute(m.pad.node, 'mode')!r}"),
        _own,
        require(
            "an average that counts what is padded",
            lambda m: m.has("Conv") or _counts_padding(m),
            lambda m: f"count_include_pad = {ir.attribute(m.root, 'count_include_pad')}, pads = {m[_added]}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Conv, AveragePool; MaxPool pads with -infinity, so no Pad goes into it",
)
def fold_pad_into_conv(m: Match, op: Builder) -> ir.Value:
    """Fold a Pad with zeros into the `pads` of the Conv, or of the AveragePool that counts padding, after it.

    before:  y = Conv(Pad(x, %p), w, b)        the same for AveragePool<count_include_pad = 1>
    after:   y = Conv<pads = p>(x, w, b)
    """
    added, own = m[_added], m[_own]
    attributes: dict[str, ir.AttributeValue | ir.Attr | None] = dict(m.root.attributes)
    attributes.pop("auto_pad", None)
    attributes["pads"] = [one + other for one, other in zip(added, own, strict=True)]
    return op.node(m.root.op_type, [m.pad.node.inputs[0], *m.root.inputs[1:]], attributes=attributes)[0]
