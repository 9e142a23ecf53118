"""Traits of the standard's operators that several analyses ask for."""

from __future__ import annotations

from typing import Final

VIEWS: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that give the elements of their first input other dims; Identity apart."""

ALIASES: Final = frozenset({"Identity", *VIEWS})
"""Operators whose result is their first input, element by element in the same order: runtimes need no copy."""

REDUCTIONS: Final = tuple(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)

MOVEMENT: Final = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Gather GatherElements GatherND "
    "Compress DepthToSpace SpaceToDepth".split()
)
"""Operators whose results hold elements of their first input and no others."""

UNARY: Final = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu QuantizeLinear DequantizeLinear".split()
)
"""Elementwise over the first input; further inputs, if any, have one element, or one for each index of an axis."""

BROADCASTING: Final = frozenset(
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor".split()
)
"""Elementwise over all inputs, which broadcast."""

COMMUTATIVE: Final = frozenset("Add Mul And Or Xor Equal BitwiseAnd BitwiseOr BitwiseXor Max Min Sum Mean".split())
"""Operators with the same result for two operands in either order, but for the zero or NaN that Max and Min select."""
