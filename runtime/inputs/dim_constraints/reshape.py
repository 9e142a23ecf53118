"""Operators that change dims and keep elements in their order, or permute them."""

from __future__ import annotations

from ..symbolic_size import Size, product
from .call import Call, Results, SymbolicTensor, infers


@infers("Transpose")
def _transpose(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return None
    return [SymbolicTensor(None, tuple(dims[axis] for axis in call.integers("perm", range(len(dims))[::-1])))]


@infers("Reshape")
def _reshape(call: Call) -> Results | None:
    x = call.required(0)
    is_input = call.tensor(1) is not None
    shape = call.elements(1) if is_input else [Size.number(dim) for dim in call.integers("shape")] or None
    if shape is None:
        return None
    keeps_zero = not call.integer("allowzero")
    target: list[Size] = []
    open_axis: int | None = None
    for axis, dim in enumerate(shape):
        number = None if dim is None else dim.constant
        if number == 0 and keeps_zero:
            target.append(call.unknown() if x.dims is None else x.dims[axis])
        elif number == -1:
            open_axis = axis
            target.append(Size.number(1))
        else:
            target.append(call.unknown() if dim is None else dim)
    elements = x.elements if len(target) == 1 else None
    if x.dims is not None:
        total, rest = call.equations.bounded(product(x.dims)), call.equations.bounded(product(target))
        if open_axis is None:
            call.equal(*_cancelled(total, rest))
        else:
            target[open_axis] = _quotient(call, *_cancelled(total, rest))
    elif open_axis is not None:
        target[open_axis] = call.unknown()
    return [SymbolicTensor(x.dtype, tuple(target), elements)]


def _cancelled(one: Size, two: Size) -> tuple[Size, Size]:
    """A fraction without the symbols that divide both its terms."""
    for name in two.symbols:
        symbol = Size.symbol(name)
        while (left := one.divided(symbol)) is not None and (right := two.divided(symbol)) is not None:
            if not left.terms or not right.terms:
                break
            one, two = left, right
    return one, two


def _quotient(call: Call, total: Size, rest: Size) -> Size:
    quotient = total.divided(rest)
    if quotient is not None:
        return quotient
    divisor = rest.constant
    if divisor is None:
        return call.unknown()
    call.equations.require_multiple(total, divisor)
    return call.equations.floor_div(total, divisor)


@infers("Flatten")
def _flatten(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return [SymbolicTensor(None, (call.unknown(), call.unknown()))]
    axis = call.integer("axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [SymbolicTensor(None, (product(dims[:axis]), product(dims[axis:])))]


def _axes(call: Call) -> list[int] | None:
    return call.constant(1) if call.tensor(1) is not None else call.integers("axes") or None


@infers("Squeeze")
def _squeeze(call: Call) -> Results | None:
    x, axes = call.required(0), _axes(call)
    if x.dims is None:
        return None
    if axes is None:
        return [SymbolicTensor(x.dtype, tuple(dim for dim in x.dims if dim.constant != 1), x.elements)]
    squeezed = {axis % len(x.dims) for axis in axes}
    for axis in squeezed:
        call.equal(x.dims[axis], 1)
    dims = tuple(dim for axis, dim in enumerate(x.dims) if axis not in squeezed)
    return [SymbolicTensor(x.dtype, dims, x.elements)]


@infers("Unsqueeze")
def _unsqueeze(call: Call) -> Results | None:
    x, axes = call.required(0), _axes(call)
    if x.dims is None or axes is None:
        return None
    rank = len(x.dims) + len(axes)
    added = {axis % rank for axis in axes}
    rest = iter(x.dims)
    dims = tuple(Size.number(1) if axis in added else next(rest) for axis in range(rank))
    return [SymbolicTensor(x.dtype, dims, x.elements if rank == 1 else None)]


@infers("Expand")
def _expand(call: Call) -> Results | None:
    shape = call.elements(1)
    if shape is None:
        return None
    return [SymbolicTensor(None, call.broadcast(call.dims(0), call.sizes(shape)))]


@infers("Tile")
def _tile(call: Call) -> Results | None:
    dims = call.dims(0)
    repeats = call.elements(1)
    if dims is None or repeats is None:
        return None
    return [SymbolicTensor(None, tuple(dim * repeat for dim, repeat in zip(dims, call.sizes(repeats), strict=True)))]


@infers("DepthToSpace SpaceToDepth")
def _blocks(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return None
    block = call.integer("blocksize", 1)
    batch, channels, height, width = dims
    if call.op_type == "DepthToSpace":
        call.equations.require_multiple(channels, block * block)
        depth = call.equations.floor_div(channels, block * block)
        return [SymbolicTensor(None, (batch, depth, height * block, width * block))]
    call.equations.require_multiple(height, block)
    call.equations.require_multiple(width, block)
    spatial = (call.equations.floor_div(dim, block) for dim in (height, width))
    return [SymbolicTensor(None, (batch, channels * block * block, *spatial))]
