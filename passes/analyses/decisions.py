"""Values that decide: rounding them otherwise may choose another leaf, label or branch, and not a nearby number.

A value that comes from inputs and constants by arithmetic and data movement alone is often exact (integers, grids of
sensor data), and thresholds are learnt on the very same numbers: 9 of 200,000 rows changed their leaf in a TreeEnsemble
when two shifts before it became one. Such a value must not be rounded otherwise on its way into an operator that
decides. Behind a reduction (MatMul, Conv, a mean) or a transcendental function there is noise already, which differs
between kernels and thread counts: there fusions in front of a final ArgMax stay.
"""

from __future__ import annotations

from typing import Final

from ... import ir

_MAX_NODES: Final = 64
_MOVEMENT: Final = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Gather GatherElements GatherND "
    "Concat Pad DepthToSpace SpaceToDepth".split()
)
_ARITHMETIC: Final = frozenset("Add Sub Mul Div Neg Abs Sum Max Min Clip Relu Cast CastLike Where".split())
_DECIDES: Final = frozenset(
    "Equal Less LessOrEqual Greater GreaterOrEqual ArgMax ArgMin TopK Round Floor Ceil Sign Hardmax NonMaxSuppression "
    "OneHot Unique QuantizeLinear DynamicQuantizeLinear IsNaN IsInf Mod".split()
)
_DECIDES_ML: Final = frozenset(
    "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor SVMClassifier LinearClassifier Binarizer LabelEncoder "
    "ArrayFeatureExtractor CategoryMapper".split()
)


def reaches_decision(value: ir.Value) -> ir.Node | None:
    """An operator that decides by `value`, directly or behind arithmetic and movement; None where none is near."""
    pending, seen = [value], set[ir.Value]()
    while pending and len(seen) < _MAX_NODES:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        for user, _ in each.uses():
            if _decides(user, each):
                return user
            if user.domain == "" and user.op_type in _MOVEMENT | _ARITHMETIC:
                pending += user.outputs
    return None


def is_plain_arithmetic(value: ir.Value) -> bool:
    """Whether `value` comes from inputs and constants by arithmetic and movement alone, as far as is looked."""
    pending, seen = [value], set[ir.Value]()
    while pending:
        each = pending.pop()
        if each in seen or ir.is_constant(each):
            continue
        seen.add(each)
        node = each.producer()
        if node is None:
            continue
        if len(seen) > _MAX_NODES or node.domain != "" or node.op_type not in _MOVEMENT | _ARITHMETIC:
            return False
        pending += [given for given in node.inputs if given is not None]
    return True


def _decides(node: ir.Node, value: ir.Value) -> bool:
    if node.domain == "ai.onnx.ml":
        return node.op_type in _DECIDES_ML
    if node.domain != "":
        return False
    if node.op_type == "Cast":
        return _is_discrete(ir.attribute(node, "to"))
    return node.op_type in _DECIDES or (node.op_type == "Where" and node.inputs[0] is value)


def _is_discrete(code: object) -> bool:
    return isinstance(code, int) and not ir.DataType(code).is_floating_point()
