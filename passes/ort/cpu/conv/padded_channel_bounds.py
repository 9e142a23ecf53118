"""What stands in channels that were filled up with zeros: it is multiplied by zero in the end, so it must be finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..... import ir
from .nchwc import POOLS

_LARGEST = 1e30  # far from float32's end at 3e38
_NEVER_LARGER = frozenset({"Relu", "Tanh", "HardSwish", "Gelu", *POOLS})
"""Functions with |f(x)| <= |x|."""
SUMS = frozenset({"Add", "Sum", "Mul"})
_GATES = frozenset({"Sigmoid", "HardSigmoid"})


def all_finite(nodes: Sequence[ir.Node]) -> bool:
    """Whether every value that `nodes` make, in their order, is finite in its filled channels."""
    bounds: dict[ir.Value, float] = {}
    for node in nodes:
        bound = _bound(node, bounds)
        if bound is None or bound > _LARGEST:
            return False
        bounds[node.outputs[0]] = bound
    return True


def _bound(node: ir.Node, bounds: Mapping[ir.Value, float]) -> float | None:
    """The largest magnitude in the filled channels of what `node` makes, when it can be said."""
    kind = node.op_type
    if kind in ("Conv", "BatchNormalization"):
        return 0.0  # weights, scales and biases are filled with zeros, too
    data = [_magnitude(value, bounds) for value in (node.inputs if kind in SUMS else node.inputs[:1])]
    known = [each for each in data if each is not None]
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
        case _ if kind in _NEVER_LARGER:
            return known[0]
        case _:
            return None


def _magnitude(value: ir.Value | None, bounds: Mapping[ir.Value, float]) -> float | None:
    """That of an image in the region, or of a constant: one number stays, numbers for each channel get zeros."""
    if value is None or value in bounds:
        return bounds.get(value) if value is not None else None
    content = ir.constant(value)
    if content is None or content.dtype.kind not in "fV":
        return None
    return float(abs(content.astype(np.float64).reshape(()))) if content.size == 1 else 0.0


def _limit(node: ir.Node, name: str, default: float) -> float | None:
    given = ir.parameter(node, name)
    if given is None:
        return default
    return float(given.reshape(())) if isinstance(given, np.ndarray) and given.size == 1 else None
