"""Feeds for a model: the user's own files, then generated sets that it accepts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import ir
from ..heap import trim_heap
from ..ort.session import Session
from ..ort.session_options import Datum, Feeds
from .attention_masks import MaskKind
from .feed_files import read_file
from .feed_generator import FeedSource, ModelInputs
from .feed_plans import SIZINGS, TYPICAL, FeedPlan, plans
from .feed_trials import TrialOptions, Trials


@dataclass(frozen=True)
class FeedSet:
    """One set of inputs; `description` says where it comes from.

    `source`: the inputs, or a function that generates the same ones at each call, so that large ones of several sets
    are not held at once.
    """

    source: FeedSource
    description: str

    @property
    def feeds(self) -> Feeds:
        """The inputs by name, perhaps generated for this call."""
        return self.source() if callable(self.source) else self.source


def make_feeds(model: ir.Model, *, seed: int = 0, plan: FeedPlan | None = None) -> dict[str, Datum]:
    """Generate inputs that `model` is likely to accept: indices within tables, masks with padding, consistent dims."""
    return ModelInputs(model).generate(plan or FeedPlan(SIZINGS[0]), seed)


def typical_shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """The dims of the inputs by name, with the sizes of latency measurements for open ones."""
    return ModelInputs(model).shapes(FeedPlan(TYPICAL))


def usable_feeds(
    session: Session,
    model: ir.Model,
    user: Sequence[Path] = (),
    *,
    count: int = 3,
    seed: int = 0,
    options: TrialOptions | None = None,
) -> list[FeedSet]:
    """Sets of inputs that `session`, of the original model, runs: the user's own, then generated ones up to `count`.

    Trials end at the deadline of `options`; further sets are begun in the first half of that time only.
    Raises ModelError: `inputs-do-not-fit` for a file that does not, `no-usable-inputs` when no set runs or no size is
    within the memory budget, `time-limit` when the deadline passes first.
    """
    options = options or TrialOptions()
    midpoint = (time.monotonic() + options.until) / 2
    sets = [read_feeds(path, model) for path in user]
    trials = Trials(session, ModelInputs(model), options)
    for nth in range(len(sets), max(count, len(sets))):
        if sets and time.monotonic() > midpoint:
            break
        accepted = trials.first_accepted(nth, seed + nth)
        if not isinstance(accepted, ir.ModelError):
            description = _describe(trials.inputs, accepted.plan, seed + nth) + accepted.remark
            sets.append(FeedSet(accepted.source, description))
        elif not sets:
            raise accepted
    trim_heap()
    return sets


def feed_sets(model: ir.Model, user: Sequence[Path] = (), *, count: int = 3, seed: int = 0) -> list[FeedSet]:
    """The user's sets, then generated ones up to `count`, without trial runs.

    Raises ModelError (`inputs-do-not-fit`) for a file that does not fit.
    """
    sets = [read_feeds(path, model) for path in user]
    inputs = ModelInputs(model)
    for nth in range(len(sets), max(count, len(sets))):
        plan = next(plans(nth))
        source = inputs.source(plan, seed + nth, inputs.generate(plan, seed + nth))
        sets.append(FeedSet(source, _describe(inputs, plan, seed + nth)))
    return sets


def read_feeds(path: Path, model: ir.Model) -> FeedSet:
    """The inputs in an `.npz` file, one array for each input's name. Raises ModelError (`inputs-do-not-fit`)."""
    return FeedSet(read_file(path, model), f"read from {path.name}")


def _describe(inputs: ModelInputs, plan: FeedPlan, seed: int) -> str:
    sizes = inputs.binding(plan).sizes
    parts = [f"{symbol} = {size}" for symbol, size in list(sizes.items())[:6]]
    parts += [] if plan.values == "normal" else [f"values {plan.values}"]
    parts += [f"masks {plan.masks.value}"] if inputs.has_masks and plan.masks is not MaskKind.PLAIN else []
    return f"generated with seed {seed}" + (f" ({', '.join(parts)})" if parts else "")
