"""Convolutions with windows of 3 or 5 rows by Winograd's minimal filtering along the rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....pipeline.phase import Phase
from ....rewriting.builder import Builder
from ....rewriting.constraints import let, profitable, require, structural, threshold
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from .nchwc import BLOCK, FLOAT32
from .winograd_cost import LARGEST, PRODUCTS, SMALLEST, USUAL_IMAGES, ConvGeometry

x, w, b, low, high = values("x w b low high")

# The polynomials of tap and data are multiplied at the points 0, 1, -1, 2, -2 and infinity: 6 products give m results
# of an r-tap filter for every m + r - 1 = 6. With two points more, rounding errors grow tenfold.
_DATA = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
"""Lavin and Gray's B^T: the combination of 6 rows of the image for each point, a row each."""
_POINTS = (0, 1, -1, 2, -2)
_SCALES = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)

_CONV = op.Conv(x, w, b.optional()).any_attributes()
_FUSED = ("Relu", "LeakyRelu", "HardSwish", "Clip")
"""Activations that ONNX Runtime fuses into a blocked Conv: the rule takes them along, so that they stay fused."""


# --- conditions -------------------------------------------------------------------------------------------------------


def _has_fusable_activation(m: Match) -> bool:
    """Whether the root is a Conv whose only user is an activation: the match at the activation includes it."""
    value = m.root.outputs[0]
    users = list(value.uses())
    return (
        m.root.op_type == "Conv"
        and len(users) == 1
        and not value.is_graph_output()
        and users[0][0].op_type in _FUSED
        and users[0][0].domain == ""
    )


def _taps(m: Match) -> int | None:
    dims = m.w.static
    return dims[2] if dims is not None and len(dims) == 4 and dims[2] in (3, 5) else None


def _weight_values(m: Match) -> ir.Array | str:
    """All values in w, which is constant, or computed from constants when the model is loaded."""
    content, node = ir.constant(m.w.value), m.w.value.producer()
    if content is None and node is not None and node.domain == "":
        if node.op_type == "ConstantOfShape" and ir.is_constant(node.inputs[0]):
            value = ir.attribute(node, "value")
            return np.asarray(value.numpy()) if isinstance(value, ir.TensorProtocol) else np.zeros(1)
        content = ir.constant(node.inputs[0]) if node.op_type == "Cast" else None
    return content if content is not None else f"{m.w.value.name!r} is computed"


def _has_finite_filters(m: Match) -> bool:
    """Whether sums of the weights are finite in float32, too: the factors of all taps sum to 1.3 at most."""
    with np.errstate(over="ignore"):
        single = m[WEIGHT_VALUES].astype(np.float32, copy=False)
        return bool(np.isfinite([extreme(initial=0) * np.float32(1.5) for extreme in (single.min, single.max)]).all())


def _groups(m: Match) -> int:
    return m.Conv.integer("group", 1)


def _steps(m: Match) -> list[tuple[int, ...]]:
    return [m.Conv.integers(name) or (1, 1) for name in ("strides", "dilations")]


def _pads(m: Match) -> tuple[int, int, int, int] | str:
    """Top, left, bottom and right."""
    if m.Conv.attribute("auto_pad") != "NOTSET":
        return f"auto_pad {m.Conv.attribute('auto_pad')}"
    top, left, bottom, right = m.Conv.integers("pads") or (0, 0, 0, 0)
    is_valid = min(top, left, bottom, right) >= 0 and max(top, bottom) < m[TAPS]
    return (top, left, bottom, right) if is_valid else f"pads {(top, left, bottom, right)}"


def _has_whole_blocks(m: Match) -> bool:
    outputs, inputs, *_ = m.w.static or (0, 0)
    return inputs % BLOCK == outputs // _groups(m) % BLOCK == 0


def _geometry(m: Match) -> ConvGeometry | str:
    dims, weight = m.x.dims, m.w.static
    if dims is not None and len(dims) == 4 and weight is not None:
        batch, channels, height, width = dims
        if isinstance(channels, int) and isinstance(height, int) and isinstance(width, int):
            batches = (batch, batch) if isinstance(batch, int) else (1, USUAL_IMAGES)
            outputs, inputs, taps, window = weight
            geometry = ConvGeometry((channels, height, width), (outputs, inputs, taps, window), m[PADS], batches)
            if min(geometry.result) > 0 and batches[1] > 0:
                return geometry
    return m.shapes.show(m.x.value)


TAPS = let("a window of 3 or 5 rows", _taps, is_structural=True)
WEIGHT_VALUES = let("w constant, or cast or spread from constants", _weight_values)
PADS = let("explicit pads, less than the window", _pads)
GEOMETRY = let("an image of known size", _geometry)


# --- the replacement --------------------------------------------------------------------------------------------------


def _filter(point: int, taps: int) -> Sequence[float]:
    """Lavin and Gray's G, the row of a point: the factors of the taps."""
    if point == len(_POINTS):
        return [0.0] * (taps - 1) + [1.0]
    return [_SCALES[point] * _POINTS[point] ** power for power in range(taps)]


def _weight(m: Match, op: Builder, point: int) -> ir.Value:
    """The filters [k, c, 1, s] of a point; computed in the model where w is, so that the file stays small."""
    taps = np.array(_filter(point, m[TAPS])).reshape(-1, 1)
    if m.w.is_constant:
        return op.constant((m.w.array * taps).sum(axis=2, keepdims=True).astype(np.float32))
    return op.ReduceSum(op.Mul(m.w, taps.astype(np.float32)), axes=[2])


def _product(m: Match, op: Builder, point: int) -> ir.Value:
    """The product at a point: a depthwise Conv that combines the rows of the image, and a Conv with the filters."""
    geometry = m[GEOMETRY]
    channels, (top, left, bottom, right) = geometry.image[0], geometry.pads
    data = np.broadcast_to(_DATA[point].reshape(-1, 1), (channels, 1, PRODUCTS, 1)).astype(np.float32)
    combined = op.Conv(
        m.x,
        data,
        group=channels,
        kernel_shape=[PRODUCTS, 1],
        strides=[geometry.rows, 1],
        pads=[top, 0, bottom + geometry.rows - 1, 0],
    )
    return op.Conv(
        combined,
        _weight(m, op, point),
        m.b if point == 1 else None,  # every row adds this product once
        group=_groups(m),
        kernel_shape=[1, geometry.weight[3]],
        pads=[0, left, 0, right],
    )


def _activated(m: Match, op: Builder, value: ir.Value) -> ir.Value:
    if not m.has("act"):
        return value
    return op.node(m.act.node.op_type, [value, *m.act.node.inputs[1:]], attributes=m.act.attributes)[0]


@rule(
    op.Relu(_CONV).named("act")
    | op.LeakyRelu(_CONV).any_attributes().named("act")
    | op.HardSwish(_CONV).named("act")
    | op.Clip(_CONV, low.optional(), high.optional()).any_attributes().named("act")
    | _CONV,
    requires=[
        structural("no activation that is fused with it", lambda m: not _has_fusable_activation(m)),
        TAPS,
        WEIGHT_VALUES,
        FLOAT32,
        require(
            "strides and dilations of one",
            lambda m: all(step == 1 for steps in _steps(m) for step in steps),
            lambda m: "strides {}, dilations {}".format(*_steps(m)),
        ),
        PADS,
        require(
            "whole blocks of channels",
            _has_whole_blocks,
            lambda m: f"{m.shapes.show(m.w.value)} in {_groups(m)} groups",
        ),
        GEOMETRY,
        profitable(
            f"filters of {LARGEST >> 20} MiB at most",
            lambda m: m[GEOMETRY].filter_bytes <= LARGEST,
            lambda m: m.shapes.show(m.w.value),
        ),
        profitable(
            f"{SMALLEST} pixels",
            lambda m: prod(m[GEOMETRY].result[1:]) >= threshold(m, "winograd-pixels"),
            lambda m: str(m[GEOMETRY].result[1:]),
        ),
        profitable(
            "less time",
            lambda m: m[GEOMETRY].is_faster(m.context.settings.target.threads, threshold(m, "winograd-share")),
            lambda m: m[GEOMETRY].describe(m.context.settings.target.threads),
        ),
        require(
            "finite weights, also when half as large again",
            _has_finite_filters,
            lambda m: f"{m.w.value.name!r} from {m[WEIGHT_VALUES].min()} to {m[WEIGHT_VALUES].max()}",
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308, along one axis: half the multiplications of a 3x3 "
        "window, and the layout stays blocked; ONNX Runtime 1.32 has no such kernel"
    ),
    phase=Phase.ORT_ALGORITHMS,
)
def decompose_conv_winograd(m: Match, op: Builder) -> ir.Value:
    """Compute four rows of a 3x3 convolution by six 1x3 convolutions instead of twelve.

    An element's rounding error is in proportion to the largest of the 6 rows that it is computed from, not of the 3
    that it depends on: some 1e-6 of the largest result, against 3e-7. An infinity or NaN makes NaN of the 4 or 8 rows
    that are computed with it, in place of infinities and NaN in 3; so does what overflows 3e38 when 10 of it are added.
    The filters take twice the bytes of the weights, and peak memory is up to half as much again.

    before:  y = Relu(Conv(x, w))      w: [k, c, 3, 3]
    after:   p_i = Conv1x3(sum_j B[i, j] x[:, :, j::4]), i = 0 … 5;   y[:, :, k::4] = Relu(sum_i A[k, i] p_i)
    """
    rows = m[GEOMETRY].rows
    channels, height, width = m[GEOMETRY].result

    def times(value: ir.Value, factor: int) -> ir.Value:
        # a factor for each channel: ONNX Runtime multiplies in the blocked layout, together with the sum that follows
        return op.Mul(value, np.full((channels, 1, 1), factor, dtype=np.float32))

    def sum_and_difference(left: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
        return op.Add(left, right), op.Add(times(right, -1), left)

    near, far = (sum_and_difference(_product(m, op, point), _product(m, op, point + 1)) for point in (1, 3))
    phases = []
    for row in range(rows):
        phase = op.Add(times(far[row % 2], 2**row) if row else far[0], near[row % 2])
        for edge, point in ((0, 0), (rows - 1, PRODUCTS - 1)):
            phase = op.Add(_product(m, op, point), phase) if row == edge else phase
        phases.append(_activated(m, op, phase))
    joined = op.Concat(*phases, axis=3)
    steps = -(-height // rows)
    result = op.Reshape(joined, [0, channels, steps * rows, width])
    return result if steps * rows == height else op.Slice(result, starts=[0], ends=[height], axes=[2])
