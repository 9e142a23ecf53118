"""Bounds of zero-padded channels: the next convolution multiplies them by zero, so they must stay finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..... import ir
from .nchwc import POOLS

_LARGEST = 1e30  # far from float32's end at 3e38
_CONTRACTIONS = frozenset({"Relu", "Tanh", "HardSwish", "Gelu", *POOLS})
"""Functions with |f(x)| <= |x|."""
SUMS = frozenset({"Add", "Sum", "Mul"})
_GATES = frozenset({"Sigmoid", "HardSigmoid"})


def all_finite(nodes: Sequence[ir.Node]) -> bool:
    """Whether every result of `nodes`, in topological order, is finite in its padded channels."""
    bounds: dict[ir.Value, float] = {}
    for node in nodes:
        bound = _bound(node, bounds)
        if bound is None or bound > _LARGEST:
            return False
        bounds[node.outputs[0]] = bound
    return True


def _bound(node: ir.Node, bounds: Mapping[ir.Value, float]) -> float | None:
    """A bound of the magnitude in the padded channels of the result of `node`; None where there is none."""
    kind = node.op_type
    if kind in ("Conv", "BatchNormalization"):
        return 0.0  # weights, scales and biases are padded with zeros, too
    data = [_magnitude(value, bounds) for value in (node.inputs if kind in SUMS else node.inputs[:1])]
    known = [magnitude for magnitude in data if magnitude is not None]
    if len(known) != len(data):
        return None
    match kind:
        case "Add" | "Sum":
            return sum(known)
        case "Mul":
            return float(np.prod(known))
        case "LeakyRelu":
            alpha = ir.attribute(node, "alpha")
            return known[0] * max(1.0, abs(alpha)) if isinstance(alpha, float) else None
        case "Clip":
            low, high = (_limit(node, name, default) for name, default in (("min", -np.inf), ("max", np.inf)))
            return None if low is None or high is None else max(known[0], low, -high)
        case "Sqrt":
            return 0.0 if known[0] == 0 else None
        case _ if kind in _GATES:
            return 1.0
        case _ if kind in _CONTRACTIONS:
            return known[0]
        case _:
            return None


def _magnitude(value: ir.Value | None, bounds: Mapping[ir.Value, float]) -> float | None:
    """The bound of a value of the region, or of a constant: a scalar stays, a per-channel one is padded with zeros."""
    if value is None or value in bounds:
        return bounds.get(value) if value is not None else None
    content = ir.constant(value)
    if content is None or content.dtype.kind not in "fV":
        return None
    return float(abs(content.astype(np.float64).reshape(()))) if content.size == 1 else 0.0


def _limit(node: ir.Node, name: str, default: float) -> float | None:
    limit = ir.parameter(node, name)
    if limit is None:
        return default
    return float(limit.reshape(())) if isinstance(limit, np.ndarray) and limit.size == 1 else None
