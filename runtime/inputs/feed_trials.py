"""Run the original on generated feeds until it accepts one set; sizes in its error messages lead to the next trial."""

from __future__ import annotations

import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ... import ir
from ..arrays import array_bytes, as_numbers, is_inexact, pieces
from ..ort.session import Session, is_out_of_time
from ..ort.session_options import Datum, Feeds, Outputs
from .bind_dims import Sizing, symbols
from .feed_generator import FeedSource, ModelInputs
from .feed_plans import FeedPlan, plans

RANKS = (2, 3, 4, 1)  # tried for inputs of unknown rank, the most frequent first
MAX_REPAIRS, MAX_SINGLE_DIMS = 48, 96  # trials for one set
TRIALS_S = 60.0  # for the trials of one set, after the first
TRIAL_SHARE = 12  # one trial may take this part of the time that is left: a size may be far too large
MAX_BYTES = 1 << 30  # of one set of feeds
MOST_GROWTH, LARGE = 12, 1 << 15
"""Plans of more elements than `LARGE`, and that many times those of the first, go last: to fail costs them as much."""
_SINGLE_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 16, 24, 64, 80, 100, 128, 256, 512)


@dataclass(frozen=True)
class Budget:
    """A memory limit in bytes: `needed` estimates the bytes of a run from the dims of the inputs by name."""

    limit: int
    needed: Callable[[Mapping[str, Sequence[int]]], int]

    def exceeded(self, needed: int) -> str:
        """The message for sizes that need more bytes than the limit."""
        limit = f"{self.limit / 2**30:.1f} GiB may be used"
        return f"larger sizes would need about {needed / 2**30:.1f} GiB of memory; {limit}"


@dataclass(frozen=True)
class TrialOptions:
    """Options of the search for usable feeds.

    `first`: sizes for the first set, instead of small ones. `until`: the deadline, by the monotonic clock. `budget`:
    the memory limit that sizes must keep.
    """

    first: Sizing | None = None
    until: float = math.inf
    budget: Budget | None = None


@dataclass(frozen=True)
class Accepted:
    """Feeds that the original runs (see `FeedSet.source`); `remark` for their description, with its comma."""

    plan: FeedPlan
    source: FeedSource
    remark: str = ""


class Trials:
    """Trial runs of the original on generated feeds; sizes and ranks that ran serve the next set."""

    def __init__(self, session: Session, inputs: ModelInputs, options: TrialOptions) -> None:
        self.session, self.inputs, self.options = session, inputs, options
        self._learned: dict[str, int] = {}
        self._rank: int | None = None
        self._error: ir.ModelError | None = None  # the first, but for time limits
        self._start_set(0.0)

    def _start_set(self, until: float) -> None:
        self._until = until
        self._tried: set[str] = set()
        self._too_large: list[int] = []  # bytes of the plans beyond the budget
        self._message: str | None = None  # of the last error
        self._was_empty = False  # whether the last outputs had no elements
        self._feeds: Feeds = {}

    def first_accepted(self, nth: int, seed: int) -> Accepted | ir.ModelError:
        """The first plan with finite outputs; else the first that runs at all; else ONNX Runtime's first error."""
        self._start_set(min(time.monotonic() + TRIALS_S, self.options.until))
        running: Accepted | None = None
        for plan in self._plans(nth):
            if running is not None and not self._may_be_better(plan, running.plan):
                continue
            outputs = self._run(plan, seed)
            if outputs is None:
                continue
            accepted = Accepted(plan, self.inputs.source(plan, seed, self._feeds))
            if self._too_large and self.options.budget is not None:
                accepted = replace(accepted, remark=f", {self.options.budget.exceeded(self._too_large[0])}")
            if all(map(_mostly_numbers, outputs.values())) and not _is_empty(outputs):
                self._learn(plan)
                return accepted
            running = running or accepted
        if running is None:
            return self._failure()
        self._learn(running.plan)
        return replace(running, remark=f"{running.remark}, some results not a number or empty")

    def _may_be_better(self, plan: FeedPlan, running: FeedPlan) -> bool:
        """After a plan ran: whether to try other values and masks, or other sizes where its outputs are empty."""
        return plan.values != "normal" or plan.masks != running.masks or self._was_empty

    def _learn(self, plan: FeedPlan) -> None:
        self._learned |= dict(plan.chosen)
        self._rank = plan.rank if self._rank is None else self._rank

    # --- plans --------------------------------------------------------------------------------------------------------

    def _plans(self, nth: int) -> Iterator[FeedPlan]:
        ranks: Sequence[int | None] = (None,)
        if self.inputs.has_unknown_ranks:
            ranks = (self._rank,) if self._rank is not None else RANKS
        chosen = tuple(self._learned.items())
        first = self.options.first if nth == 0 else None
        ordered = [replace(plan, chosen=chosen, rank=ranks[0]) for plan in plans(nth, first)]
        self._most = max(MOST_GROWTH * self._elements(ordered[0]), LARGE)
        self._postponed: list[FeedPlan] = []
        yield from self._with_repairs(ordered[:3])
        yield from (replace(ordered[0], rank=rank) for rank in ranks[1:])
        yield from self._with_repairs(self._cheapest_first(ordered[3:]))
        for rank in ranks[1:]:
            yield from self._with_repairs([replace(ordered[3], rank=rank)])
        yield from self._with_repairs([replace(plan, solved=False) for plan in ordered])
        yield from self._with_single_dims(ordered[3])
        self._most = sys.maxsize
        yield from self._with_repairs(self._cheapest_first(dict.fromkeys(self._postponed)))

    def _cheapest_first(self, ordered: Iterable[FeedPlan]) -> list[FeedPlan]:
        """Plans by the elements of their inputs, those with other values than normal ones last."""
        return sorted(ordered, key=lambda plan: (plan.values != "normal", self._elements(plan)))

    def _elements(self, plan: FeedPlan) -> int:
        """The elements of all inputs."""
        return sum(map(math.prod, self.inputs.shapes(plan).values()))

    def _with_repairs(self, ordered: Iterable[FeedPlan]) -> Iterator[FeedPlan]:
        """Each plan, and after an error, plans with the sizes in ONNX Runtime's message (breadth-first)."""
        repairs = 0
        for plan in ordered:
            pending: list[tuple[FeedPlan, Mapping[str, int]]] = [(plan, {})]
            seen = {plan}
            while pending and repairs < MAX_REPAIRS:
                current, steps = pending.pop(0)
                if self._elements(current) > self._most:
                    self._postponed.append(current)
                    continue
                yield current
                if self._message is None:
                    break
                repairs += current is not plan
                for symbol, size, number in self._repairs(current, self._message):
                    repaired, step = current.with_size(symbol, number), number - size
                    # A size that the last repair raised, and that needs a larger step now, grows without end.
                    diverges = 0 < steps.get(symbol, 0) < step
                    if not diverges and repaired not in seen and len(repaired.chosen) <= len(plan.chosen) + 3:
                        seen.add(repaired)
                        pending.append((repaired, {**steps, symbol: step}))

    def _repairs(self, plan: FeedPlan, message: str) -> Iterator[tuple[str, int, int]]:
        """`Got: 5 Expected: 10`: a symbol whose size the message has, that size, and another size of the message."""
        numbers = list(dict.fromkeys(int(text) for text in re.findall(r"(?<![\w.-])\d{1,6}(?![\w.])", message)))
        sizes = self.inputs.binding(plan).sizes
        for number in [number for number in numbers[:8] if 0 < number <= 1 << 16]:
            for symbol, size in sizes.items():
                if size in numbers and size != number:
                    yield symbol, size, number

    def _with_single_dims(self, plan: FeedPlan) -> Iterator[FeedPlan]:
        """The plan with another size for one symbol at a time."""
        sizes = self.inputs.binding(plan).sizes
        varied = (plan.with_size(symbol, size) for size in _SINGLE_SIZES for symbol in sizes)
        yield from itertools.islice(varied, MAX_SINGLE_DIMS)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _run(self, plan: FeedPlan, seed: int) -> Outputs | None:
        """The outputs; None after an error of ONNX Runtime, for feeds that were tried, and beyond a limit."""
        self._message = None
        if self._tried and time.monotonic() > self._until:
            return None
        if self.options.budget is not None:
            needed = self.options.budget.needed(self.inputs.shapes(plan))
            if needed > self.options.budget.limit:
                self._too_large.append(needed)
                return None
        try:
            self._feeds = self.inputs.generate(plan, seed)
        except (MemoryError, ValueError, OverflowError):
            return None  # sizes that NumPy cannot allocate
        key = f"{_signature(self._feeds)} {plan.values} {plan.masks if self.inputs.has_masks else ''}"
        if key in self._tried or array_bytes(self._feeds) > MAX_BYTES:
            return None
        self._tried.add(key)
        try:
            share = TRIAL_SHARE if self.inputs.binding(plan).sizes else 1  # without open dims there is one plan
            left = max((self._until - time.monotonic()) / share, 1.0)
            outputs = self.session.run(self._feeds, min(left, self.options.until - time.monotonic()))
        except ir.ModelError as error:
            if self._error is None or is_out_of_time(self._error):
                self._error = error
            self._message = error.diagnostic.message
            return None
        self._was_empty = _is_empty(outputs)
        return outputs

    # --- errors -------------------------------------------------------------------------------------------------------

    def _failure(self) -> ir.ModelError:
        error, budget = self._error, self.options.budget
        if error is not None and is_out_of_time(error):
            message = f"no generated inputs ran to their end (tried: {len(self._tried)}): {error.diagnostic.message}"
            return ir.ModelError(replace(error.diagnostic, message=message))
        if error is None and self._too_large and budget is not None:
            message = f"no inputs were generated: {budget.exceeded(min(self._too_large))}"
            return ir.ModelError(ir.Diagnostic("no-usable-inputs", message, hint=self._hint()))
        message = "ONNX Runtime runs none of the inputs that were generated for the model"
        message += f": {error.diagnostic.message}" if error else ""
        return ir.ModelError(ir.Diagnostic("no-usable-inputs", message, hint=self._hint()))

    def _hint(self) -> str:
        """The options of the command that supply inputs or their open dims."""
        hints = ["give inputs with --inputs FILE.npz"]
        for value, opened in self.inputs.opened(None).items():
            if value.shape is None:
                hints.append(f"the dims of input {opened.name!r} with --input-shape {opened.name}:1,3,224,224")
        binding = self.inputs.binding(next(plans(0)))
        for opened in self.inputs.opened(None).values():
            names = [symbol for dim in opened.dims for symbol in symbols(dim)]
            for symbol in (name for name in names if "@" not in name):
                if not any(f"--dim {symbol}=" in hint for hint in hints):
                    tried = binding.size(symbol)
                    hints.append(f"dim {symbol!r} of input {opened.name!r} with --dim {symbol}=N (tried: {tried})")
            if any("@" in name for name in names) and opened.rank_is_known:
                shape = ",".join(str(size) for size in binding.shape(opened.dims))
                hints.append(
                    f"the dims of input {opened.name!r} with --input-shape {opened.name}:{shape} (those were tried)"
                )
        return ", or ".join(hints[:6])


def _signature(feeds: Feeds) -> str:
    """The shapes of feeds: without open dims, most plans have the same."""
    return str(
        {name: np.shape(datum) if isinstance(datum, np.ndarray) else type(datum) for name, datum in feeds.items()}
    )


def _mostly_numbers(datum: Datum) -> bool:
    if not isinstance(datum, np.ndarray) or not is_inexact(datum) or not datum.size:
        return True
    missing = sum(int(np.isnan(as_numbers(piece)).sum()) for piece in pieces(datum))
    return missing < 0.01 * datum.size


def _is_empty(outputs: Outputs) -> bool:
    """Whether every output is a tensor without elements, which would leave nothing to compare."""
    arrays = [datum for datum in outputs.values() if isinstance(datum, np.ndarray)]
    return bool(arrays) and len(arrays) == len(outputs) and all(array.size == 0 for array in arrays)
