"""How fast, side by side: paired and interleaved runs, since two runs minutes apart compare the machine's mood."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..ir.extract import files_of
from .options import Feeds, SessionOptions
from .session import open_session

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Latency:
    """Quartiles of the time of one run, in milliseconds."""

    median_ms: float
    lower_ms: float
    upper_ms: float

    @classmethod
    def of(cls, seconds: Numbers) -> Latency:
        lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)) * 1e3
        return cls(float(median), float(lower), float(upper))


@dataclass(frozen=True)
class Ratio:
    """Before over after: above 1 means faster. The median over pairs, and its 95 % confidence interval."""

    median: float
    low: float
    high: float
    pairs: int

    @property
    def is_faster(self) -> bool:
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        return self.high < 1


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
    loads: int = 5,
    most_pairs: int = 1000,
    seed: int = 0,
) -> Race:
    """Measure two models on `feeds`; about a third of the budget goes into loading, at least three pairs are run.

    Raises ModelError when one of them does not run.
    """
    options = options or SessionOptions()
    files = {before: bytes_of(before), after: bytes_of(after)}
    one, two = open_session(before, options), open_session(after, options)
    loading = alternate(
        lambda: open_session(before, options), lambda: open_session(after, options), budget_s / 3, loads, warm_up=0
    )
    running = alternate(one.prepare(feeds), two.prepare(feeds), budget_s * 2 / 3, most_pairs)
    return Race(
        before=Latency.of(running[0]),
        after=Latency.of(running[1]),
        speed=ratio(*running, seed=seed),
        load_before=Latency.of(loading[0]),
        load_after=Latency.of(loading[1]),
        load=ratio(*loading, seed=seed),
        bytes_before=files[before],
        bytes_after=files[after],
    )


def alternate(
    first: Callable[[], object],
    second: Callable[[], object],
    budget_s: float,
    most_pairs: int,
    *,
    warm_up: int = 3,
) -> tuple[Numbers, Numbers]:
    """Seconds that each of two calls took in pairs, one right after the other; who begins changes with every pair."""
    for _ in range(warm_up):
        first()
        second()
    times: tuple[list[float], list[float]] = ([], [])
    deadline = time.perf_counter() + budget_s
    while len(times[0]) < min(3, most_pairs) or (len(times[0]) < most_pairs and time.perf_counter() < deadline):
        order = ((0, first), (1, second)) if len(times[0]) % 2 == 0 else ((1, second), (0, first))
        for place, call in order:
            start = time.perf_counter()
            call()
            times[place].append(time.perf_counter() - start)
    return np.array(times[0]), np.array(times[1])


def ratio(before: Numbers, after: Numbers, *, seed: int = 0, resamples: int = 1000) -> Ratio:
    """The median of the pairs' ratios and its percentile bootstrap interval (Efron 1979), seeded."""
    ratios = before / after
    random = np.random.default_rng(seed)
    medians = [float(np.median(random.choice(ratios, ratios.size))) for _ in range(resamples)]
    low, high = np.quantile(medians, (0.025, 0.975))
    return Ratio(float(np.median(ratios)), float(low), float(high), int(ratios.size))


def bytes_of(model: Path) -> int:
    """The size of a model on disk, its external data included."""
    return sum(file.stat().st_size for file in files_of(model))
