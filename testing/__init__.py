"""For tests: the optimizer as a function over protobuf models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def optimize_proto(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model that `optimize` makes of `model` at its defaults, unverified: the caller compares."""
    from .. import ir
    from ..jobs.optimization.optimize import optimize
    from ..options import Options

    return ir.to_proto(optimize(model, options=Options(verify=False)).model)
