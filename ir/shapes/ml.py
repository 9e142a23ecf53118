"""Types and dims of the ai.onnx.ml operators for which onnx has no inference (ONNX Operators-ml.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import ir
from .facts import UNKNOWN, Call, Dims, Fact
from .symbolic import Dim

DOMAIN: Final = "ai.onnx.ml"

_FLOAT: Final = ir.DataType.FLOAT


def _same(call: Call, fact: Fact) -> Fact:
    """Imputer: the input's own type and dims."""
    return Fact(fact.dtype, fact.dims)


def _floats(call: Call, fact: Fact) -> Fact:
    """Scaler, Normalizer: float32 of the input's dims, whatever number type comes in."""
    return Fact(_FLOAT, fact.dims)


def _targets(call: Call, fact: Fact) -> Fact:
    """LinearRegressor: float32 [N, targets] of [N, C]."""
    targets = ir.attribute(call.node, "targets")
    return Fact(_FLOAT, _rows(fact, targets if isinstance(targets, int) else 1))


def _one_target(call: Call, fact: Fact) -> Fact:
    """SVMRegressor: float32 [N, 1] of [N, C]."""
    return Fact(_FLOAT, _rows(fact, 1))


def _rows(fact: Fact, width: Dim) -> Dims | None:
    return (fact.dims[0], width) if fact.dims is not None and len(fact.dims) == 2 else None


def _picked(call: Call, fact: Fact) -> Fact:
    """ArrayFeatureExtractor: [..., K] of [..., C] and K indices; of one dim [1, K]."""
    indices = call.inputs[1] if len(call.inputs) > 1 else None
    if fact.dims is None or not fact.dims or indices is None or indices.dims is None or len(indices.dims) != 1:
        return Fact(fact.dtype)
    leading: Dims = fact.dims[:-1] or (1,)
    return Fact(fact.dtype, (*leading, indices.dims[0]))


ML_RULES: Final[dict[str, Callable[[Call, Fact], Fact]]] = {
    "ArrayFeatureExtractor": _picked,
    "Imputer": _same,
    "LinearRegressor": _targets,
    "Normalizer": _floats,
    "SVMRegressor": _one_target,
    "Scaler": _floats,
}


def ml_facts(call: Call) -> list[Fact]:
    """The facts about the output of one node of an operator in `ML_RULES`."""
    first = call.inputs[0] if call.inputs else None
    if first is None or first.dtype is None or len(call.node.outputs) != 1:
        return [UNKNOWN] * len(call.node.outputs)
    return [ML_RULES[call.node.op_type](call, first)]
