"""Inputs for a model: the user's own, and made ones that it accepts."""

from __future__ import annotations

import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import numpy as np

from .. import ir
from .constraints import Demands
from .options import Array, Datum, Feeds
from .roles import Role, Usage, usage_of
from .session import Session
from .sizes import Binding, OpenInput, Sizing, bind, demands

WORDS = np.array(["", "a", "word", "another word", "naïve 字"], dtype=object)

# Several sizes: a batch of one, odd sizes that fit no block, and one position at a time.
USUAL = Sizing()
"""What models are timed on."""
SIZINGS = (
    Sizing(batch=1, length=16, image=64, samples=2000),
    Sizing(batch=2, length=17, past=5, image=96, samples=3000),
    Sizing(batch=3, length=1, past=11, image=80, samples=2500),
)
"""What results are compared on: small, since several sessions run each several times."""


@dataclass(frozen=True)
class FeedSet:
    """One set of inputs; `description` says how it was made."""

    feeds: Feeds
    description: str


@dataclass(frozen=True)
class Plan:
    """How to make one set. `values`: `normal`, `unit` (0 to 1, for models that take logarithms and roots) or `ones`."""

    sizing: Sizing
    values: str = "normal"
    absent: bool = False  # whether optional inputs are given without a value
    nth: int = 0  # which of the kinds of masks
    extreme: bool = False  # whether masks leave nothing of a sample
    rank: int = 0  # of inputs without a declared or demanded one
    fixed: tuple[tuple[str, int], ...] = ()  # sizes of symbols that ONNX Runtime asked for


@dataclass(frozen=True)
class _Interface:
    """The inputs of a model and what its weights and constants demand of their dims, computed once."""

    model: ir.Model
    values: tuple[ir.Value, ...]
    demanded: Demands

    @classmethod
    def of(cls, model: ir.Model) -> _Interface:
        values = open_inputs(model)
        is_open = any(
            value.shape is None or any(not isinstance(dim, int) or dim < 0 for dim in value.shape) for value in values
        )
        return cls(model, tuple(values), demands(model, values) if is_open else Demands())

    @property
    def has_free_ranks(self) -> bool:
        """Whether the rank of an input is neither declared nor demanded."""
        return any(value.shape is None and (value.name or "") not in self.demanded.ranks for value in self.values)

    def opened(self, plan: Plan) -> list[OpenInput]:
        ranks = self.demanded.ranks
        return [OpenInput.of(value, ranks.get(value.name or "", plan.rank)) for value in self.values]

    def binding(self, plan: Plan) -> Binding:
        bound = bind(self.opened(plan), plan.sizing, self.demanded)
        return Binding({**bound.sizes, **{name: size for name, size in plan.fixed if name in bound.sizes}})


def open_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller must give: those without an initializer."""
    return [value for value in model.graph.inputs if not value.is_initializer()]


def make_feeds(model: ir.Model, *, seed: int = 0, plan: Plan | None = None) -> dict[str, Datum]:
    """Inputs that `model` is likely to accept: indices within tables, masks with padding, dims bound consistently."""
    return _Maker(_Interface.of(model), plan or Plan(SIZINGS[0]), seed).make()


def made_shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """The dims of the inputs that `make_feeds` makes."""
    interface, plan = _Interface.of(model), Plan(SIZINGS[0])
    binding = interface.binding(plan)
    return {each.name: binding.shape(each.dims) for each in interface.opened(plan)}


class _Maker:
    def __init__(self, interface: _Interface, plan: Plan, seed: int) -> None:
        self.model = interface.model
        self.plan = plan
        self.values = interface.values
        self.opened = interface.opened(plan)
        self.binding = interface.binding(plan)
        self.random = np.random.default_rng(seed)
        self.seed = seed

    def make(self) -> dict[str, Datum]:
        return {each.name: self._datum(value, each) for value, each in zip(self.values, self.opened, strict=True)}

    def _datum(self, value: ir.Value, each: OpenInput) -> Datum:
        shape = self.binding.shape(each.dims)
        kind = value.type
        if isinstance(kind, ir.OptionalType):
            if self.plan.absent:
                return None
            kind = kind.elem_type
        usage = usage_of(value, self.model)
        dtype = value.dtype or ir.DataType.FLOAT
        if isinstance(kind, ir.SequenceType):
            return [self._tensor(each, dtype, shape, usage) for _ in range(3)]
        return self._tensor(each, dtype, shape, usage)

    def _tensor(self, each: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        if dtype == ir.DataType.STRING:
            return np.asarray(self.random.choice(WORDS, size=shape), dtype=object).reshape(shape)
        content = self._content(each, dtype, shape, usage)
        if dtype == ir.DataType.BOOL:
            content = content != 0
        return np.asarray(content).astype(dtype.numpy()).reshape(shape)

    def _content(self, each: OpenInput, dtype: ir.DataType, shape: tuple[int, ...], usage: Usage) -> Array:
        role = usage.role
        below = self._below(usage)
        if usage.choices and role in (Role.PLAIN, Role.MASK) and not shape:
            return np.full(shape, usage.choices[self.seed % len(usage.choices)])
        if dtype == ir.DataType.BOOL and role is not Role.LENGTH and "mask" not in each.name.lower():
            return self.random.integers(0, 2, shape)
        match role:
            case Role.TARGET_SHAPE:
                return np.array([-1, 1, 1, 1, 1, 1, 1, 1])[: int(np.prod(shape, dtype=int))]
            case Role.ZEROS:
                return np.zeros(shape)
            case Role.ONES:
                return np.ones(shape)
            case Role.SMALL:
                return np.full(shape, 3)
            case Role.AXES:
                return np.arange(int(np.prod(shape, dtype=int)))
            case Role.INDEX:
                return self.random.integers(0, below, shape)
            case Role.POSITION:
                return self._positions(shape) % below if usage.bounds else self._positions(shape)
            case Role.LENGTH:
                return self._lengths(each, shape, below if usage.bounds else None)
            case Role.MASK:
                return self._mask(shape)
            case Role.ADDED_MASK:
                return self._added_mask(dtype, shape)
            case Role.BOXES:
                return _boxes(self.random, shape)
            case Role.PLAIN:
                return self._plain(dtype, shape)

    def _mask(self, shape: tuple[int, ...]) -> Array:
        """1 where something is seen. The kinds: padding on the right, on the left, and of what is yet to come."""
        kind = self.plan.nth % 3
        mask = _causal_mask(shape) if kind == 2 else _padding_mask(shape)
        if kind == 1 and shape:
            mask = np.flip(mask, axis=-1)
        if self.plan.extreme and kind != 0 and len(shape) > 1 and shape[0] > 1:
            mask = mask.copy()
            mask[-1] = 0  # nothing of the last sample is seen
        return mask

    def _added_mask(self, dtype: ir.DataType, shape: tuple[int, ...]) -> Array:
        """0 where something is seen, else a large negative number, another one in each sample."""
        seen = self._mask(shape) != 0
        least = float(ml_dtypes.finfo(dtype.numpy()).min)  # type: ignore[no-untyped-call]
        low = np.maximum(np.array([least, -1e9, -1e4]), least)
        rows = np.arange(shape[0] if len(shape) > 1 else 1) + self.plan.nth
        low = low[rows % 3].reshape(-1, *[1] * (len(shape) - 1)) if shape else low[:1].reshape(())
        if self.plan.nth % 3 == 2:  # NaN comes of a row without anything but this: other sets have such rows
            some = seen.any(axis=-1, keepdims=True) if shape else seen
            low = np.where(some, -np.inf, low)
        return np.where(seen, 0.0, low)

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

    def _lengths(self, each: OpenInput, shape: tuple[int, ...], longest: int | None) -> Array:
        """The full length first, then shorter ones; the length is that of the sequences in the same batch."""
        rows = shape[0] if shape else 1
        others = [self.binding.shape(other.dims) for other in self.opened if other.name != each.name]
        full = min((other[1] for other in others if len(other) > 1 and other[0] == rows), default=0)
        full = longest or full or max((other[-1] for other in others if other), default=4)
        lengths = self.random.integers(max(full // 2, 1), full + 1, shape)
        return np.where(np.arange(lengths.size).reshape(shape) == 0, full, lengths)

    def _plain(self, dtype: ir.DataType, shape: tuple[int, ...]) -> Array:
        if not dtype.is_floating_point() and dtype not in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            if dtype in (ir.DataType.UINT8, ir.DataType.INT8):
                info = np.iinfo(dtype.numpy())
                return self.random.integers(info.min, info.max + 1, shape)
            most = min(int(ml_dtypes.iinfo(dtype.numpy()).max), 7)  # type: ignore[no-untyped-call]
            return self.random.integers(1, most + 1, shape)  # never 0: ONNX Runtime dies of an integer division by it
        match self.plan.values:
            case "normal":
                return np.asarray(self.random.standard_normal(shape))
            case "unit":
                return np.asarray(self.random.uniform(0.05, 0.95, shape))
            case _:
                return np.ones(shape)


def _padding_mask(shape: tuple[int, ...]) -> Array:
    """Ones, with zeros at the end of every second row, the last third of it; a mask of images ends so on two axes."""
    mask = np.ones(shape)
    if not shape:
        return mask
    start = 1 if len(shape) == 3 else max(len(shape) - 1, 0)
    for axis in range(start, len(shape)):
        keep = max(shape[axis] - shape[axis] // 3, 1)
        rows = (slice(1, None, 2),) if len(shape) > 1 else (slice(None),)
        where = [slice(None)] * len(shape)
        where[0] = rows[0]
        where[axis] = slice(keep, None)
        mask[tuple(where)] = 0
    return mask


def _causal_mask(shape: tuple[int, ...]) -> Array:
    """Every position sees those up to itself; a mask without rows of queries is all seen but for the last position."""
    mask = np.ones(shape)
    if len(shape) > 2 and shape[-2] > 1:
        return np.tril(mask, shape[-1] - shape[-2])
    if shape and shape[-1] > 1:
        mask[..., -1] = 0
    return mask


def _boxes(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Two corners along the last axis, the lower one first."""
    corners = random.uniform(0, 10, shape)
    if shape and shape[-1] == 4:
        pairs = np.sort(corners.reshape(*shape[:-1], 2, 2), axis=-2)
        return np.asarray(pairs.reshape(shape) + np.array([0, 0, 1, 1]))
    return corners


def plans(nth: int, *, free_ranks: bool = False, usual: bool = False) -> Iterator[Plan]:
    """Ways to make the `nth` set: the first is the best test, later ones are accepted by more models.

    `free_ranks`: whether the ranks of inputs are tried, too. `usual`: sizes to be timed on.
    """
    wanted = USUAL if usual else SIZINGS[nth % len(SIZINGS)]
    for rank in (2, 1, 3, 4, 0) if free_ranks else (0,):
        for plan in _sized_plans(wanted, nth):
            yield replace(plan, nth=nth, rank=rank)


def _sized_plans(wanted: Sizing, nth: int) -> Iterator[Plan]:
    yield Plan(wanted, absent=nth == 1, extreme=True)
    yield Plan(wanted, absent=nth == 1)
    yield Plan(wanted, extreme=True)
    yield Plan(wanted)
    for sizing in (
        replace(wanted, apart=False),
        replace(wanted, apart=False, samples=576, image=48),
        replace(wanted, apart=False, length=64, samples=16000, image=64, past=64),
        replace(wanted, batch=1, apart=False, length=16, image=256, samples=512, past=0),
        Sizing(batch=1, length=128, image=640, samples=1024, apart=False),
        Sizing(batch=1, length=1, past=1, image=32, samples=64, apart=False),
        Sizing(batch=4, length=4, past=4, image=128, samples=4, apart=False),
        Sizing(batch=16, length=16, past=16, image=224, samples=16, apart=False),
    ):
        yield Plan(sizing)
    yield Plan(wanted, "unit")
    yield Plan(replace(wanted, apart=False), "unit")
    yield Plan(replace(wanted, batch=1, apart=False), "ones")


def usable_feeds(
    session: Session,
    model: ir.Model,
    user: Sequence[Path] = (),
    *,
    count: int = 3,
    seed: int = 0,
    usual: bool = False,
    proceed: Callable[[], bool] = lambda: True,
) -> list[FeedSet]:
    """Sets of inputs that `session`, of the original model, runs: the user's own, then made ones up to `count`.

    `usual`: of sizes to be timed on; they are small otherwise. `proceed` is asked before each further set.
    Raises ModelError: `inputs-do-not-fit` for a file that does not, `no-usable-inputs` when nothing runs.
    """
    found = [read_feeds(path, model) for path in user]
    interface = _Interface.of(model) if len(found) < count else None
    for nth in range(len(found), max(count, len(found))):
        if interface is None or (found and not proceed()):
            break
        made = _first_that_runs(session, interface, nth, seed + nth, usual=usual)
        if isinstance(made, FeedSet):
            found.append(made)
        elif not found:
            raise made
    return found


def feed_sets(model: ir.Model, user: Sequence[Path] = (), *, count: int = 3, seed: int = 0) -> list[FeedSet]:
    """The user's sets, then made ones up to `count`, none of them tried. Raises ModelError (`inputs-do-not-fit`)."""
    found = [read_feeds(path, model) for path in user]
    interface = _Interface.of(model)
    for nth in range(len(found), max(count, len(found))):
        plan = next(plans(nth, free_ranks=interface.has_free_ranks))
        made = _Maker(interface, plan, seed + nth).make()
        found.append(FeedSet(made, _describe(interface, plan, seed + nth)))
    return found


TRIES, TRIES_S = 160, 60.0  # of one set: how many runs at most, and how long before no other is begun
CORRECTIONS = 6  # sizes that ONNX Runtime's messages ask for, one after the other


def _first_that_runs(
    session: Session, interface: _Interface, nth: int, seed: int, *, usual: bool = False
) -> FeedSet | ir.ModelError:
    """The first plan with finite results; else the first that runs at all; else what ONNX Runtime said first."""
    running: FeedSet | None = None
    refusal: ir.ModelError | None = None
    tried: set[str] = set()
    until = time.monotonic() + TRIES_S
    for first in plans(nth, free_ranks=interface.has_free_ranks, usual=usual):
        if running is not None and first.values == "normal" and first.extreme:
            continue  # the sizes are right, the values are not
        pending = [first]
        while pending and len(tried) < TRIES and time.monotonic() < until:
            plan = pending.pop()
            feeds = _Maker(interface, plan, seed).make()
            if (key := _signature(feeds, plan)) in tried:
                continue
            tried.add(key)
            try:
                outputs = session.run(feeds, max(until - time.monotonic(), 1.0))
            except ir.ModelError as error:
                refusal = refusal or error
                if len(plan.fixed) < CORRECTIONS and running is None:
                    pending += _corrections(plan, interface.binding(plan).sizes, error.diagnostic.message)
                continue
            made = FeedSet(feeds, _describe(interface, plan, seed))
            if all(map(_mostly_numbers, outputs.values())):
                return made
            running = running or made
            break
    if running is not None:
        return replace(running, description=f"{running.description}, some results not a number")
    return _no_inputs(interface, refusal)


def _corrections(plan: Plan, sizes: Mapping[str, int], message: str) -> list[Plan]:
    """Plans in which a symbol has another number of the message than the one that it had, the likeliest last."""
    numbers = list(dict.fromkeys(int(each) for each in re.findall(r"(?<![\w.])\d{1,6}(?![\w.]*\w)", message)))
    corrected = {name for name, _ in plan.fixed}
    found = [
        replace(plan, fixed=(*plan.fixed, (symbol, number)))
        for symbol, size in sizes.items()
        if symbol not in corrected and size > 1 and size in numbers
        for number in numbers
        if 1 < number <= 65536 and number != size
    ]
    return found[:8][::-1]


def _no_inputs(interface: _Interface, refusal: ir.ModelError | None) -> ir.ModelError:
    """Names the open dims that may be fixed by hand."""
    plan = Plan(SIZINGS[0])
    options = []
    for value, each in zip(interface.values, interface.opened(plan), strict=True):
        dims = [] if value.shape is None else [str(dim.value) for dim in value.shape if not isinstance(dim, int)]
        named = [dim for dim in dims if dim in each.dims and dim.isidentifier()]
        options += [f"--dim {dim}=SIZE (in {each.name})" for dim in named]
        if value.shape is None or len(named) < len(dims):
            rank = ",".join(str(dim) if isinstance(dim, int) else "SIZE" for dim in each.dims) or "SIZE,..."
            options.append(f"--input-shape {each.name}:{rank}")
    message = "no inputs that were made for the model run in ONNX Runtime"
    said = f"{message}: {refusal.diagnostic.message}" if refusal else message
    fixing = f"fix sizes with {', '.join(dict.fromkeys(options))}, or " if options else ""
    return ir.ModelError(ir.Diagnostic("no-usable-inputs", said, hint=f"{fixing}give inputs with --inputs FILE.npz"))


def _signature(feeds: Feeds, plan: Plan) -> str:
    """What tells two plans apart for this model: without open dims most of them are the same."""
    shapes = {
        name: np.shape(datum) if isinstance(datum, np.ndarray) else str(type(datum)) for name, datum in feeds.items()
    }
    return f"{shapes} {plan.values} {plan.extreme}"


def _mostly_numbers(datum: Datum) -> bool:
    if not isinstance(datum, np.ndarray) or datum.dtype.kind not in "fc" or not datum.size:
        return True
    return bool(np.isnan(datum).mean() < 0.01)


def _describe(interface: _Interface, plan: Plan, seed: int) -> str:
    sizes = interface.binding(plan).sizes
    parts = [f"{symbol} = {size}" for symbol, size in list(sizes.items())[:6]]
    parts += [] if plan.values == "normal" else [f"values {plan.values}"]
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
