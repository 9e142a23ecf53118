"""Eliminate operators that are the identity: a table of operators, forwarded inputs and conditions.

That the forwarded input also has the element type and the dims of the result is not repeated in every line: the driver
proves it for every rule that replaces one value by another. So `x * 1` on a [3] with ones of dims [1, 1] stays (the
rank would change), and `x + 0.0` stays because -0.0 would change its sign, where `x - 0.0` is eliminated.

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
from ..rewriting.pattern import any_call, op, values
from ..rewriting.rule import rewrite, rule

Test = Callable[[ir.Node], bool]

_LARGEST_UNIT = 1 << 16  # elements of a constant that is compared; a unit is a scalar or a short vector

_LHS, _WHERE = ("", "-lhs"), ("", "", "-rhs")
"""Suffixes of the names of rules, by forwarded input."""


def noop(
    op_type: str,
    index: int,
    text: str,
    test: Test,
    *,
    keeps_type: bool = False,
    exactness: Exactness = Exactness.EXACT,
) -> None:
    """Register the rule that replaces `op_type` by its input at `index` where `test` holds of the node."""
    suffix = (_WHERE if op_type == "Where" else _LHS)[index]

    def body(m: Match, op: Builder) -> ir.Value | None:
        return m.root.inputs[index]

    body.__doc__ = f"""{op_type} is the identity: {text}.

    before:  y = {op_type}({"…, " * index}x)
    after:   y = x
    """
    rule(
        any_call(op_type),
        requires=[structural(text, lambda m: len(m.root.inputs) > index and test(m.root))],
        source=f"ONNX {op_type}",
        name=f"eliminate-nop-{op_type.lower()}{suffix}",
        exactness=exactness,
        benefit=2,  # before any rule that would rewrite what goes anyway
        keeps_type=keeps_type,
    )(body)


def filled(node: ir.Node, index: int, number: float) -> bool:
    """Whether the input at `index` is a constant filled with `number`; zeros compare with their sign."""
    content = ir.constant(node.inputs[index]) if index < len(node.inputs) else None
    if content is None or not 0 < content.size <= _LARGEST_UNIT or content.dtype.kind not in "biufV":
        return False
    expected = np.asarray(number).astype(content.dtype)
    same = content == expected
    if content.dtype.kind in "fV":
        same &= np.signbit(content) == np.signbit(expected)
    return bool(np.all(same))


def known(node: ir.Node, name: str) -> ir.Array | None:
    """A constant parameter; None where it is absent or computed."""
    value = ir.parameter(node, name)
    return value if isinstance(value, np.ndarray) else None


def is_floating(node: ir.Node, index: int) -> bool:
    """Whether the input at `index` is a floating-point constant."""
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


# By definition: the forwarded input has the type and dims of the result.
noop("Identity", 0, "it copies", _always, keeps_type=True)
noop("Dropout", 0, "it is not training", _inference, keeps_type=True)
for variadic in ("Concat", "Max", "Min", "Sum", "Mean"):
    noop(variadic, 0, "it has one input", _one_input, keeps_type=True)
for reduction in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean", "ReduceSum"):
    noop(reduction, 0, "it reduces no axis", _no_axes_means_none, keeps_type=True)

# By equal types and dims, which the driver proves.
noop("Cast", 0, "the element type is the input's", _always)
noop("CastLike", 0, "the element type is the input's", _always)
for view in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"):
    noop(view, 0, "the dims are the input's", _always)
noop("Split", 0, "it has one output", lambda node: len(node.outputs) == 1)
noop("Slice", 0, "it takes every element in order", _unit_steps)
noop("Transpose", 0, "the permutation is the identity", _identity_permutation)
noop("Pad", 0, "every pad is zero", _no_pads)
noop("Resize", 0, "every scale is one", _no_scale)

# An absent bound is the largest finite number: Clip changes an infinity to it, its input does not.
noop("Clip", 0, "no bound is given", _no_bounds, exactness=Exactness.SPECIAL_VALUES)

# Identity elements of arithmetic and logic. x + 0.0 is not among them: it makes 0.0 of -0.0.
noop("Mul", 0, "it multiplies by one", lambda node: filled(node, 1, 1))
noop("Mul", 1, "it multiplies by one", lambda node: filled(node, 0, 1))
noop("Div", 0, "it divides by one", lambda node: filled(node, 1, 1))
noop("Pow", 0, "the exponent is one", lambda node: filled(node, 1, 1))
noop("Sub", 0, "it subtracts zero", lambda node: filled(node, 1, 0.0))
noop(
    "Add", 0, "it adds the zero that preserves signs", lambda node: filled(node, 1, -0.0 if is_floating(node, 1) else 0)
)
noop(
    "Add",
    1,
    "it adds the zero that preserves signs",
    lambda node: filled(node, 0, -0.0 if is_floating(node, 0) else 0),
)
noop("And", 0, "the other operand is true", lambda node: filled(node, 1, 1))
noop("And", 1, "the other operand is true", lambda node: filled(node, 0, 1))
for logical in ("Or", "Xor", "BitwiseOr", "BitwiseXor"):
    noop(logical, 0, "the other operand is false", lambda node: filled(node, 1, 0))
    noop(logical, 1, "the other operand is false", lambda node: filled(node, 0, 0))

# ONNX Runtime's Where adds up two selections, so that -0.0 comes out as 0.0: exact by the standard, not against it.
noop("Where", 1, "the condition is always true", lambda node: filled(node, 0, 1), exactness=Exactness.ROUNDING)
noop(
    "Where",
    2,
    "the condition is always false",
    lambda node: filled(node, 0, 0),
    exactness=Exactness.ROUNDING,
)

(x,) = values("x")


for idempotent in ("Relu", "Abs", "Ceil", "Floor", "Round", "Sign"):
    inner = getattr(op, idempotent)(x).named("inner").shared()
    rewrite(
        f"eliminate-repeated-{idempotent.lower()}",
        f"{idempotent} is idempotent.",
        getattr(op, idempotent)(inner),
        inner,
        source=f"ONNX {idempotent}",
        keeps_type=True,
    )
for involution in ("Not", "Neg", "BitwiseNot"):
    rewrite(
        f"eliminate-double-{involution.lower()}",
        f"{involution} is its own inverse.",
        getattr(op, involution)(getattr(op, involution)(x).named("inner").shared()),
        x,
        source=f"ONNX {involution}",
        keeps_type=True,
    )
