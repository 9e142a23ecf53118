"""How fast, side by side: paired and interleaved runs, since two runs minutes apart compare the machine's mood.

Two sessions of one model differ in speed, by a percent or more, by where their memory happens to lie (Mytkowicz et al.
2009, "Producing wrong data without doing anything obviously wrong"). So sessions are opened again and again, and the
interval is of sessions as well as of runs: what one session of each shows says little about the next.

A run gives its outputs as NumPy arrays, and so ends when they have arrived: on CUDA, too, it is timed as a whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ...ir.subgraph import files_of
from ..ort.session import open_session
from ..ort.session_options import Feeds, SessionOptions

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

FEWEST_SESSIONS = 3  # of each model, whatever the budget
ENOUGH_SESSIONS = 6  # with fewer, an interval may be narrow by luck
MOST_SESSIONS = 40
USUAL_SESSIONS = 12  # what the budget is divided into
MOST_ROUNDS = 200  # in one session of each
WARM_UP = 2  # rounds, and a tenth of the time
MOST_WARM_UP_S = 0.2
PRECISION = 0.01
"""Half the width of an interval that is narrow enough to stop."""
Z = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Latency:
    """Quartiles of the time of one run, in milliseconds."""

    median_ms: float
    lower_ms: float
    upper_ms: float

    @classmethod
    def of(cls, seconds: Numbers) -> Latency:
        """The quartiles of durations in seconds."""
        lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)) * 1e3
        return cls(float(median), float(lower), float(upper))


@dataclass(frozen=True)
class Ratio:
    """Before over after: above 1 means faster. The median over pairs, and its 95 % confidence interval."""

    median: float
    low: float
    high: float
    pairs: int
    sessions: int = 1

    @property
    def is_faster(self) -> bool:
        """Whether the interval is above 1."""
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        """Whether the interval is below 1."""
        return self.high < 1

    @property
    def half_width(self) -> float:
        """Half the width of the interval, as a fraction of the ratio."""
        return (self.high - self.low) / 2 / self.median


@dataclass(frozen=True)
class Timing:
    """One of several models that were timed in turn. The ratios are the first model's time over this one's."""

    run: Latency
    load: Latency
    speed: Ratio
    load_speed: Ratio


@dataclass(frozen=True)
class Race:
    """Two models side by side on the same inputs: runs, and loading into ONNX Runtime."""

    before: Latency
    after: Latency
    speed: Ratio
    load_before: Latency
    load_after: Latency
    load: Ratio
    bytes_before: int
    bytes_after: int

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        speed = self.speed
        return (
            f"{self.before.median_ms:.3g} ms -> {self.after.median_ms:.3g} ms, x{speed.median:.2f} "
            f"(95 % interval {speed.low:.2f} to {speed.high:.2f}, {speed.pairs} pairs)"
        )


def race(
    before: Path,
    after: Path,
    feeds: Feeds,
    options: SessionOptions | None = None,
    *,
    budget_s: float = 5.0,
    seed: int = 0,
) -> Race:
    """Measure two models on `feeds`. Raises ModelError when one of them does not run."""
    one, two = time_models([before, after], feeds, options, budget_s=budget_s, seed=seed)
    return Race(one.run, two.run, two.speed, one.load, two.load, two.load_speed, bytes_of(before), bytes_of(after))


def time_models(  # noqa: PLR0913  # the models and four limits
    models: Sequence[Path],
    feeds: Feeds,
    options: SessionOptions | Sequence[SessionOptions] | None = None,
    *,
    budget_s: float = 5.0,
    precision: float = PRECISION,
    is_decided: Callable[[Ratio], bool] = lambda speed: False,
    seed: int = 0,
) -> list[Timing]:
    """Time models in turn on `feeds`, in several sessions of each, until the ratios are precise or the budget is spent.

    `options`: one for all models, or one for each. `is_decided`: asked after each session how fast the last model is;
    True ends it early.
    Raises ModelError when one of them does not run.
    """
    how = [options or SessionOptions()] * len(models) if not isinstance(options, Sequence) else options
    start = time.perf_counter()
    loads: list[Numbers] = []
    runs: list[Numbers] = []
    while True:
        loaded, ran = _in_new_sessions(models, feeds, how, len(runs), budget_s)
        loads.append(loaded)
        runs.append(ran)
        spent = time.perf_counter() - start
        is_over = len(runs) >= MOST_SESSIONS or spent + spent / len(runs) > budget_s  # the next would be too late
        if len(runs) >= FEWEST_SESSIONS and is_over:
            break
        if len(runs) >= ENOUGH_SESSIONS and _is_precise(runs, precision, seed):
            break
        if len(runs) >= FEWEST_SESSIONS and is_decided(ratio(runs, len(models) - 1, seed=seed)):
            break
    return [
        Timing(
            Latency.of(np.concatenate([each[:, place] for each in runs])),
            Latency.of(np.concatenate([each[:, place] for each in loads])),
            ratio(runs, place, seed=seed),
            ratio(loads, place, seed=seed),
        )
        for place in range(len(models))
    ]


def _in_new_sessions(
    models: Sequence[Path], feeds: Feeds, options: Sequence[SessionOptions], nth: int, budget_s: float
) -> tuple[Numbers, Numbers]:
    """Seconds that it took to open a session of each model, and those of runs in them, a row for each round."""
    loaded = np.zeros((1, len(models)))
    sessions = {}
    for place in turn(len(models), nth // 2, nth):
        start = time.perf_counter()
        sessions[place] = open_session(models[place], replace(options[place], interpret=False))
        loaded[0, place] = time.perf_counter() - start
    calls = [sessions[place].prepare(feeds) for place in range(len(models))]
    load_s = float(loaded.sum())
    share_s = min(max(budget_s / USUAL_SESSIONS, 3 * load_s), budget_s / FEWEST_SESSIONS)
    return loaded, alternate(calls, max(share_s - load_s, load_s / 2), MOST_ROUNDS, session=nth)


def turn(count: int, session: int, nth: int) -> list[int]:
    """Who runs after whom in round `nth`: a rotation in even rounds, the same mirrored in odd ones (abba)."""
    shift = session % count
    order = [*range(shift, count), *range(shift)]
    return order[::-1] if nth % 2 else order


def alternate(
    calls: Sequence[Callable[[], object]],
    budget_s: float,
    most_rounds: int,
    *,
    warm_up: int = WARM_UP,
    session: int = 0,
) -> Numbers:
    """Seconds that calls took in rounds (rows), one right after the other; an even number of rounds, two at least."""
    warm_until, nth = time.perf_counter() + min(budget_s / 10, MOST_WARM_UP_S), 0
    while nth < warm_up or (warm_up and time.perf_counter() < warm_until):
        for place in turn(len(calls), session, nth):
            calls[place]()
        nth += 1
    rounds: list[list[float]] = []
    deadline = time.perf_counter() + budget_s
    while len(rounds) < 2 or len(rounds) % 2 or (len(rounds) < most_rounds and time.perf_counter() < deadline):
        times = [0.0] * len(calls)
        for place in turn(len(calls), session, len(rounds)):
            start = time.perf_counter()
            calls[place]()
            times[place] = time.perf_counter() - start
        rounds.append(times)
    return np.array(rounds)


def ratio(sessions: Sequence[Numbers], place: int = 1, *, seed: int = 0, resamples: int = 1000) -> Ratio:
    """How often the time in column `place` goes into that of the first column, from rounds (rows) in several sessions.

    Rounds in which the first ran before the other have a median, and so have those after: the second may find the
    cache warm. They count the same.
    """
    low, middle, high = _interval(_log_ratios(sessions, place), seed, resamples)
    return Ratio(middle, low, high, sum(len(times) for times in sessions), len(sessions))


def _is_precise(sessions: Sequence[Numbers], precision: float, seed: int) -> bool:
    """Whether the ratios have narrow intervals; of a single model, its time."""
    count = sessions[0].shape[1]
    logs = [_log_ratios(sessions, place) for place in range(1, count)]
    for each in logs or [[np.log(times) for times in sessions]]:
        low, middle, high = _interval(each, seed, resamples=300)
        if high - low > 2 * precision * middle:
            return False
    return True


def _log_ratios(sessions: Sequence[Numbers], place: int) -> list[Numbers]:
    """For each session a row for two rounds: that in which the first model ran before the one in `place` comes first.

    A single round stands for itself.
    """
    found = []
    for nth, times in enumerate(sessions):
        logs = np.log(times[:, 0] / times[:, place])
        paired = logs.reshape(-1, min(2, len(logs)))
        order = turn(times.shape[1], nth, 0)
        found.append(paired if order.index(0) <= order.index(place) else paired[:, ::-1])
    return found


def _interval(logs: Sequence[Numbers], seed: int, resamples: int) -> tuple[float, float, float]:
    """The ratio of these logarithms: the mean of the medians of columns, and the ends of its 95 % interval around it.

    The standard error is that of a seeded bootstrap (Efron 1979) that draws sessions, then rounds in them, since rounds
    of a session resemble each other. Student's t makes up for few sessions, where quantiles of the bootstrap would stop
    at the outermost of them (Hesterberg 2015, "What teachers should know about the bootstrap", section 5).
    """
    pooled = np.concatenate(logs)
    counts = np.array([len(each) for each in logs])
    starts = np.cumsum(counts) - counts
    random = np.random.default_rng(seed)
    drawn = random.integers(len(logs), size=(resamples, len(logs), 1))
    inner = random.random((resamples, len(logs), round(float(counts.mean()))))
    chosen = starts[drawn] + (inner * counts[drawn]).astype(np.int64)
    medians = np.median(pooled[chosen].reshape(resamples, -1, pooled.shape[1]), axis=1).mean(axis=1)
    half = float(np.std(medians)) * _student(len(logs) - 1)
    middle = float(np.median(pooled, axis=0).mean())
    return math.exp(middle - half), math.exp(middle), math.exp(middle + half)


def _student(free: int) -> float:
    """How many standard errors 95 % of Student's t lie within (Abramowitz and Stegun 26.7.5)."""
    if free < 1:
        return Z
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / free + second / free**2 + third / free**3


def bytes_of(model: Path) -> int:
    """The size of a model on disk, its external data included."""
    return sum(file.stat().st_size for file in files_of(model))
