"""Inputs for a model: the user's own, and made ones that it accepts."""

from __future__ import annotations

import itertools
import math
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ... import ir
from ..ort.session import Session, is_out_of_time
from ..ort.session_options import Array, Datum, Feeds, Outputs
from ..verification.comparison import as_numbers, is_inexact, leaves, pieces
from .attention_masks import MaskKind, additive, kept
from .bind_dims import Binding, OpenInput, Sizing, bind, equations_of, symbols
from .dim_solver import Equations
from .input_roles import Role, Usage, usage_of

_NARROW = {
    ir.DataType.FLOAT8E8M0: (0.25, 4.0),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
}
WORDS = np.array(["", "a", "word", "another word", "naïve 字"], dtype=object)
NUMERALS = np.array(["0", "1", "-3", "17"], dtype=object)

# Several sizes: a batch of one, odd sizes that fit no block, and one position at a time. All are small: the time and
# the memory of a verification are those of some dozen runs.
SIZINGS = (
    Sizing(batch=1, length=32, samples=1000),
    Sizing(batch=2, length=17, past=5, image=96, samples=1500),
    Sizing(batch=3, length=1, past=11, image=80, samples=1250),
)
DURATION = 8  # on average, of the longest input that has durations
TYPICAL = Sizing(image=224)  # where speed is measured: what a user is likely to run
MASKS = (MaskKind.PLAIN, MaskKind.MIXED, MaskKind.EXTREME)
KEPT = 8 << 20
"""Bytes of a set of inputs, or of inputs and outputs, up to which they are kept; larger ones are made again."""
RANKS = (2, 3, 4, 1)  # of inputs that no operator tells the rank of, the most frequent first
MOST_REPAIRS, MOST_GROWN = 48, 96  # trials for one set
TRIALS_S = 60.0  # for the trials of one set, after the first
TRIAL_SHARE = 12  # one trial may take this part of the time that is left: a size may be far too large


@dataclass(frozen=True)
class FeedSet:
    """One set of inputs; `description` says how it was made.

    `source`: the inputs, or what makes the same ones whenever they are asked for, so that large ones of several sets
    are not held at once.
    """

    source: Feeds | Callable[[], Feeds]
    description: str

    @property
    def feeds(self) -> Feeds:
        """The inputs by name, perhaps made for this call."""
        return self.source() if callable(self.source) else self.source


@dataclass(frozen=True)
class Budget:
    """How many bytes a run may need: `needed` estimates that from the dims of the inputs by name."""

    limit: int
    needed: Callable[[Mapping[str, Sequence[int]]], int]

    def said(self, needed: int) -> str:
        """That sizes which need so many bytes are too large."""
        most = f"{self.limit / 2**30:.1f} GiB may be used"
        return f"larger sizes would need about {needed / 2**30:.1f} GiB of memory; {most}"


@dataclass(frozen=True)
class Plan:
    """How to make one set.

    `values`: `normal`, `unit` (0 to 1, for models that take logarithms and roots) or `ones`. `absent`: whether optional
    inputs are given without a value. `rank` is that of inputs without a known one, `chosen` has sizes of open dims.
    `solved`: whether sizes are those that the weights ask for, as far as that is known.
    """

    sizing: Sizing
    values: str = "normal"
    absent: bool = False
    masks: MaskKind = MaskKind.PLAIN
    rank: int | None = None
    chosen: tuple[tuple[str, int], ...] = ()
    solved: bool = True


def open_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller must give: those without an initializer."""
    return [value for value in model.graph.inputs if not value.is_initializer()]


def make_feeds(model: ir.Model, *, seed: int = 0, plan: Plan | None = None) -> dict[str, Datum]:
    """Inputs that `model` is likely to accept: indices within tables, masks with padding, dims bound consistently."""
    return _Interface(model).make(plan or Plan(SIZINGS[0]), seed)


def made_shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """The dims of the inputs that `make_feeds` makes."""
    return _Interface(model).shapes(Plan(TYPICAL))


class _Interface:
    """What is known of a model's inputs, looked up once for many sets."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.values = open_inputs(model)
        self.usages: dict[ir.Value, Usage] = {}
        self._opened: dict[int | None, dict[ir.Value, OpenInput]] = {}
        self._equations: dict[int | None, Equations | None] = {}

    def make(self, plan: Plan, seed: int) -> dict[str, Datum]:
        return _Maker(self, plan, seed).make()

    def opened(self, rank: int | None) -> dict[ir.Value, OpenInput]:
        if rank not in self._opened:
            self._opened[rank] = {value: OpenInput.of(value, rank) for value in self.values}
        return self._opened[rank]

    def equations(self, rank: int | None) -> Equations | None:
        if rank not in self._equations:
            self._equations[rank] = equations_of(self.model, self.opened(rank))
        return self._equations[rank]

    def binding(self, plan: Plan) -> Binding:
        inputs = list(self.opened(plan.rank).values())
        equations = self.equations(plan.rank) if plan.solved else None
        return bind(inputs, plan.sizing, equations, dict(plan.chosen))

    def shapes(self, plan: Plan) -> dict[str, tuple[int, ...]]:
        """The dims of the inputs by name."""
        binding = self.binding(plan)
        return {each.name: binding.shape(each.dims) for each in self.opened(plan.rank).values()}

    def usage(self, value: ir.Value) -> Usage:
        if value not in self.usages:
            self.usages[value] = usage_of(value, self.model)
        return self.usages[value]

    @property
    def has_masks(self) -> bool:
        return any(self.usage(value).role in (Role.MASK, Role.ADDITIVE_MASK) for value in self.values)

    @property
    def has_unknown_ranks(self) -> bool:
        return not all(each.rank_is_known for each in self.opened(None).values())


class _Maker:
    def __init__(self, interface: _Interface, plan: Plan, seed: int) -> None:
        self.interface = interface
        self.plan = plan
        self.opened = list(interface.opened(plan.rank).values())
        self.binding: Binding = interface.binding(plan)
        self.random = np.random.default_rng(seed)
        self.seed = seed

    def make(self) -> dict[str, Datum]:
        values = self.interface.values
        return {each.name: self._datum(value, each) for value, each in zip(values, self.opened, strict=True)}

    def _datum(self, value: ir.Value, each: OpenInput) -> Datum:
        shape = self.binding.shape(each.dims)
        kind = value.type
        if isinstance(kind, ir.OptionalType):
            if self.plan.absent:
                return None
            kind = kind.elem_type
        usage = self.interface.usage(value)
        dtype = value.dtype or ir.DataType.FLOAT
        if isinstance(kind, ir.SequenceType):
            return [self._tensor(each, dtype, shape, usage) for _ in range(3)]
        return self._tensor(each, dtype, shape, usage)

    def _tensor(self, each: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        if dtype == ir.DataType.STRING:
            words = NUMERALS if usage.is_parsed else WORDS
            return np.asarray(self.random.choice(words, size=shape), dtype=object).reshape(shape)
        content = np.asarray(self._content(each, dtype, shape, usage))
        if dtype == ir.DataType.BOOL:
            content = np.asarray(content != 0)
        if dtype in _NARROW:  # no sign, no zero, and a range that wraps around
            content = np.clip(content, *_NARROW[dtype])
        return content.astype(dtype.numpy()).reshape(shape)

    def _content(self, each: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        role = usage.role
        below = self._below(usage)
        count = int(np.prod(shape, dtype=int))
        if usage.choices and role >= Role.MASK and not shape:
            return np.full(shape, usage.choices[self.seed % len(usage.choices)])
        if dtype == ir.DataType.BOOL and role not in (Role.LENGTH, Role.MASK):
            return self.random.integers(0, 2, shape)
        match role:
            case Role.TARGET_SHAPE:
                return np.array([-1, 1, 1, 1, 1, 1, 1, 1])[:count]
            case Role.ZEROS:
                return np.zeros(shape)
            case Role.ONES:
                return np.ones(shape)
            case Role.SMALL:
                return np.full(shape, 3)
            case Role.AXES:
                return np.arange(count)
            case Role.INDEX:
                return self.random.integers(0, below, shape)
            case Role.POSITION:
                return self._positions(shape) % below if usage.bounds else self._positions(shape)
            case Role.LENGTH:
                return np.minimum(self._lengths(each, shape), below if usage.bounds else 2**31 - 1)
            case Role.MASK:
                if dtype == ir.DataType.BOOL and "mask" not in each.name.lower() and usage.hides is None:
                    return self.random.integers(0, 2, shape)
                keep = kept(shape, self.plan.masks)
                return ~keep if usage.hides else keep
            case Role.ADDITIVE_MASK:
                return additive(shape, self.plan.masks, dtype)
            case Role.DURATION:
                return self._durations(shape)
            case Role.ANGLE if dtype.is_floating_point() and self.plan.values == "normal":
                return self._angles(shape)
            case Role.PIXELS if dtype.is_floating_point() and self.plan.values == "normal":
                return self._pixels(shape)
            case Role.BOXES:
                return self._boxes(shape)
            case Role.UNIT:
                return self.random.uniform(0.05, 0.95, shape)
            case Role.POSITIVE if dtype.is_floating_point():
                return np.ones(shape) if self.plan.values == "ones" else self.random.uniform(0.05, 3.0, shape)
            case Role.TIMESTEP:
                return self.random.integers(0, 1000, shape)
            case _:
                return self._plain(dtype, shape)

    def _below(self, usage: Usage) -> int:
        """The exclusive bound of an index; where no table's size is known, the smallest open dim above 1."""
        floor = min((size for size in self.binding.sizes.values() if size > 1), default=2)
        floor = 1 if self.plan.values == "ones" else floor
        sizes = []
        for bound in usage.bounds:
            with suppress(KeyError):  # a symbol that only exists inside the model
                sizes += [] if bound is None else [self.binding.size(bound)]
        return max(min(sizes, default=floor), 1)

    def _positions(self, shape: tuple[int, ...]) -> Array:
        past = next((self.plan.sizing.past for name in self._past_inputs()), 0)
        steps = np.arange(shape[-1] if shape else 1) + past
        return np.broadcast_to(steps, shape) if shape else np.asarray(past)

    def _past_inputs(self) -> Iterator[str]:
        return (each.name for each in self.opened if "past" in each.name.lower() or "cache" in each.name.lower())

    def _lengths(self, each: OpenInput, shape: tuple[int, ...]) -> Array:
        """The full length first, then shorter ones; the length is that of the sequences in the same batch."""
        rows = shape[0] if shape else 1
        others = [self.binding.shape(other.dims) for other in self.opened if other.name != each.name]
        full = min((other[1] for other in others if len(other) > 1 and other[0] == rows), default=0)
        full = full or max((other[-1] for other in others if other), default=4)
        lengths = self.random.integers(max(full // 2, 1), full + 1, shape)
        return np.where(np.arange(lengths.size).reshape(shape) == 0, full, lengths)

    def _durations(self, shape: tuple[int, ...]) -> Array:
        """Whole numbers that add up to the same total in every row of every such input.

        At random, since a total that is shared is all that most models ask for; alike for values other than `normal`.
        """
        values = zip(self.interface.values, self.opened, strict=True)
        shapes = [self.binding.shape(each.dims) for value, each in values if self._usage_is(value, Role.DURATION)]
        count = shape[-1] if shape else 1
        total = DURATION * max((each[-1] for each in shapes if each), default=1)
        if self.plan.values != "normal" or not 0 < count < total:
            row = np.full(count, total // max(count, 1))
            row[-1:] += total - int(row.sum())
            return np.broadcast_to(row, shape) if shape else np.asarray(total)
        rows = [
            np.diff(np.sort(self.random.choice(total - 1, count - 1, replace=False)) + 1, prepend=0, append=total)
            for _ in range(math.prod(shape[:-1]))
        ]
        return np.asarray(rows, dtype=int).reshape(shape)

    def _usage_is(self, value: ir.Value, role: Role) -> bool:
        return self.interface.usage(value).role is role

    def _angles(self, shape: tuple[int, ...]) -> Array:
        """One turn, and for one element of eight several turns: kernels reduce large arguments in another way."""
        turns = np.where(self.random.random(shape) < 0.125, 8.0, 1.0)
        return np.asarray(np.pi * turns * self.random.uniform(-1, 1, shape))

    def _pixels(self, shape: tuple[int, ...]) -> Array:
        """A wave across the image with grain on it: neighbours are alike, as in photographs, and 0 and 255 occur."""
        phase = np.full((1,) * len(shape), self.random.uniform(0, 2 * np.pi))
        for axis, size in enumerate(shape):
            steps = np.arange(size).reshape([size if each == axis else 1 for each in range(len(shape))])
            phase = phase + self.random.uniform(2, 12) * steps / max(size, 1)
        grain = 12.0 * self.random.standard_normal(shape)
        return np.asarray(np.clip(127.5 + 130.0 * np.sin(phase) + grain, 0.0, 255.0))

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
            return self.random.integers(1, 8, shape)  # never 0: ONNX Runtime dies of an integer division by it
        match self.plan.values:
            case "normal":
                return np.asarray(self.random.standard_normal(shape))
            case "unit":
                return np.asarray(self.random.uniform(0.05, 0.95, shape))
            case _:
                return np.ones(shape)


def plans(nth: int, first: Sizing | None = None) -> Iterator[Plan]:
    """Ways to make the `nth` set: the first is the best test, later ones are accepted by more models."""
    wanted = first or SIZINGS[nth % len(SIZINGS)]
    masks = MASKS[nth % len(MASKS)]
    yield Plan(wanted, absent=nth == 1, masks=masks)
    yield Plan(wanted, masks=masks)
    yield Plan(wanted)
    for sizing in (
        replace(wanted, apart=False),
        replace(wanted, apart=False, samples=576, image=48),
        replace(wanted, apart=False, length=64, samples=16000, past=64),
        replace(wanted, batch=1, apart=False, length=16, image=256, samples=512, past=0),
        Sizing(batch=1, length=128, image=224, samples=1024, apart=False),
        Sizing(batch=1, length=1, past=1, image=32, samples=64, apart=False),
        Sizing(batch=4, length=4, past=4, image=128, samples=4, apart=False),
        Sizing(batch=16, length=16, past=16, image=640, samples=16, apart=False),
    ):
        yield Plan(sizing)
    yield Plan(wanted, "unit", masks=masks)
    yield Plan(replace(wanted, apart=False), "unit")
    yield Plan(replace(wanted, batch=1, apart=False), "ones")


def usable_feeds(
    session: Session,
    model: ir.Model,
    user: Sequence[Path] = (),
    *,
    count: int = 3,
    seed: int = 0,
    first: Sizing | None = None,
    until: float = math.inf,
    budget: Budget | None = None,
) -> list[FeedSet]:
    """Sets of inputs that `session`, of the original model, runs: the user's own, then made ones up to `count`.

    `first`: sizes for the first set, in the place of small ones. Trials end at `until`, by the monotonic clock; further
    sets are begun in the first half of that time. `budget`: sizes are chosen so that a run stays within it. Raises
    ModelError: `inputs-do-not-fit` for a file that does not, `no-usable-inputs` when nothing runs or no size fits the
    budget, `time-limit` when that cannot be told in time.
    """
    half = (time.monotonic() + until) / 2
    found = [read_feeds(path, model) for path in user]
    trials = _Trials(session, _Interface(model), until, budget)
    for nth in range(len(found), max(count, len(found))):
        if found and time.monotonic() > half:
            break
        made = trials.first_that_runs(nth, seed + nth, first if nth == 0 else None)
        if isinstance(made, FeedSet):
            found.append(made)
        elif not found:
            raise made
    return found


def feed_sets(model: ir.Model, user: Sequence[Path] = (), *, count: int = 3, seed: int = 0) -> list[FeedSet]:
    """The user's sets, then made ones up to `count`, none of them tried. Raises ModelError (`inputs-do-not-fit`)."""
    found = [read_feeds(path, model) for path in user]
    interface = _Interface(model)
    for nth in range(len(found), max(count, len(found))):
        plan = next(plans(nth))
        found.append(_feed_set(interface, plan, seed + nth, interface.make(plan, seed + nth)))
    return found


def _feed_set(interface: _Interface, plan: Plan, seed: int, feeds: Feeds) -> FeedSet:
    is_small = array_bytes(feeds) <= KEPT
    return FeedSet(feeds if is_small else partial(interface.make, plan, seed), _describe(interface, plan, seed))


class _Trials:
    """Runs of the original on made inputs until one is accepted; what was learned from a set serves the next."""

    def __init__(
        self, session: Session, interface: _Interface, end: float = math.inf, budget: Budget | None = None
    ) -> None:
        self.session, self.interface, self.end, self.budget = session, interface, end, budget
        self.too_large: list[int] = []  # bytes that the plans would have needed which were left out
        self.learned: dict[str, int] = {}
        self.rank: int | None = None
        self.tried: set[str] = set()
        self.refusal: ir.ModelError | None = None
        self.until = 0.0
        self.message: str | None = None  # of the last refusal
        self.was_empty = False  # whether the last results had no elements
        self.feeds: Feeds = {}

    def first_that_runs(self, nth: int, seed: int, first: Sizing | None) -> FeedSet | ir.ModelError:
        """The first plan with finite results; else the first that runs at all; else what ONNX Runtime said first."""
        self.tried, self.too_large = set(), []
        self.until = min(time.monotonic() + TRIALS_S, self.end)
        running: tuple[Plan, FeedSet] | None = None
        for plan in self._plans(nth, seed, first):
            if running is not None and not self._may_be_better(plan, running[0], running[1]):
                continue
            outcome = self._try(plan, seed)
            if not isinstance(outcome, dict):
                continue
            made = _feed_set(self.interface, plan, seed, self.feeds)
            if self.too_large and self.budget is not None:
                made = replace(made, description=f"{made.description}, {self.budget.said(self.too_large[0])}")
            if all(map(_mostly_numbers, outcome.values())) and not _is_empty(outcome):
                self._learn(plan)
                return made
            running = running or (plan, made)
        if running is not None:
            plan, made = running
            self._learn(plan)
            return replace(made, description=f"{made.description}, some results not a number or empty")
        return self._failed()

    def _may_be_better(self, plan: Plan, running: Plan, made: FeedSet) -> bool:
        """Where a plan ran already: other values and masks, or other sizes where its results are empty."""
        return plan.values != "normal" or plan.masks != running.masks or self.was_empty

    def _learn(self, plan: Plan) -> None:
        self.learned |= dict(plan.chosen)
        self.rank = plan.rank if self.rank is None else self.rank

    def _plans(self, nth: int, seed: int, first: Sizing | None) -> Iterator[Plan]:
        ranks: Sequence[int | None] = (None,)
        if self.interface.has_unknown_ranks:
            ranks = (self.rank,) if self.rank is not None else RANKS
        chosen = tuple(self.learned.items())
        ordered = [replace(plan, chosen=chosen, rank=ranks[0]) for plan in plans(nth, first)]
        yield from self._with_repairs(ordered[:3], seed)
        yield from (replace(ordered[0], rank=rank) for rank in ranks[1:])
        yield from self._with_repairs(self._cheapest_first(ordered[3:]), seed)
        for rank in ranks[1:]:
            yield from self._with_repairs([replace(ordered[3], rank=rank)], seed)
        yield from self._with_repairs([replace(plan, solved=False) for plan in ordered], seed)
        yield from self._grown(ordered[3], ranks[0])

    def _cheapest_first(self, ordered: Sequence[Plan]) -> list[Plan]:
        """Plans by the elements of their inputs, those with other values than normal ones last."""

        def cost(plan: Plan) -> tuple[bool, int]:
            return plan.values != "normal", sum(map(math.prod, self.interface.shapes(plan).values()))

        return sorted(ordered, key=cost)

    def _with_repairs(self, ordered: Sequence[Plan], seed: int) -> Iterator[Plan]:
        """Each plan, and where it is refused, plans with the sizes that ONNX Runtime speaks of."""
        repairs = 0
        for plan in ordered:
            pending, seen = [plan], {plan}
            while pending and repairs < MOST_REPAIRS:
                current = pending.pop(0)
                yield current
                if self.message is None:
                    break
                repairs += current is not plan
                for repaired in self._repaired(current, self.message):
                    if repaired not in seen and len(repaired.chosen) <= len(plan.chosen) + 3:
                        seen.add(repaired)
                        pending.append(repaired)

    def _repaired(self, plan: Plan, message: str) -> Iterator[Plan]:
        """`Got: 5 Expected: 10`: give one of the dims that have a size in the message another size in it."""
        numbers = list(dict.fromkeys(int(each) for each in re.findall(r"(?<![\w.-])\d{1,6}(?![\w.])", message)))
        sizes = self.interface.binding(plan).sizes
        for number in [each for each in numbers[:8] if 0 < each <= 1 << 16]:
            for symbol, size in sizes.items():
                if size in numbers and size != number:
                    yield replace(plan, chosen=tuple({**dict(plan.chosen), symbol: number}.items()))

    def _grown(self, plan: Plan, rank: int | None) -> Iterator[Plan]:
        """Other sizes for one dim at a time."""
        sizes = self.interface.binding(plan).sizes
        numbers = (1, 2, 3, 4, 5, 6, 8, 10, 16, 24, 64, 80, 100, 128, 256, 512)
        grown = (
            replace(plan, chosen=tuple({**dict(plan.chosen), symbol: number}.items()))
            for number in numbers
            for symbol in sizes
        )
        yield from itertools.islice(grown, MOST_GROWN)

    def _try(self, plan: Plan, seed: int) -> Outputs | None:
        """The outputs, or None where ONNX Runtime refuses the inputs or these were tried."""
        self.message = None
        if self.tried and time.monotonic() > self.until:
            return None
        if self.budget is not None:
            needed = self.budget.needed(self.interface.shapes(plan))
            if needed > self.budget.limit:
                self.too_large.append(needed)
                return None
        try:
            self.feeds = self.interface.make(plan, seed)
        except (MemoryError, ValueError, OverflowError):
            return None  # sizes beyond reason
        key = f"{_signature(self.feeds)} {plan.values} {plan.masks if self.interface.has_masks else ''}"
        if key in self.tried or array_bytes(self.feeds) > MOST_BYTES:
            return None
        self.tried.add(key)
        try:
            share = TRIAL_SHARE if self.interface.binding(plan).sizes else 1  # nothing open: one plan
            left = max((self.until - time.monotonic()) / share, 1.0)
            outputs = self.session.run(self.feeds, min(left, self.end - time.monotonic()))
        except ir.ModelError as error:
            if self.refusal is None or is_out_of_time(self.refusal):
                self.refusal = error
            self.message = error.diagnostic.message
            return None
        self.was_empty = _is_empty(outputs)
        return outputs

    def _failed(self) -> ir.ModelError:
        if self.refusal is not None and is_out_of_time(self.refusal):
            message = f"no made inputs ran to their end (tried: {len(self.tried)}): "
            return ir.ModelError(replace(self.refusal.diagnostic, message=message + self.refusal.diagnostic.message))
        if self.refusal is None and self.too_large and self.budget is not None:
            message = f"no inputs were made: {self.budget.said(min(self.too_large))}"
            return ir.ModelError(ir.Diagnostic("no-usable-inputs", message, hint=self._hint()))
        message = "no inputs that were made for the model run in ONNX Runtime"
        said = f"{message}: {self.refusal.diagnostic.message}" if self.refusal else message
        return ir.ModelError(ir.Diagnostic("no-usable-inputs", said, hint=self._hint()))

    def _hint(self) -> str:
        """Which options of the command give what could not be guessed."""
        ways = ["give inputs with --inputs FILE.npz"]
        for value, each in self.interface.opened(None).items():
            if value.shape is None:
                ways.append(f"the dims of input {each.name!r} with --input-shape {each.name}:1,3,224,224")
        plan = next(plans(0))
        binding = self.interface.binding(plan)
        for each in self.interface.opened(None).values():
            named = [symbol for dim in each.dims for symbol in symbols(dim) if "@" not in symbol]
            unnamed = any("@" in symbol for dim in each.dims for symbol in symbols(dim))
            for symbol in named:
                way = f"dim {symbol!r} of input {each.name!r} with --dim {symbol}=N (tried: {binding.size(symbol)})"
                if not any(f"--dim {symbol}=" in said for said in ways):
                    ways.append(way)
            if unnamed and each.rank_is_known:
                shape = ",".join(str(size) for size in binding.shape(each.dims))
                ways.append(
                    f"the dims of input {each.name!r} with --input-shape {each.name}:{shape} (those were tried)"
                )
        return ", or ".join(ways[:6])


MOST_BYTES = 1 << 30  # of made inputs


def array_bytes(*data: Feeds) -> int:
    """Bytes of the tensors in inputs or outputs, those in sequences and maps included."""
    return sum(np.asarray(datum).nbytes for each in data for datum in leaves(each).values() if datum is not None)


def _signature(feeds: Feeds) -> str:
    """What tells two plans apart for this model: without open dims most of them are the same."""
    shapes = {
        name: np.shape(datum) if isinstance(datum, np.ndarray) else str(type(datum)) for name, datum in feeds.items()
    }
    return str(shapes)


def _mostly_numbers(datum: Datum) -> bool:
    if not isinstance(datum, np.ndarray) or not is_inexact(datum) or not datum.size:
        return True
    missing = sum(int(np.isnan(as_numbers(piece)).sum()) for piece in pieces(datum))
    return missing < 0.01 * datum.size


def _is_empty(outputs: Outputs) -> bool:
    """Whether every output is a tensor without elements: nothing would be compared."""
    arrays = [datum for datum in outputs.values() if isinstance(datum, np.ndarray)]
    return bool(arrays) and len(arrays) == len(outputs) and all(array.size == 0 for array in arrays)


def _describe(interface: _Interface, plan: Plan, seed: int) -> str:
    sizes = interface.binding(plan).sizes
    parts = [f"{symbol} = {size}" for symbol, size in list(sizes.items())[:6]]
    parts += [] if plan.values == "normal" else [f"values {plan.values}"]
    parts += [f"masks {plan.masks.value}"] if interface.has_masks and plan.masks is not MaskKind.PLAIN else []
    return f"made with seed {seed}" + (f" ({', '.join(parts)})" if parts else "")


# --- the user's own ---------------------------------------------------------------------------------------------------


def read_feeds(path: Path, model: ir.Model) -> FeedSet:
    """The inputs in an `.npz` file, one array for each input's name. Raises ModelError (`inputs-do-not-fit`)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Mapping[str, Array] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _misfit(path, f"not an .npz file of plain arrays: {error}") from None
    wanted = {value.name or "": value for value in open_inputs(model)}
    optional = {value.name or "": value for value in model.graph.inputs if value.is_initializer()}
    unknown = [name for name in arrays if name not in wanted and name not in optional]
    missing = [name for name in wanted if name not in arrays]
    if unknown or missing:
        said = f"has no {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is no input"
        raise _misfit(path, f"{said}; the model's inputs are {list(wanted)}")
    fitted = {name: _fit(path, {**wanted, **optional}[name], array) for name, array in arrays.items()}
    return FeedSet(fitted, f"read from {path.name}")


def write_feeds(path: Path, feeds: Mapping[str, Array]) -> None:
    """Write inputs as `read_feeds` reads them, whatever their names are: `np.savez` keeps `file` for itself."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in feeds.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _fit(path: Path, value: ir.Value, array: Array) -> Array:
    dtype = value.dtype
    if not isinstance(value.type, ir.TensorType) or dtype is None:
        raise _misfit(path, f"input {value.name!r} is {value.type}, which .npz files cannot hold")
    dims = array.shape if value.shape is None else value.shape.dims
    fits = len(dims) == array.ndim and all(
        dim == size for dim, size in zip(dims, array.shape, strict=True) if isinstance(dim, int) and dim >= 0
    )
    if not fits:
        raise _misfit(path, f"input {value.name!r} has shape {list(array.shape)}, the model wants {value.shape}")
    if dtype == ir.DataType.STRING and array.dtype.kind in "US":
        return array.astype(str).astype(object)
    want = dtype.numpy()
    if array.dtype.kind == "V" and array.dtype.itemsize == want.itemsize:
        return array.view(want)  # NumPy saves bfloat16 and its like as raw bytes
    if array.dtype != want and not (array.dtype.kind == "f" and want.kind == "V"):
        raise _misfit(path, f"input {value.name!r} is {array.dtype}, the model wants {want}")
    return array.astype(want, copy=False)


def _misfit(path: Path, message: str) -> ir.ModelError:
    return ir.ModelError(ir.Diagnostic("inputs-do-not-fit", message, ir.Location(file=str(path))))
