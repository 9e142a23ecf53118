"""The view algebra: which element of a source each element of a result is, exact under symbolic dims.

The axes of the source are factored, outermost first, and of each factor a range is taken; the dims of the result are
products of those factors in another order. That covers Reshape, Transpose, Slice, Split, Gather of an arithmetic
progression, Expand and what is made of them. An operation whose result is not proven to be of this form gives None.

Compare tinygrad's ShapeTracker (strides and masks over numbers alone) and einops (named factors, whole ones alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ...ir.shapes.facts import Dims
from ...ir.shapes.symbolic import Dim, exact_quotient, product

Strides = tuple[Dim, tuple[tuple[tuple[Dim, Dim], ...], ...]]


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor of a source axis, of `size` elements, of which `count` are taken: `start`, `start + step`, …

    A broadcast has a step of 0 and is of no axis. Compared by identity.
    """

    size: Dim
    count: Dim
    start: int = 0
    step: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether every element is taken in order."""
        return self.size == self.count and self.step == 1 and self.start == 0

    @property
    def is_broadcast(self) -> bool:
        """Whether one element is taken for each of `count` indices."""
        return self.step == 0

    def split(self, outer: Dim, inner: Dim) -> tuple[Factor, Factor] | None:
        """Two factors that take `outer * inner` elements, the count; None where the range crosses a boundary."""
        if self.is_broadcast:
            return broadcast(outer), broadcast(inner)
        if self.is_whole:
            return whole(outer), whole(inner)
        block = inner * self.step
        rows, first = exact_quotient(self.size, block) if self.step > 0 else None, _divide(self.start, block)
        if rows is None or first is None or first[1] >= self.step:
            return None
        return Factor(rows, outer, first[0]), Factor(block, inner, first[1], self.step)

    def slice(self, start: int, step: int, count: Dim) -> Factor:
        """The elements `start`, `start + step`, … of those that are taken; `step` is not 0."""
        return replace(self, start=self.start + start * self.step, step=self.step * step, count=count)


def whole(size: Dim) -> Factor:
    """A factor of which everything is taken."""
    return Factor(size, size)


def broadcast(count: Dim) -> Factor:
    """A factor of one element that is repeated."""
    return Factor(1, count, 0, 0)


Group = tuple[Factor, ...]


def _size(group: Sequence[Factor]) -> Dim:
    return product(factor.count for factor in group)


def _divide(start: int, block: Dim) -> tuple[int, int] | None:
    """Quotient and remainder, where they are known."""
    if start == 0:
        return 0, 0
    return divmod(start, block) if isinstance(block, int) and block > 0 else None


@dataclass(frozen=True)
class View:
    """A view: `axes` are the source's, each a product of factors; `groups` the result's dims, products of the same.

    Factors of which one element is taken are in no group, broadcasts in no axis.
    """

    axes: tuple[Group, ...]
    groups: tuple[Group, ...]

    # --- what it is -------------------------------------------------------------------------------------------------

    @cached_property
    def dims(self) -> Dims:
        """The dims of the result."""
        return tuple(map(_size, self.groups))

    @cached_property
    def source(self) -> Dims:
        """The dims of the source."""
        return tuple(product(factor.size for factor in axis) for axis in self.axes)

    @cached_property
    def factors(self) -> Group:
        """All factors in the order of the source."""
        return tuple(factor for axis in self.axes for factor in axis)

    def strides(self) -> Strides:
        """The index map itself: the offset, and for each dim counts and strides, contiguous ones merged.

        Equal maps have equal strides, however the source was factored.
        """
        strides: dict[Factor, Dim] = {}
        offset: Dim = 0
        inner: Dim = 1
        for factor in reversed(self.factors):
            strides[factor] = inner * factor.step
            offset = offset + inner * factor.start
            inner = inner * factor.size
        parts = ([(factor.count, strides.get(factor, 0)) for factor in group] for group in self.groups)
        return offset, tuple(map(_merge, parts))

    def same(self, other: View) -> bool:
        """Whether both take the same elements of one source in the same order, as far as can be proven."""
        return self.source == other.source and self.dims == other.dims and self.strides() == other.strides()

    @property
    def is_identity(self) -> bool:
        """Whether the result is the source itself."""
        return self.same(identity(self.source))

    @property
    def is_reshape(self) -> bool:
        """Whether the result has the elements of the source in the source's order."""
        taken = tuple(factor for group in self.groups for factor in group)
        return all(factor.is_whole for factor in self.factors) and taken == _nontrivial(self.factors)

    # --- operations -------------------------------------------------------------------------------------------------

    def transpose(self, perm: Sequence[int]) -> View:
        """Permute the dims."""
        return View(self.axes, tuple(self.groups[axis] for axis in perm))

    def reshape(self, dims: Sequence[Dim]) -> View | None:
        """Group the elements into other dims; None where that is not proven to cut between factors."""
        view, pending, groups = self, [factor for group in self.groups for factor in group], []
        for dim in dims:
            group: list[Factor] = []
            rest: Dim = dim
            while rest != 1:
                if not pending or rest == 0 or pending[0].count == 0:
                    return None
                factor = pending.pop(0)
                if (quotient := exact_quotient(rest, factor.count)) is not None:
                    group.append(factor)
                    rest = quotient
                elif (inner := exact_quotient(factor.count, rest)) is not None:
                    parts = factor.split(rest, inner)
                    if parts is None:
                        return None
                    view = view._refine(factor, parts)
                    group.append(parts[0])
                    pending.insert(0, parts[1])
                    rest = 1
                else:
                    return None
            groups.append(tuple(group))
        return None if pending else View(view.axes, tuple(groups))

    def slice(self, axis: int, start: int, step: int, count: Dim) -> View | None:
        """Take `start`, `start + step`, … of one dim; a step of 0 takes one element `count` times."""
        if step == 0:
            one = self.slice(axis, start, 1, 1)
            return None if one is None else one.expand_dim(axis, count)
        group = self.groups[axis]
        if count == _size(group) and start == 0 and step == 1:
            return self
        taken = _slice_group(group, start, step, count)
        if taken is None:
            return None
        view = self
        for old, new in zip(group, taken, strict=True):
            view = view._refine(old, (new,))
        return replace(view, groups=(*view.groups[:axis], _nontrivial(taken), *view.groups[axis + 1 :]))

    def squeeze(self, axis: int) -> View | None:
        """Drop a dim of 1."""
        return None if self.groups[axis] else replace(self, groups=(*self.groups[:axis], *self.groups[axis + 1 :]))

    def unsqueeze(self, axis: int) -> View:
        """Insert a dim of 1."""
        return replace(self, groups=(*self.groups[:axis], (), *self.groups[axis:]))

    def expand_dim(self, axis: int, count: Dim, *, inner: bool = True) -> View:
        """Repeat each element of a dim `count` times in a row, or (not `inner`) the whole dim."""
        if count == 1:
            return self
        group = (*self.groups[axis], broadcast(count)) if inner else (broadcast(count), *self.groups[axis])
        return replace(self, groups=(*self.groups[:axis], group, *self.groups[axis + 1 :]))

    def expand(self, dims: Sequence[Dim]) -> View | None:
        """Broadcast to `dims`, which are the result's."""
        missing = len(dims) - len(self.groups)
        if missing < 0:
            return None
        view = replace(self, groups=((),) * missing + self.groups)
        for axis, dim in enumerate(dims):
            if view.dims[axis] != dim:
                if view.groups[axis]:
                    return None
                view = view.expand_dim(axis, dim)
        return view

    def depth_to_space(self, block: int, mode: str) -> View | None:
        """Move blocks of the second of four dims into the last two, in the order that `mode` says, DCR or CRD."""
        n, depth, height, width = self.dims
        channels = exact_quotient(depth, block * block)
        if channels is None:
            return None
        is_crd = mode == "CRD"
        grouping = (n, channels, block, block, height, width) if is_crd else (n, block, block, channels, height, width)
        blocks = self.reshape(grouping)
        moved = None if blocks is None else blocks.transpose((0, 1, 4, 2, 5, 3) if is_crd else (0, 3, 4, 1, 5, 2))
        return None if moved is None else moved.reshape((n, channels, height * block, width * block))

    def space_to_depth(self, block: int) -> View | None:
        """Move blocks of the last two of four dims into the second."""
        n, channels, *plane = self.dims
        height, width = (exact_quotient(dim, block) for dim in plane)
        if height is None or width is None:
            return None
        blocks = self.reshape((n, channels, height, block, width, block))
        moved = None if blocks is None else blocks.transpose((0, 3, 5, 1, 2, 4))
        return None if moved is None else moved.reshape((n, block * block * channels, height, width))

    def then(self, outer: View) -> View | None:
        """Compose with `outer`, a view of the result; None where that is not proven to be a view."""
        view = self.reshape([factor.size for factor in outer.factors])
        for at, factor in enumerate(outer.factors):
            view = None if view is None else view.slice(at, factor.start, factor.step, factor.count)
        if view is None:
            return None
        parts = dict(zip(outer.factors, view.groups, strict=True))
        groups = (tuple(part for factor in group for part in parts.get(factor, (factor,))) for group in outer.groups)
        return View(view.axes, tuple(groups))

    # --- factors ----------------------------------------------------------------------------------------------------

    def _refine(self, old: Factor, new: Sequence[Factor]) -> View:
        """Replace a factor of the source by others; the caller says where the groups have them."""

        def refined(group: Group) -> Group:
            return tuple(part for factor in group for part in (new if factor is old else (factor,)))

        return View(tuple(map(refined, self.axes)), tuple(map(refined, self.groups)))


def identity(dims: Sequence[Dim]) -> View:
    """The source as it is."""
    axes = tuple((whole(dim),) for dim in dims)
    return View(axes, tuple(map(_nontrivial, axes)))


def _nontrivial(group: Sequence[Factor]) -> Group:
    return tuple(factor for factor in group if factor.count != 1)


def _merge(parts: Sequence[tuple[Dim, Dim]]) -> tuple[tuple[Dim, Dim], ...]:
    """Counts and strides, outermost first, those merged that are one contiguous run."""
    merged: list[tuple[Dim, Dim]] = []
    for count, stride in parts:
        if merged and merged[-1][1] == stride * count:
            merged[-1] = (merged[-1][0] * count, stride)
        else:
            merged.append((count, stride))
    return tuple(merged)


def _slice_group(group: Group, start: int, step: int, count: Dim) -> Group | None:
    """The factors of a dim of which a range is taken; None where the range is no product of ranges."""
    if len(group) == 1:
        return (group[0].slice(start, step, count),)
    if not group:
        return () if (start, count) == (0, 1) else None
    first, *rest = group
    inner = _size(rest)
    aligned = _divide(start, inner)
    rows = exact_quotient(count, inner) if step == 1 and inner != 0 else None
    if aligned is not None and aligned[1] == 0 and rows is not None:
        return (first.slice(aligned[0], 1, rows), *rest)
    if not isinstance(inner, int) or not isinstance(count, int) or count < 1 or inner < 1:
        return None
    row, column = divmod(start, inner)
    if step % inner == 0:
        chosen = _slice_group(tuple(rest), column, 1, 1)
        return None if chosen is None else (first.slice(row, step // inner, count), *chosen)
    if (start + (count - 1) * step) // inner == row:
        taken = _slice_group(tuple(rest), column, step, count)
        return None if taken is None else (first.slice(row, 1, 1), *taken)
    return None
