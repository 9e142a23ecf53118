"""Operators that move data: sizes that fit each other, axes that hold what is taken, indices within tables."""

from __future__ import annotations

from .... import ir
from ....ir.shapes.facts import position
from ....ir.shapes.indexing import FAR, slice_bounds
from ....ir.shapes.symbolic import product
from .constrained_call import ConstrainedCall, constrains


@constrains("Reshape")
def _reshape(call: ConstrainedCall) -> None:
    """As many elements as before; the sizes beside -1 divide them."""
    before, after = list(call.dims(0)), list(call.results[0].dims or ())
    target = call.fact(1).elements if call.has(1) else call.integers("shape")
    if -1 in (target or ()):
        open_axis = (target or ()).index(-1)
        rest = product(after[:open_axis] + after[open_axis + 1 :])
        if isinstance(rest, int):
            call.equations.require_multiple(product(before), rest)
            return
    for dim in list(before):
        if dim in after:
            before.remove(dim)
            after.remove(dim)
    call.equal(product(before), product(after))


@constrains("Squeeze")
def _squeeze(call: ConstrainedCall) -> None:
    dims = call.dims(0)
    for axis in call.parameter("axes", 1) or ():
        call.equal(dims[axis], 1)


@constrains("Expand")
def _expand(call: ConstrainedCall) -> None:
    call.broadcast(call.dims(0), call.vector(1))


@constrains("DepthToSpace")
def _depth_to_space(call: ConstrainedCall) -> None:
    call.equations.require_multiple(call.dims(0)[1], call.integer("blocksize") ** 2)


@constrains("SpaceToDepth")
def _space_to_depth(call: ConstrainedCall) -> None:
    for dim in call.dims(0)[2:]:
        call.equations.require_multiple(dim, call.integer("blocksize"))


@constrains("Pad")
def _pad(call: ConstrainedCall) -> None:
    dims = call.dims(0)
    call.not_empty(0)
    pads = call.numbers(1) if call.has(1) else call.integers("pads")
    axes = call.numbers(3) if call.has(3) else range(len(dims))
    if call.word("mode", "constant") == "reflect":
        for place, axis in enumerate(axes):
            call.equations.require_least(dims[axis], max(pads[place], pads[place + len(axes)]) + 1)


# --- joining and splitting --------------------------------------------------------------------------------------------


@constrains("Concat")
def _concat(call: ConstrainedCall) -> None:
    first, *others = call.all_known(*range(len(call.inputs)))
    axis = position(call.integer("axis", 1), len(first))
    for dims in others:
        call.equal_dims(first[:axis] + first[axis + 1 :], dims[:axis] + dims[axis + 1 :])


@constrains("Split")
def _split(call: ConstrainedCall) -> None:
    dim = call.dims(0)[call.integer("axis")]
    sizes = call.parameter("split", 1)
    if sizes is None:
        call.equations.require_multiple(dim, len(call.node.outputs))
    else:
        call.equal(dim, sum(sizes))


@constrains("Slice")
def _slice(call: ConstrainedCall) -> None:
    """Bounds within the axis: one beyond it is legal, but not the typical use."""
    dims = call.dims(0)
    for axis, start, end, step in slice_bounds(call):
        for bound, more in ((start, 1), (end, 0)) if step > 0 else ():
            if isinstance(bound, int) and abs(bound) < FAR:
                call.equations.require_least(dims[axis], bound + more if bound >= 0 else -bound)
            elif not isinstance(bound, int) and isinstance(dims[axis], int):
                call.equations.require_most(bound + more, dims[axis])


# --- indices ----------------------------------------------------------------------------------------------------------


@constrains("Gather")
def _gather(call: ConstrainedCall) -> None:
    rows = call.dims(0)[call.integer("axis")]
    call.within(1, rows)
    indices = call.numbers(1)
    call.equations.require_least(rows, max(max(indices) + 1, -min(indices)))


@constrains("GatherElements", "ScatterElements", "Scatter")
def _gather_elements(call: ConstrainedCall) -> None:
    x, indices = call.dims(0), call.dims(1)
    call.equal_dims(indices, call.known(2))
    axis = position(call.integer("axis"), len(x))
    for one, two in zip(x[:axis] + x[axis + 1 :], indices[:axis] + indices[axis + 1 :], strict=True):
        if isinstance(two, int):
            call.equations.require_least(one, two)
        else:
            call.equal(one, two)


@constrains("TopK")
def _top_k(call: ConstrainedCall) -> None:
    (count,) = call.numbers(1) if call.has(1) else (call.integer("k", 1),)
    call.equations.require_least(call.dims(0)[call.integer("axis", -1)], count)


@constrains("Range")
def _range(call: ConstrainedCall) -> None:
    call.bounded(call.vector(1)[0])


# --- detection --------------------------------------------------------------------------------------------------------


@constrains("RoiAlign", "MaxRoiPool")
def _rois(call: ConstrainedCall) -> None:
    rois = call.dims(1)
    call.equal(rois[1], 4 if call.node.op_type == "RoiAlign" else 5)
    call.equal(rois[0], call.dims(2)[0])


@constrains("NonMaxSuppression")
def _nms(call: ConstrainedCall) -> None:
    boxes = call.dims(0)
    call.equal(boxes[2], 4)
    scores = call.dims(1)
    call.equal_dims(boxes[:2], (scores[0], scores[2]))


@constrains("GridSample")
def _grid_sample(call: ConstrainedCall) -> None:
    x, grid = call.dims(0), call.dims(1)
    call.equal_dims((x[0], len(x) - 2), (grid[0], grid[-1]))


# --- bodies -----------------------------------------------------------------------------------------------------------


@constrains("Scan")
def _scan(call: ConstrainedCall) -> None:
    """Scanned operands are of one length, and states keep their dims."""
    (body,), count = ir.subgraphs_of(call.node), call.integer("num_scan_inputs")
    states = len(call.inputs) - count
    for index, value in enumerate(body.outputs[:states]):
        call.equal_dims(call.known(index), call.facts(value).dims)
    axes = call.integers("scan_input_axes", (0,) * count)
    lengths = [call.dims(index)[axis] for index, axis in enumerate(axes, states)]
    for length in lengths[1:]:
        call.equal(lengths[0], length)
