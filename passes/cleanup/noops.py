"""Operators that do nothing here: a table of when, with one legality test for all.

Each line says which operator, which input survives, and when it changes nothing. That the survivor also has the same
element type and the same dims is not repeated in every line: the driver proves it for every rule that puts one value
in place of another. So `x * 1` on a [3] with ones of dims [1, 1] stays (the rank would change), and `x + 0.0` stays
because -0.0 would change its sign, where `x - 0.0` goes.

After PyTorch Inductor's table of no-ops (torch/_inductor/fx_passes/post_grad.py, `register_noop_decomp`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import structural
from ..rewriting.match import Match
from ..rewriting.operand import Operand
from ..rewriting.pattern import any_call, op, values
from ..rewriting.rule import rule

Test = Callable[[ir.Node], bool]

_LOOKED_AT = 1 << 16  # elements of a constant; a unit is a scalar or a short vector


def noop(
    op_type: str,
    survivor: int,
    text: str,
    test: Test,
    *,
    suffix: str = "",
    keeps_type: bool = False,
    exactness: Exactness = Exactness.EXACT,
) -> None:
    """Register the rule that drops `op_type` in favour of its input `survivor` when `test` holds of the node."""

    def body(m: Match, op: Builder) -> ir.Value | None:
        return m.root.inputs[survivor]

    body.__doc__ = f"""{op_type} does nothing: {text}.

    before:  x -> {op_type} -> y
    after:   x
    """
    rule(
        any_call(op_type),
        requires=[structural(text, lambda m: len(m.root.inputs) > survivor and test(m.root))],
        source=f"ONNX {op_type}",
        name=f"eliminate-nop-{op_type.lower()}{suffix}",
        exactness=exactness,
        keeps_type=keeps_type,
    )(body)


def filled(node: ir.Node, index: int, number: float) -> bool:
    """Whether the input at `index` is a constant of nothing but `number`; zeros compare with their sign."""
    content = ir.constant(node.inputs[index]) if index < len(node.inputs) else None
    if content is None or not 0 < content.size <= _LOOKED_AT or content.dtype.kind not in "biufV":
        return False
    wanted = np.asarray(number).astype(content.dtype)
    same = content == wanted
    if content.dtype.kind in "fV":
        same &= np.signbit(content) == np.signbit(wanted)
    return bool(np.all(same))


def known(node: ir.Node, name: str) -> ir.Array | None:
    """A parameter that is given and known."""
    value = ir.parameter(node, name)
    return value if isinstance(value, np.ndarray) else None


def is_floating(node: ir.Node, index: int) -> bool:
    content = ir.constant(node.inputs[index]) if index < len(node.inputs) else None
    return content is not None and content.dtype.kind in "fV"


def _always(node: ir.Node) -> bool:
    return True


def _one_input(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _no_bounds(node: ir.Node) -> bool:
    """Bounds that are absent, or infinite."""
    low, high = ir.parameter(node, "min"), ir.parameter(node, "max")
    return all(
        bound is None or (isinstance(bound, np.ndarray) and bound.size == 1 and float(bound.reshape(())) == infinity)
        for bound, infinity in ((low, -np.inf), (high, np.inf))
    )


def _identity_permutation(node: ir.Node) -> bool:
    order = ir.attribute(node, "perm")
    return isinstance(order, tuple) and order == tuple(range(len(order)))


def _unit_steps(node: ir.Node) -> bool:
    if (node.version or 0) < 10:
        return True  # Slice-1 has no steps
    steps = ir.parameter(node, "steps")
    return steps is None or (isinstance(steps, np.ndarray) and bool(np.all(steps == 1)))


def _no_pads(node: ir.Node) -> bool:
    pads = known(node, "pads")
    return pads is not None and not np.any(pads)


def _no_scale(node: ir.Node) -> bool:
    scales = known(node, "scales")
    moves = ir.attribute(node, "coordinate_transformation_mode") in ("tf_crop_and_resize", "tf_half_pixel_for_nn")
    return scales is not None and scales.size > 0 and bool(np.all(scales == 1)) and not moves


def _no_axes_means_none(node: ir.Node) -> bool:
    axes = ir.parameter(node, "axes")
    empty = axes is None or (isinstance(axes, np.ndarray) and axes.size == 0)
    return empty and ir.attribute(node, "noop_with_empty_axes") == 1


def _inference(node: ir.Node) -> bool:
    return ir.is_deterministic(node)


# What the definition alone says: the survivor has the result's type and dims whatever they are.
noop("Identity", 0, "it copies", _always, keeps_type=True)
noop("Dropout", 0, "it is not training", _inference, keeps_type=True)
for variadic in ("Concat", "Max", "Min", "Sum", "Mean"):
    noop(variadic, 0, "it has one input", _one_input, keeps_type=True)
for reduction in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean", "ReduceSum"):
    noop(reduction, 0, "it reduces no axis", _no_axes_means_none, keeps_type=True)

# What equal dims say.
noop("Cast", 0, "the element type is the input's", _always)
noop("CastLike", 0, "the element type is the input's", _always)
for view in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"):
    noop(view, 0, "the dims are the input's", _always)
noop("Split", 0, "it has one output", lambda node: len(node.outputs) == 1)
noop("Slice", 0, "it takes every element in order", _unit_steps)
noop("Transpose", 0, "the permutation is the identity", _identity_permutation)
noop("Pad", 0, "every pad is zero", _no_pads)
noop("Resize", 0, "every scale is one", _no_scale)

# An absent bound is the last finite number: an infinity, which Clip makes that number, stays.
noop("Clip", 0, "no bound is given", _no_bounds, exactness=Exactness.SPECIAL_VALUES)

# Units of arithmetic and logic. x + 0.0 is not among them: it makes 0.0 of -0.0.
noop("Mul", 0, "it multiplies by one", lambda node: filled(node, 1, 1))
noop("Mul", 1, "it multiplies by one", lambda node: filled(node, 0, 1), suffix="-lhs")
noop("Div", 0, "it divides by one", lambda node: filled(node, 1, 1))
noop("Pow", 0, "the exponent is one", lambda node: filled(node, 1, 1))
noop("Sub", 0, "it subtracts zero", lambda node: filled(node, 1, 0.0))
noop("Add", 0, "it adds the zero that keeps signs", lambda node: filled(node, 1, -0.0 if is_floating(node, 1) else 0))
noop(
    "Add",
    1,
    "it adds the zero that keeps signs",
    lambda node: filled(node, 0, -0.0 if is_floating(node, 0) else 0),
    suffix="-lhs",
)
noop("And", 0, "the other operand is true", lambda node: filled(node, 1, 1))
noop("And", 1, "the other operand is true", lambda node: filled(node, 0, 1), suffix="-lhs")
for logical in ("Or", "Xor", "BitwiseOr", "BitwiseXor"):
    noop(logical, 0, "the other operand is false", lambda node: filled(node, 1, 0))
    noop(logical, 1, "the other operand is false", lambda node: filled(node, 0, 0), suffix="-lhs")

# ONNX Runtime's Where adds up two selections, so that -0.0 comes out as 0.0: exact by the standard, not against it.
noop("Where", 1, "the condition is always true", lambda node: filled(node, 0, 1), exactness=Exactness.ROUNDING)
noop(
    "Where",
    2,
    "the condition is always false",
    lambda node: filled(node, 0, 0),
    suffix="-rhs",
    exactness=Exactness.ROUNDING,
)

(x,) = values("x")


def _twice(op_type: str, kind: str, text: str, after: str, survivor: str) -> None:
    """Register the rule for an operator that stands twice in a row."""

    def body(m: Match, op: Builder) -> ir.Value:
        operand: Operand = getattr(m, survivor)
        return operand.value

    body.__doc__ = f"""{op_type} of {op_type} is {text}.

    before:  x -> {op_type} -> {op_type} -> y
    after:   {after}
    """
    call = getattr(op, op_type)
    pattern = call(call(x).named("inner").shared())
    rule(pattern, source=f"ONNX {op_type}", name=f"eliminate-{kind}-{op_type.lower()}", keeps_type=True)(body)


for once in ("Relu", "Abs", "Ceil", "Floor", "Round", "Sign"):
    _twice(once, "repeated", f"the same as one {once}", f"x -> {once} -> y", "inner")
for undone in ("Not", "Neg", "BitwiseNot"):
    _twice(undone, "double", "what was there before", "x", "x")
