"""Operators of detection models."""

from __future__ import annotations

from .call import Call, Results, SymbolicTensor, infers


@infers("RoiAlign MaxRoiPool")
def _rois(call: Call) -> Results | None:
    rois, batch = call.dims(1), call.dims(2)
    if rois is not None:
        call.equal(rois[1], 4 if call.op_type == "RoiAlign" else 5)
        if batch is not None:
            call.equal(rois[0], batch[0])
    return None


@infers("NonMaxSuppression")
def _nms(call: Call) -> Results | None:
    boxes, scores = call.dims(0), call.dims(1)
    if boxes is not None:
        call.equal(boxes[2], 4)
        if scores is not None:
            call.equal(boxes[0], scores[0])
            call.equal(boxes[1], scores[2])
    return None


@infers("GridSample")
def _grid_sample(call: Call) -> Results | None:
    x, grid = call.dims(0), call.dims(1)
    if x is None or grid is None:
        return None
    call.equal(x[0], grid[0])
    call.equal(grid[-1], len(x) - 2)
    return [SymbolicTensor(None, (*x[:2], *grid[1:-1]))]
