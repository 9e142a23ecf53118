"""Infer the rank of an input without a declared shape from the operators that use it."""

from __future__ import annotations

from collections.abc import Mapping

from .... import ir
from .constrained_call import MICROSOFT, ML

_RANKS: Mapping[tuple[str, int], int] = {
    **{("Gemm", index): 2 for index in (0, 1)},
    **{(op, 0): 3 for op in ("LSTM", "GRU", "RNN")},
    **{(op, 4): 1 for op in ("LSTM", "GRU", "RNN")},
    **{(op, index): 3 for op in ("LSTM", "GRU", "RNN") for index in (5, 6)},
    **{(op, 0): 4 for op in ("DepthToSpace", "SpaceToDepth", "RoiAlign", "GlobalAveragePool", "GlobalMaxPool")},
    ("RoiAlign", 1): 2,
    ("RoiAlign", 2): 1,
    ("NonMaxSuppression", 0): 3,
    ("NonMaxSuppression", 1): 3,
    ("EyeLike", 0): 2,
    ("Reshape", 1): 1,
    ("Expand", 1): 1,
    ("Tile", 1): 1,
}
_RANK_PRESERVING = ir.UNARY | frozenset(
    "Identity CastLike Softmax LogSoftmax Dropout Pad Resize CumSum LayerNormalization BatchNormalization "
    "InstanceNormalization LpNormalization".split()
)


def infer_rank(value: ir.Value) -> int | None:
    """The rank that the transitive users of `value` require, through operators that keep it.

    Where none requires one, the largest rank of the constants that it is broadcast with; else None.
    """
    pending, seen, likely = [value], {value}, None
    while pending:
        for node, index in pending.pop().uses():
            rank = _required_rank(node, index)
            if rank is not None:
                return rank
            if node.op_type in ("MatMul", *ir.BROADCASTING):
                constants = [ir.constant_tensor(operand) for operand in node.inputs if operand is not None]
                likely = max([likely or 0, *(len(tensor.shape) for tensor in constants if tensor is not None)])
                likely = max(likely, 2) if node.op_type == "MatMul" else likely
            if (node.op_type in _RANK_PRESERVING and index == 0) or node.op_type in ir.BROADCASTING:
                results = [output for output in node.outputs[:1] if output not in seen]
                seen.update(results)
                pending += results
    return likely


def _required_rank(node: ir.Node, index: int) -> int | None:
    """The rank that an operator requires of the operand at `index`; None where it accepts several."""
    if node.domain == ML:
        return 2
    if node.domain not in ("", MICROSOFT):
        return None
    if (node.op_type, index) in _RANKS:
        return _RANKS[node.op_type, index]
    if index == 0 and node.op_type in ("Conv", "ConvTranspose", "ConvInteger", "FusedConv"):
        weights = ir.constant_tensor(node.inputs[1])
        return None if weights is None else len(weights.shape)
    if node.domain == MICROSOFT and index == 0 and "Attention" in node.op_type:
        return 3
    return _rank_of_attributes(node, index)


def _rank_of_attributes(node: ir.Node, index: int) -> int | None:
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        kernel = ir.attribute(node, "kernel_shape")
        return len(kernel) + 2 if isinstance(kernel, (tuple, list)) else 2
    if node.op_type == "Transpose":
        perm = ir.attribute(node, "perm")
        return (len(perm) or None) if isinstance(perm, (tuple, list)) else None
    if node.op_type == "Einsum":
        equation = ir.attribute(node, "equation")
        terms = (equation if isinstance(equation, str) else "").replace(" ", "").split("->")[0].split(",")
        return len(terms[index]) if index < len(terms) and "." not in terms[index] else None
    return None
