"""Generate feeds that a model is likely to accept: indices within tables, masks with padding, consistent dims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import numpy as np

from ... import ir
from ..arrays import array_bytes
from ..ort.session_options import Array, Datum, Feeds
from .attention_masks import additive, kept
from .bind_dims import Binding, OpenInput, bind, equations_of
from .dim_solver import Equations
from .feed_plans import FeedPlan
from .input_roles import Role, Usage, usage_of

_NARROW_RANGES = {  # types without a sign, without a zero, or whose range wraps around
    ir.DataType.FLOAT8E8M0: (0.25, 4.0),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
}
WORDS = np.array(["", "a", "word", "another word", "naïve 字"], dtype=object)
NUMERALS = np.array(["0", "1", "-3", "17"], dtype=object)
KEPT = 8 << 20
"""Bytes of feeds, or of feeds and outputs, up to which they are kept; larger ones are computed again."""
FeedSource: TypeAlias = Feeds | Callable[[], Feeds]
MEAN_DURATION = 8  # of the longest input that has durations
_FIXED: Mapping[Role, Callable[[tuple[int, ...]], Array]] = {
    Role.TARGET_SHAPE: lambda shape: np.array([-1, 1, 1, 1, 1, 1, 1, 1])[: math.prod(shape)],
    Role.ZEROS: np.zeros,
    Role.ONES: np.ones,
    Role.SMALL: lambda shape: np.full(shape, 3),
    Role.AXES: lambda shape: np.arange(math.prod(shape)),
}


def required_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs without an initializer, which feeds must have."""
    return [value for value in model.graph.inputs if not value.is_initializer()]


class ModelInputs:
    """The required inputs of a model: open dims, their constraints, and roles, computed once for many feeds."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.values = required_inputs(model)
        self._usages: dict[ir.Value, Usage] = {}
        self._opened: dict[int | None, dict[ir.Value, OpenInput]] = {}
        self._equations: dict[int | None, Equations | None] = {}

    def generate(self, plan: FeedPlan, seed: int) -> dict[str, Datum]:
        """Feeds by input name."""
        return _Generator(self, plan, seed).generate()

    def source(self, plan: FeedPlan, seed: int, feeds: Feeds) -> FeedSource:
        """`feeds`, which were generated from `plan` and `seed`; where they are large, a function that does it again."""
        return feeds if array_bytes(feeds) <= KEPT else partial(self.generate, plan, seed)

    def opened(self, rank: int | None) -> dict[ir.Value, OpenInput]:
        """The declared dims of the inputs, where `rank` is that of inputs of unknown rank."""
        if rank not in self._opened:
            self._opened[rank] = {value: OpenInput.of(value, rank) for value in self.values}
        return self._opened[rank]

    def equations(self, rank: int | None) -> Equations | None:
        """The model's constraints on the open dims; None when there are none open."""
        if rank not in self._equations:
            self._equations[rank] = equations_of(self.model, self.opened(rank))
        return self._equations[rank]

    def binding(self, plan: FeedPlan) -> Binding:
        """The size of every symbol under a plan."""
        inputs = list(self.opened(plan.rank).values())
        equations = self.equations(plan.rank) if plan.solved else None
        return bind(inputs, plan.sizing, equations, dict(plan.chosen))

    def shapes(self, plan: FeedPlan) -> dict[str, tuple[int, ...]]:
        """The dims of the inputs by name under a plan."""
        binding = self.binding(plan)
        return {opened.name: binding.shape(opened.dims) for opened in self.opened(plan.rank).values()}

    def usage(self, value: ir.Value) -> Usage:
        """The role of an input."""
        if value not in self._usages:
            self._usages[value] = usage_of(value, self.model)
        return self._usages[value]

    @property
    def has_masks(self) -> bool:
        """Whether an input is a mask."""
        return any(self.usage(value).role in (Role.MASK, Role.ADDITIVE_MASK) for value in self.values)

    @property
    def has_unknown_ranks(self) -> bool:
        """Whether neither the declaration nor an operator gives an input's rank."""
        return not all(opened.rank_is_known for opened in self.opened(None).values())


class _Generator:
    """One set of feeds: a role decides the content of each input."""

    def __init__(self, inputs: ModelInputs, plan: FeedPlan, seed: int) -> None:
        self.inputs = inputs
        self.plan = plan
        self.opened = list(inputs.opened(plan.rank).values())
        self.binding = inputs.binding(plan)
        self.random = np.random.default_rng(seed)
        self.seed = seed

    def generate(self) -> dict[str, Datum]:
        values = zip(self.inputs.values, self.opened, strict=True)
        return {opened.name: self._datum(value, opened) for value, opened in values}

    def _datum(self, value: ir.Value, opened: OpenInput) -> Datum:
        shape = self.binding.shape(opened.dims)
        kind = value.type
        if isinstance(kind, ir.OptionalType):
            if self.plan.absent:
                return None
            kind = kind.elem_type
        usage = self.inputs.usage(value)
        dtype = value.dtype or ir.DataType.FLOAT
        if isinstance(kind, ir.SequenceType):
            return [self._tensor(opened, dtype, shape, usage) for _ in range(3)]
        return self._tensor(opened, dtype, shape, usage)

    def _tensor(self, opened: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        if dtype == ir.DataType.STRING:
            words = NUMERALS if usage.is_parsed else WORDS
            return np.asarray(self.random.choice(words, size=shape), dtype=object).reshape(shape)
        content = np.asarray(self._content(opened, dtype, shape, usage))
        if dtype == ir.DataType.BOOL:
            content = np.asarray(content != 0)
        if dtype in _NARROW_RANGES:
            content = np.clip(content, *_NARROW_RANGES[dtype])
        return content.astype(dtype.numpy()).reshape(shape)

    def _content(self, opened: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        role = usage.role
        if usage.choices and role >= Role.MASK and not shape:
            return np.full(shape, usage.choices[self.seed % len(usage.choices)])
        if dtype == ir.DataType.BOOL and role not in (Role.LENGTH, Role.MASK):
            return self.random.integers(0, 2, shape)
        if role in _FIXED:
            return _FIXED[role](shape)
        match role:
            case Role.INDEX | Role.POSITION | Role.LENGTH:
                return self._bounded(role, opened, shape, usage)
            case Role.MASK:
                if dtype == ir.DataType.BOOL and "mask" not in opened.name.lower() and usage.hides is None:
                    return self.random.integers(0, 2, shape)
                keep = kept(shape, self.plan.masks)
                return ~keep if usage.hides else keep
            case Role.ADDITIVE_MASK:
                return additive(shape, self.plan.masks, dtype)
            case _:
                return self._values(role, dtype, shape)

    def _bounded(self, role: Role, opened: OpenInput, shape: tuple[int, ...], usage: Usage) -> Array:
        bound = self._bound(usage)
        match role:
            case Role.INDEX:
                return self.random.integers(0, bound, shape)
            case Role.POSITION:
                return self._positions(shape) % bound if usage.bounds else self._positions(shape)
            case _:
                return np.minimum(self._lengths(opened, shape), bound if usage.bounds else 2**31 - 1)

    def _bound(self, usage: Usage) -> int:
        """The exclusive bound of an index; where no table's size is known, the smallest open dim above 1."""
        smallest = min((size for size in self.binding.sizes.values() if size > 1), default=2)
        smallest = 1 if self.plan.values == "ones" else smallest
        sizes = []
        for bound in usage.bounds:
            with suppress(KeyError):  # a symbol that only exists inside the model
                sizes += [] if bound is None else [self.binding.size(bound)]
        return max(min(sizes, default=smallest), 1)

    def _positions(self, shape: tuple[int, ...]) -> Array:
        names = [opened.name.lower() for opened in self.opened]
        past = self.plan.sizing.past if any("past" in name or "cache" in name for name in names) else 0
        steps = np.arange(shape[-1] if shape else 1) + past
        return np.broadcast_to(steps, shape) if shape else np.asarray(past)

    def _lengths(self, opened: OpenInput, shape: tuple[int, ...]) -> Array:
        """The full length first, then shorter ones; the length is that of the sequences in the same batch."""
        rows = shape[0] if shape else 1
        others = [self.binding.shape(other.dims) for other in self.opened if other.name != opened.name]
        full = min((other[1] for other in others if len(other) > 1 and other[0] == rows), default=0)
        full = full or max((other[-1] for other in others if other), default=4)
        lengths = self.random.integers(max(full // 2, 1), full + 1, shape)
        return np.where(np.arange(lengths.size).reshape(shape) == 0, full, lengths)

    def _values(self, role: Role, dtype: ir.DataType, shape: tuple[int, ...]) -> Array:
        is_float = dtype.is_floating_point()
        match role:
            case Role.DURATION:
                return self._durations(shape)
            case Role.ANGLE if is_float and self.plan.values == "normal":
                return self._angles(shape)
            case Role.PIXELS if is_float and self.plan.values == "normal":
                return self._pixels(shape)
            case Role.BOXES:
                return self._boxes(shape)
            case Role.UNIT:
                return self.random.uniform(0.05, 0.95, shape)
            case Role.POSITIVE if is_float:
                return np.ones(shape) if self.plan.values == "ones" else self.random.uniform(0.05, 3.0, shape)
            case Role.TIMESTEP:
                return self.random.integers(0, 1000, shape)
            case _:
                return self._plain(dtype, shape)

    def _durations(self, shape: tuple[int, ...]) -> Array:
        """Integers that add up to the same total in every row of every such input.

        At random, since a shared total is all that most models require; all alike for values other than `normal`.
        """
        values = zip(self.inputs.values, self.opened, strict=True)
        shapes = [
            self.binding.shape(opened.dims)
            for value, opened in values
            if self.inputs.usage(value).role is Role.DURATION
        ]
        count = shape[-1] if shape else 1
        total = MEAN_DURATION * max((dims[-1] for dims in shapes if dims), default=1)
        if self.plan.values != "normal" or not 0 < count < total:
            row = np.full(count, total // max(count, 1))
            row[-1:] += total - int(row.sum())
            return np.broadcast_to(row, shape) if shape else np.asarray(total)
        rows = [
            np.diff(np.sort(self.random.choice(total - 1, count - 1, replace=False)) + 1, prepend=0, append=total)
            for _ in range(math.prod(shape[:-1]))
        ]
        return np.asarray(rows, dtype=int).reshape(shape)

    def _angles(self, shape: tuple[int, ...]) -> Array:
        """Angles within ±π, and one of eight within ±8π: kernels reduce large arguments by another algorithm."""
        periods = np.where(self.random.random(shape) < 0.125, 8.0, 1.0)
        return np.asarray(np.pi * periods * self.random.uniform(-1, 1, shape))

    def _pixels(self, shape: tuple[int, ...]) -> Array:
        """A wave across the image plus noise: neighbours are alike, as in photographs, and 0 and 255 occur."""
        phase = np.full((1,) * len(shape), self.random.uniform(0, 2 * np.pi))
        for axis, size in enumerate(shape):
            steps = np.arange(size).reshape([size if i == axis else 1 for i in range(len(shape))])
            phase = phase + self.random.uniform(2, 12) * steps / max(size, 1)
        noise = 12.0 * self.random.standard_normal(shape)
        return np.asarray(np.clip(127.5 + 130.0 * np.sin(phase) + noise, 0.0, 255.0))

    def _boxes(self, shape: tuple[int, ...]) -> Array:
        """Corners within a small image, the second at least half a pixel beyond the first."""
        if not shape or shape[-1] != 4:
            return np.asarray(self.random.uniform(0.0, 16.0, shape))
        first = self.random.uniform(0.0, 10.0, (*shape[:-1], 2))
        extent = self.random.uniform(0.5, 6.0, (*shape[:-1], 2))
        return np.concatenate([first, first + extent], axis=-1)

    def _plain(self, dtype: ir.DataType, shape: tuple[int, ...]) -> Array:
        if not dtype.is_floating_point() and dtype not in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            if dtype == ir.DataType.UINT8 and len(shape) >= 3:
                return np.floor(self._pixels(shape))
            if dtype in (ir.DataType.UINT8, ir.DataType.INT8):
                info = np.iinfo(dtype.numpy())
                return self.random.integers(info.min, info.max + 1, shape)
            return self.random.integers(1, 8, shape)  # never 0: an integer division by it kills ONNX Runtime
        match self.plan.values:
            case "normal":
                return np.asarray(self.random.standard_normal(shape))
            case "unit":
                return np.asarray(self.random.uniform(0.05, 0.95, shape))
            case _:
                return np.ones(shape)
