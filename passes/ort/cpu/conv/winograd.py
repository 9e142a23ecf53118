"""Convolutions with windows of 3 or 5 rows by Winograd's minimal filtering along the rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....pipeline.phase import Phase
from ....rewriting.builder import Builder
from ....rewriting.constraints import profitable, require, structural
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from .nchwc import BLOCK, FLOAT32

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
"""Lavin and Gray's B^T: what is made of 6 rows of the image, a row for each point."""
_POINTS = (0, 1, -1, 2, -2)
_SCALES = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)
_PRODUCTS = len(_DATA)

_CONV = op.Conv(x, w, b.optional()).any_attributes()
_FUSED = ("Relu", "LeakyRelu", "HardSwish", "Clip")
"""What ONNX Runtime computes inside a blocked Conv, and often stands there; it must not be torn from it."""

_GAIN, _NO_LOSS = 0.85, 0.95  # of the time, with the fewest and with the most threads
_SMALLEST = 100  # pixels; with fewer, time goes into reading the weights, which are twice as many
_LARGEST = 1 << 24  # bytes of filters, twice the weights: files are to stay of about the same size
_MOVE, _READ, _START, _START_OF_THREAD = 40, 8, 1_000_000, 3_500_000
"""Costs in multiplications, of which a thread does 5e10 a second (the blocked Conv runs at the processor's peak): of an
element that is moved; of a weight that is read, for each thread, since they share the memory; of the operators by
themselves, with one thread, and for each of several."""
_MOVE_IN_MEMORY, _CACHED, _UNCACHED = 45, 4 << 20, 24 << 20
"""What moving an element costs more, for each thread, where no cache holds the images; up to how many bytes of image
and result the caches hold all, and from how many on nothing (with 32 MiB that two processors share)."""
_USUAL_IMAGES = 8
"""How many images at once must still cost nothing, where nobody says how many there will be."""


def _numbers(m: Match) -> ir.Array | None:
    """Every number that w holds, when it is constant, or made of constants when the model is loaded."""
    content, node = ir.constant(m.w.value), m.w.value.producer()
    if content is not None or node is None or node.domain != "":
        return content
    if node.op_type == "ConstantOfShape" and ir.is_constant(node.inputs[0]):
        value = ir.attribute(node, "value")
        return np.asarray(value.numpy()) if isinstance(value, ir.TensorProtocol) else np.zeros(1)
    return ir.constant(node.inputs[0]) if node.op_type == "Cast" else None


def _makes_finite_filters(m: Match) -> bool:
    """Whether sums of the weights are numbers of float32, too: the factors of all taps make 1.3 at most."""
    numbers = _numbers(m)
    if numbers is None:
        return False
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32, copy=False)
        return bool(np.isfinite([extreme(initial=0) * np.float32(1.5) for extreme in (single.min, single.max)]).all())


def _taps(m: Match) -> int:
    """Rows of the window; 0 where the weight is none of an image's."""
    dims = m.w.static
    return dims[2] if dims is not None and len(dims) == 4 else 0


def _groups(m: Match) -> int:
    return m.Conv.integer("group", 1)


def _rows(m: Match) -> int:
    """Rows that each step computes."""
    return _PRODUCTS + 1 - _taps(m)


def _pads(m: Match) -> Sequence[int] | None:
    """Top, left, bottom and right; None where they follow from the dims."""
    return m.Conv.integers("pads") or (0, 0, 0, 0) if m.Conv.attribute("auto_pad") == "NOTSET" else None


def _goes_along(m: Match) -> bool:
    """Whether what follows a Conv will be matched with it."""
    value = m.root.outputs[0]
    readers = list(value.uses())
    return (
        m.root.op_type == "Conv"
        and len(readers) == 1
        and not value.is_graph_output()
        and readers[0][0].op_type in _FUSED
        and readers[0][0].domain == ""
    )


def _image(m: Match) -> tuple[int, int, int] | None:
    """Channels, height and width of x, when they are known."""
    dims = m.x.dims
    if dims is None or len(dims) != 4:
        return None
    known = [dim for dim in dims[1:] if isinstance(dim, int)]
    return (known[0], known[1], known[2]) if len(known) == 3 else None


def _result(m: Match) -> tuple[int, int, int]:
    """Channels, height and width of the result."""
    image, pads = _image(m), _pads(m)
    assert image is not None and pads is not None
    assert m.w.static is not None
    outputs, _, taps, width = m.w.static
    return outputs, image[1] + pads[0] + pads[2] - taps + 1, image[2] + pads[1] + pads[3] - width + 1


def _images(m: Match) -> tuple[int, int]:
    """The fewest and the most images at once that the choice is made for."""
    batch = (m.x.dims or (None,))[0]
    return (batch, batch) if isinstance(batch, int) else (1, _USUAL_IMAGES)


def _share(m: Match, threads: int, images: int) -> float:
    """The time that is expected, as a share of the plain convolution's. For most of 230 measured ones within 0.1."""
    image, result, pads, taps = _image(m), _result(m), _pads(m), _taps(m)
    assert image is not None and pads is not None and m.w.static is not None
    weights = result[0] * m.w.static[1] * m.w.static[3]  # of one row of taps
    outside = sum(pad * (pad + 1) // 2 for pad in (pads[0], pads[2]))  # taps that lie on the padding are left out
    plain = weights * result[2] * (result[1] * taps - outside)
    filtered = weights * result[2] * _PRODUCTS * -(-result[1] // _rows(m))
    moved = (prod(image) + prod(result)) * _PRODUCTS / (_rows(m) * 1.5)
    size = (prod(image) + prod(result)) * 4 * images
    uncached = min(max((size - _CACHED) / (_UNCACHED - _CACHED), 0), 1)
    move = _MOVE + _MOVE_IN_MEMORY * threads * uncached
    start = _START if threads == 1 else _START_OF_THREAD * threads
    return (filtered + move * moved + _READ * threads * weights * _PRODUCTS + start) / max(plain, 1)


def _filter_bytes(m: Match) -> int:
    return prod(m.w.static or ()) // max(_taps(m), 1) * _PRODUCTS * 4


def _pays(m: Match) -> bool:
    (fewest, most), (few_images, many_images) = m.context.settings.target.threads, _images(m)
    return (
        _share(m, fewest, few_images) <= _GAIN
        and _share(m, most, few_images) <= _NO_LOSS
        and _share(m, fewest, many_images) <= _NO_LOSS
    )


def _expected(m: Match) -> str:
    (fewest, most), (few_images, many_images) = m.context.settings.target.threads, _images(m)
    shares = [
        f"{_share(m, threads, images):.0%} with {threads} threads and {images} images"
        for threads, images in dict.fromkeys([(fewest, few_images), (most, few_images), (fewest, many_images)])
    ]
    return f"{m.shapes.show(m.x.value)} to {_result(m)}: {', '.join(shares)}"


def _is_wide(m: Match) -> bool:
    steps = (m.Conv.integers(name) or (1, 1) for name in ("strides", "dilations"))
    return any(step != 1 for each in steps for step in each)


def _filter(point: int, taps: int) -> Sequence[float]:
    """Lavin and Gray's G, the row of a point: what the taps are multiplied by."""
    if point == len(_POINTS):
        return [0.0] * (taps - 1) + [1.0]
    return [_SCALES[point] * _POINTS[point] ** power for power in range(taps)]


def _weight(m: Match, op: Builder, point: int) -> ir.Value:
    """The filters [k, c, 1, s] of a point; what is made when the model is loaded stays so, and the file small."""
    taps = np.array(_filter(point, _taps(m))).reshape(-1, 1)
    if m.w.is_constant:
        return op.constant((m.w.array * taps).sum(axis=2, keepdims=True).astype(np.float32))
    scaled = op.Mul(m.w, op.constant(taps.astype(np.float32)))
    # ReduceSum takes its axes as an attribute below opset 13
    is_input = (m.root.version or 0) >= 13
    axes = op.constant(np.array([2], dtype=np.int64))
    return op.ReduceSum(scaled, axes) if is_input else op.ReduceSum(scaled, axes=[2])


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
        structural("no activation that goes along", lambda m: not _goes_along(m)),
        structural("a window of 3 or 5 rows", lambda m: _taps(m) in (3, 5)),
        require("w constant, or cast or spread from constants", lambda m: _numbers(m) is not None),
        FLOAT32,
        require("steps of one", lambda m: not _is_wide(m), lambda m: "strides or dilations"),
        require(
            "pads in numbers, less than the window",
            lambda m: (pads := _pads(m)) is not None and min(pads) >= 0 and max(pads[0], pads[2]) < _taps(m),
            lambda m: f"auto_pad {m.Conv.attribute('auto_pad')}" if _pads(m) is None else f"pads {_pads(m)}",
        ),
        require(
            "whole blocks of channels",
            lambda m: m.w.static is not None and m.w.static[1] % BLOCK == m.w.static[0] // _groups(m) % BLOCK == 0,
            lambda m: f"{m.shapes.show(m.w.value)} in {_groups(m)} groups",
        ),
        require(
            "an image of known size",
            lambda m: _image(m) is not None and min(_result(m)) > 0 and _images(m)[1] > 0,
            lambda m: m.shapes.show(m.x.value),
        ),
        profitable(
            f"filters of {_LARGEST >> 20} MiB at most",
            lambda m: _filter_bytes(m) <= _LARGEST,
            lambda m: m.shapes.show(m.w.value),
        ),
        profitable(f"{_SMALLEST} pixels", lambda m: prod(_result(m)[1:]) >= _SMALLEST, lambda m: str(_result(m)[1:])),
        profitable("less time", _pays, _expected),
        require("finite weights, and half as much again", _makes_finite_filters),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308, along one axis: half the multiplications of a 3x3 "
        "window, and the layout stays blocked; ONNX Runtime 1.32 has no such kernel"
    ),
    phase=Phase.ORT_ALGORITHMS,
)
def decompose_conv_winograd(m: Match, op: Builder) -> ir.Value:
    """Four rows of a 3x3 convolution by six 1x3 convolutions instead of twelve.

    An element's rounding error is in proportion to the largest of the 6 rows that it was computed with, not of the 3
    that it depends on: some 1e-6 of the largest result, against 3e-7. An infinity or NaN makes NaN of the 4 or 8 rows
    that are computed with it, in place of infinities and NaN in 3; so does what overflows 3e38 when 10 of it are added.
    The filters take twice the bytes of the weights, and what is live at once is up to half as much again.

    before:  x -> Conv[k, c, 3, 3] -> Relu -> y
    after:   p_i = Conv1x3(sum_j B[i, j] x[:, :, j::4]), i = 0 … 5;   y[:, :, k::4] = Relu(sum_i A[k, i] p_i)
    """
    image, pads, rows = _image(m), _pads(m), _rows(m)
    assert image is not None and pads is not None and m.w.static is not None
    window = m.w.static[3]
    channels, height, width = _result(m)
    top, left, bottom, right = pads

    def product(point: int) -> ir.Value:
        data = np.broadcast_to(_DATA[point].reshape(-1, 1), (image[0], 1, _PRODUCTS, 1)).astype(np.float32)
        seen = op.Conv(
            m.x,
            op.constant(data),
            group=image[0],
            kernel_shape=[_PRODUCTS, 1],
            strides=[rows, 1],
            pads=[top, 0, bottom + rows - 1, 0],
        )
        return op.Conv(
            seen,
            _weight(m, op, point),
            m.b if point == 1 else None,  # every row takes this product once
            group=_groups(m),
            kernel_shape=[1, window],
            pads=[0, left, 0, right],
        )

    def times(value: ir.Value, factor: int) -> ir.Value:
        # a factor for each channel: ONNX Runtime multiplies in the blocked layout, together with the sum that follows
        return op.Mul(value, op.constant(np.full((channels, 1, 1), factor, dtype=np.float32)))

    def sum_and_difference(one: ir.Value, other: ir.Value) -> tuple[ir.Value, ir.Value]:
        return op.Add(one, other), op.Add(times(other, -1), one)

    near, far = (sum_and_difference(product(point), product(point + 1)) for point in (1, 3))
    phases = []
    for row in range(rows):
        phase = op.Add(times(far[row % 2], 2**row) if row else far[0], near[row % 2])
        for ends, point in ((0, 0), (rows - 1, _PRODUCTS - 1)):
            phase = op.Add(product(point), phase) if row == ends else phase
        phases.append(_activated(m, op, phase))
    joined = op.Concat(*phases, axis=3)
    steps = -(-height // rows)
    result = op.Reshape(joined, op.constant(np.array([0, channels, steps * rows, width], dtype=np.int64)))
    if steps * rows == height:
        return result
    if (m.root.version or 0) < 10:  # from there on Slice is told by inputs
        return op.Slice(result, starts=[0], ends=[height], axes=[2])
    start, end, axis = (op.constant(np.array([number], dtype=np.int64)) for number in (0, height, 2))
    return op.Slice(result, start, end, axis)
