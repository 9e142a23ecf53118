"""Shape computations: elements of small integer tensors as polynomials of dims."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from .... import ir
from ..dim_solver import Equations
from ..symbolic_size import Size, product
from .call import Call, Results, SymbolicTensor, infers


@infers("Shape")
def _shape(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return [SymbolicTensor(ir.DataType.INT64, (call.unknown(),))]
    end = call.attribute("end")
    part = dims[call.integer("start") : end if isinstance(end, int) else None]
    return [SymbolicTensor(ir.DataType.INT64, (Size.number(len(part)),), part)]


@infers("Size")
def _size(call: Call) -> Results | None:
    dims = call.dims(0)
    return [SymbolicTensor(ir.DataType.INT64, (), None if dims is None else (call.equations.bounded(product(dims)),))]


@infers("Identity Cast CastLike")
def _same(call: Call) -> Results | None:
    x = call.required(0)
    dtype = x.dtype
    if call.op_type == "Cast":
        dtype = ir.DataType(call.integer("to"))
    elif call.op_type == "CastLike":
        dtype = call.dtype(1)
    return [SymbolicTensor(dtype, x.dims, x.elements)]


@infers("Constant")
def _constant(call: Call) -> Results | None:
    return [call.collector.constant_of(call.node.outputs[0])]


@infers("ConstantOfShape")
def _constant_of_shape(call: Call) -> Results | None:
    elements = call.elements(0)
    return None if elements is None else [SymbolicTensor(None, call.sizes(elements))]


@infers("Range")
def _range(call: Call) -> Results | None:
    start, limit, step = ((call.elements(index) or (None,))[0] for index in range(3))
    if start is None or limit is None or step is None or step.constant != 1:
        return None
    return [SymbolicTensor(call.dtype(0), (limit - start,), None, limit)]


_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "And": lambda a, b: bool(a and b),
    "Or": lambda a, b: bool(a or b),
}
_ARITHMETIC: Mapping[str, Callable[[Equations, Size, Size], Size | None]] = {
    "Add": lambda equations, a, b: a + b,
    "Sub": lambda equations, a, b: a - b,
    "Mul": lambda equations, a, b: a * b,
    "Div": lambda equations, a, b: _quotient(equations, a, b),
}


def _quotient(equations: Equations, a: Size, b: Size) -> Size | None:
    divisor = b.constant
    if divisor is None:
        return a.divided(b)
    return equations.floor_div(a, divisor) if divisor > 0 else None


def _element(equations: Equations, op_type: str, a: Size | None, b: Size | None) -> Size | None:
    """The symbolic result of an operator on two elements; None when it is no polynomial."""
    if a is None or b is None:
        return None
    if op_type in _COMPARISONS:
        left, right = a.constant, b.constant
        return None if left is None or right is None else Size.number(int(_COMPARISONS[op_type](left, right)))
    result = _ARITHMETIC[op_type](equations, a, b)
    return None if result is None else equations.bounded(result)


@infers(
    "Add Sub Mul Div Pow Mod And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual Where Min Max Sum Mean BitShift "
    "BitwiseAnd BitwiseOr BitwiseXor"
)
def _elementwise(call: Call) -> Results | None:
    operands = [tensor for tensor in call.inputs if tensor is not None]
    dims = call.broadcast(*(tensor.dims for tensor in operands))
    elements = None
    is_tracked = call.op_type in _ARITHMETIC or call.op_type in _COMPARISONS
    if is_tracked and len(operands) == 2 and dims is not None and len(dims) <= 1:
        elements = _broadcast_elements(call, operands[0].elements, operands[1].elements)
    below = None
    if call.op_type == "Add" and len(operands) == 2:
        below = _shifted(*operands) or _shifted(*reversed(operands))
    return [SymbolicTensor(None, dims, elements, below)]


def _shifted(positions: SymbolicTensor, offset: SymbolicTensor) -> Size | None:
    """The bound of positions plus an offset."""
    if positions.below is None or offset.elements is None or len(offset.elements) != 1 or offset.elements[0] is None:
        return None
    return positions.below + offset.elements[0]


def _broadcast_elements(
    call: Call, one: Sequence[Size | None] | None, two: Sequence[Size | None] | None
) -> tuple[Size | None, ...] | None:
    if one is None or two is None or (len(one) != len(two) and 1 not in (len(one), len(two))):
        return None
    count = max(len(one), len(two))
    pairs = zip(list(one) * (count // len(one)), list(two) * (count // len(two)), strict=True)
    return tuple(_element(call.equations, call.op_type, a, b) for a, b in pairs)


@infers("Not")
def _not(call: Call) -> Results | None:
    values = call.constant(0)
    elements = None if values is None else tuple(Size.number(int(not value)) for value in values)
    return [SymbolicTensor(ir.DataType.BOOL, call.dims(0), elements)]


@infers("PRelu")
def _prelu(call: Call) -> Results | None:
    call.require_broadcast_into(call.inputs[1], call.dims(0))
    return [call.inputs[0]]
