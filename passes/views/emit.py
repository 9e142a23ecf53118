"""Operators for a view: at most slice, reshape, one transpose, expand, reshape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from ... import ir
from ..analyses import Dim
from ..analyses.symbolic import exact_quotient, low, product
from ..rewriting.builder import Builder
from .slice_ranges import Range, slice_parameters
from .view import Dims, Factor, Group, View, identity

_MOST_INDICES = 1 << 12  # of a Gather that repeats


@dataclass(frozen=True)
class InputDim:
    """The product of the dims `start` to `stop` of a Reshape's input, divided by `divisor`."""

    start: int
    stop: int
    divisor: int = 1


@dataclass(frozen=True)
class Step:
    """An operator of an emitted chain, with the parameters that `ir.new_node` spells as the opset has them.

    `target`: of a Reshape or Expand, or the indices of a Gather; numbers, or dims of the input.
    """

    op_type: str
    target: int | tuple[int | InputDim, ...] | None = None
    parameters: Mapping[str, int | Sequence[int]] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """The number of operators."""
        sizes = self.target if isinstance(self.target, tuple) else ()
        computed = [size for size in sizes if isinstance(size, InputDim)]
        return 1 + bool(computed) + sum(2 * (size.stop - size.start) - 1 + (size.divisor > 1) for size in computed)

    def build(self, value: ir.Value, op: Builder) -> ir.Value:
        """Apply the operator to `value`."""
        target: ir.Value | int | list[int] | None = None
        if isinstance(self.target, tuple):
            numbers = [size for size in self.target if isinstance(size, int)]
            sizes = (_size_of(size, value, op) for size in self.target)
            target = numbers if len(numbers) == len(self.target) else op.Concat(*sizes, axis=0)
        elif self.target is not None:
            target = self.target
        inputs = [value] if target is None else [value, target]
        return op.node(self.op_type, inputs, attributes=dict(self.parameters))[0]


def _size_of(size: int | InputDim, value: ir.Value, op: Builder) -> ir.Value:
    if isinstance(size, int):
        return op.constant([size])
    dims = op.Shape(value, start=size.start, end=size.start + 1)
    for axis in range(size.start + 1, size.stop):
        dims = op.Mul(dims, op.Shape(value, start=axis, end=axis + 1))
    return dims if size.divisor == 1 else op.Div(dims, [size.divisor])


def cost(steps: Sequence[Step]) -> int:
    """The number of operators."""
    return sum(step.cost for step in steps)


def build(steps: Sequence[Step], value: ir.Value, op: Builder) -> ir.Value:
    """Apply the operators one after the other."""
    for step in steps:
        value = step.build(value, op)
    return value


def emit(view: View, *, computed: bool = False) -> list[Step] | None:
    """The fewest operators that compute `view` from its source; None where no target says its dims.

    Targets of Reshapes are constant, or `computed` from the dims of their inputs where that is allowed.
    """
    if view.is_identity:
        return []
    chains = [_selection(view), _chain(view, fine=False), _chain(view, fine=True), _repetition(view)]
    if computed and not any(chain is not None for chain in chains):
        chains = [_chain(view, fine=True, computed=True)]
    return min((steps for steps in chains if steps is not None), key=cost, default=None)


def constant_target(source: Sequence[Dim] | None, result: Sequence[Dim] | None) -> list[int] | None:
    """The target of a Reshape from dims `source` to `result`: numbers, 0 (copied) and at most one -1; else None.

    -1 is inferred by division, which fails when another dim is 0 at run time: it needs dims that are proven positive.
    """
    if source is None or result is None or any(dim == 0 for dim in result):
        return None
    target = []
    for index, dim in enumerate(result):
        if isinstance(dim, int):
            target.append(dim)
        else:
            target.append(0 if index < len(source) and source[index] == dim else -1)
    others = [dim for dim, number in zip(result, target, strict=True) if number != -1]
    if target.count(-1) > 1 or (-1 in target and any((low(dim) or 0) < 1 for dim in others)):
        return None
    return target


class Steps(list[Step]):
    """A chain that is being emitted."""

    def __init__(self, *, computed: bool) -> None:
        super().__init__()
        self._computed = computed

    def reshape(self, source: Sequence[Dim], result: Sequence[Dim]) -> bool:
        """Append a Reshape, if one is needed; False where no target says `result`."""
        if tuple(source) == tuple(result):
            return True
        target = constant_target(source, result)
        if target is not None:
            self.append(Step("Reshape", tuple(target)))
            return True
        if _without_ones(source) == _without_ones(result):
            for op_type, longer, shorter in (("Unsqueeze", result, source), ("Squeeze", source, result)):
                axes = _inserted_ones(longer, shorter)
                if axes:
                    self.append(Step(op_type, parameters={"axes": axes}))
                    return True
        sizes = [dim if isinstance(dim, int) else _input_dim(source, dim) for dim in result] if self._computed else []
        known = [size for size in sizes if size is not None]
        if not known or len(known) < len(result):
            return False
        self.append(Step("Reshape", tuple(known)))
        return True


def _inserted_ones(longer: Sequence[Dim], shorter: Sequence[Dim]) -> tuple[int, ...]:
    """The axes of dims of 1 that `longer` has and `shorter` lacks; none where they differ otherwise."""
    rest, axes = list(shorter), []
    for axis, dim in enumerate(longer):
        if rest and rest[0] == dim:
            rest.pop(0)
        elif dim == 1:
            axes.append(axis)
        else:
            return ()
    return () if rest else tuple(axes)


def _input_dim(source: Sequence[Dim], dim: Dim) -> InputDim | None:
    """How `dim` follows from the dims of a Reshape's input."""
    for length in range(1, len(source) + 1):
        for start in range(len(source) - length + 1):
            quotient = exact_quotient(product(source[start : start + length]), dim)
            if isinstance(quotient, int) and quotient > 0:
                return InputDim(start, start + length, quotient)
    return None


def _selection(view: View) -> list[Step] | None:
    """One Gather of one element of one axis."""
    chosen = [axis for axis, group in enumerate(view.axes) if not _is_whole(group)]
    if len(chosen) != 1 or len(view.groups) != len(view.axes) - 1:
        return None
    (axis,) = chosen
    taken = _axis_range(view.axes[axis])
    selected = None if taken is None else identity(view.source).slice(axis, taken.start, 1, 1)
    squeezed = None if selected is None else selected.squeeze(axis)
    fits = squeezed is not None and squeezed.same(view)
    return [Step("Gather", taken.start, {"axis": axis})] if taken and fits else None


def _is_whole(group: Group) -> bool:
    return all(factor.is_whole for factor in group)


def _axis_range(group: Group) -> Range | None:
    """The one range of an axis that its factors take; None for several."""
    offset, (parts,) = View((group,), (tuple(factor for factor in group if factor.count != 1),)).strides()
    if not isinstance(offset, int) or len(parts) > 1:
        return None
    count, step = parts[0] if parts else (1, 1)
    if not isinstance(step, int):
        return None
    if not isinstance(count, int):
        size = product(factor.size for factor in group)
        return Range(offset, (1 << 63) - 1, 1) if step == 1 and size == count + offset else None
    stop = offset + count * step
    return Range(offset, stop if stop >= 0 else -(1 << 63), step)


def _repetition(view: View) -> list[Step] | None:
    """One dim whose elements are repeated, by a Gather behind everything else."""
    mixed = [axis for axis, group in enumerate(view.groups) if len({factor.is_broadcast for factor in group}) == 2]
    if len(mixed) != 1:
        return None
    (axis,) = mixed
    group = view.groups[axis]
    counts = [factor.count for factor in group if isinstance(factor.count, int)]
    if len(counts) < len(group) or prod(counts) > _MOST_INDICES:
        return None
    once = tuple(factor for factor in group if not factor.is_broadcast)
    steps = emit(replace(view, groups=(*view.groups[:axis], once, *view.groups[axis + 1 :])))
    sizes = [1 if factor.is_broadcast else count for factor, count in zip(group, counts, strict=True)]
    repeated = np.broadcast_to(np.arange(prod(sizes)).reshape(sizes), counts).reshape(-1)
    return None if steps is None else [*steps, Step("Gather", tuple(repeated.tolist()), {"axis": axis})]


def _chain(view: View, *, fine: bool, computed: bool = False) -> list[Step] | None:
    """Slice, reshape, transpose, reshape, expand, reshape, as far as each is needed."""
    steps = Steps(computed=computed)
    dims = view.source
    parts: Sequence[Group] = view.axes
    if not all(_is_whole(group) or _axis_range(group) is not None for group in parts):
        parts = [(factor,) for factor in view.factors]  # ranges of factors, which become dims first
        sizes = [factor.size for factor in view.factors]
        if not steps.reshape(dims, sizes):
            return None
        dims = tuple(sizes)
    taken = {axis: _axis_range(group) for axis, group in enumerate(parts) if not _is_whole(group)}
    known = {axis: part for axis, part in taken.items() if part is not None}
    if len(known) < len(taken):
        return None
    if known:
        steps.append(Step("Slice", parameters=slice_parameters(known)))
        dims = tuple(product(factor.count for factor in group) for group in parts)
    arranged = _arrange(view, steps, dims, fine=fine)
    return list(steps) if arranged is not None and _repeat(view, steps, arranged) else None


def _arrange(view: View, steps: Steps, dims: Dims, *, fine: bool) -> Dims | None:
    """Permute the factors, which are whole now; the dims afterwards."""
    order = [factor for factor in view.factors if factor.count != 1]
    moved = [factor for group in view.groups for factor in group if not factor.is_broadcast]
    perm = [order.index(factor) for factor in moved]
    if perm == sorted(perm):
        return dims
    runs = [[at] for at in perm] if fine else _runs(perm, order)
    rows = sorted(runs)
    sizes: Dims = tuple(product(order[at].count for at in run) for run in rows)
    if _without_ones(dims) == sizes:
        sizes = dims
    elif not steps.reshape(dims, sizes):
        lead = next((axis for axis, dim in enumerate(dims) if dim != 1), 0)
        sizes = (1,) * lead + sizes  # so that targets copy symbolic dims at their indices
        if not steps.reshape(dims, sizes):
            return None
    axes = [axis for axis, dim in enumerate(sizes) if dim != 1]
    ones = [axis for axis, dim in enumerate(sizes) if dim == 1]
    moved_axes = [axes[rows.index(run)] for run in runs]
    if _without_ones(view.dims) == tuple(sizes[axis] for axis in moved_axes) and len(view.dims) == len(sizes):
        order_of_dims = [(ones if dim == 1 else moved_axes).pop(0) for dim in view.dims]
    else:
        order_of_dims = [*ones, *moved_axes]
    steps.append(Step("Transpose", parameters={"perm": order_of_dims}))
    return tuple(sizes[axis] for axis in order_of_dims)


def _runs(perm: Sequence[int], order: Sequence[Factor]) -> list[list[int]]:
    """Consecutive factors that stay so; symbolic ones apart, since a target copies dims, but no products."""
    runs: list[list[int]] = []
    for at in perm:
        if runs and runs[-1][-1] == at - 1 and all(isinstance(order[each].count, int) for each in (at - 1, at)):
            runs[-1].append(at)
        else:
            runs.append([at])
    return runs


def _without_ones(dims: Sequence[Dim]) -> Dims:
    return tuple(dim for dim in dims if dim != 1)


def _repeat(view: View, steps: Steps, dims: Dims) -> bool:
    """Expand the broadcasts, and group the dims of the result; False where constants cannot say so."""
    parts = [part for group in view.groups for part in _between_broadcasts(group)]
    if not any(part and part[0].is_broadcast for part in parts):
        return steps.reshape(dims, view.dims)
    counts = [product(factor.count for factor in part) for part in parts]
    repeats = [bool(part) and part[0].is_broadcast for part in parts]
    target = [count if repeated else 1 for count, repeated in zip(counts, repeats, strict=True)]
    numbers = tuple(number for number in target if isinstance(number, int))
    once = [1 if repeated else count for count, repeated in zip(counts, repeats, strict=True)]
    if len(numbers) < len(target) or not steps.reshape(dims, once):
        return False
    steps.append(Step("Expand", numbers))
    return steps.reshape(counts, view.dims)


def _between_broadcasts(group: Group) -> list[Group]:
    """The parts of a dim that are one dim each while broadcasts are expanded."""
    parts: list[Group] = []
    for factor in group:
        if parts and parts[-1][0].is_broadcast == factor.is_broadcast:
            parts[-1] = (*parts[-1], factor)
        else:
            parts.append((factor,))
    return parts or [()]
