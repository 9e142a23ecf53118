"""What was gained: latency, load time, file size and peak memory, before and after, in one document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .measure import Latency, Race, Ratio, race
from .memory import Peak, peak_memory
from .options import Feeds, SessionOptions


@dataclass(frozen=True)
class Measurement:
    """Two models side by side, with how they were run. Memory is the resident peak of a fresh process each."""

    race: Race
    memory_before: Peak
    memory_after: Peak
    options: SessionOptions

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Lines of a table: what, before, after, and the ratio with its interval where there is one."""
        timed = self.race
        yield "latency", _ms(timed.before), _ms(timed.after), _interval(timed.speed)
        yield "load", _ms(timed.load_before), _ms(timed.load_after), _interval(timed.load)
        sizes = (timed.bytes_before, timed.bytes_after)
        yield "file", _mib(sizes[0]), _mib(sizes[1]), f"x{sizes[1] / max(1, sizes[0]):.2f}"
        peaks = (self.memory_before.run, self.memory_after.run)
        yield "peak memory", _mib(peaks[0]), _mib(peaks[1]), f"x{peaks[1] / max(1, peaks[0]):.2f}"

    def to_json(self) -> dict[str, object]:
        return {
            **self.race.to_json(),
            "memory_before": asdict(self.memory_before),
            "memory_after": asdict(self.memory_after),
            "options": self.options.to_json(),
        }


def take_measurement(
    before: Path, after: Path, feeds: Feeds, options: SessionOptions, *, budget_s: float, seed: int = 0
) -> Measurement:
    """Measure two models on `feeds`. Raises ModelError when one of them does not run."""
    timed = race(before, after, feeds, options, budget_s=budget_s, seed=seed)
    return Measurement(timed, peak_memory(before, feeds, options), peak_memory(after, feeds, options), options)


def _ms(latency: Latency) -> str:
    return f"{latency.median_ms:.3g} ms"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _interval(ratio: Ratio) -> str:
    return f"x{ratio.median:.2f} faster [{ratio.low:.2f}, {ratio.high:.2f}]"
