"""Measuring models side by side: how fast, how large, in how much memory, at one or several sizes of their dims."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .. import ir, runtime
from ..passes.analyses import ModelStats, model_stats
from ..runtime.benchmark.latency import Timing

TRYING_S = 60.0  # how long inputs are looked for


@dataclass(frozen=True)
class Subject:
    """One of the models: its file, and what is in it."""

    path: Path
    model: ir.Model


@dataclass(frozen=True)
class Standing:
    """One model at one point. The ratios in `timing` are those of the first model's time over this one's."""

    timing: Timing
    memory: runtime.Peak
    model_stats: ModelStats

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {
            "latency": asdict(self.timing.run),
            "load": asdict(self.timing.load),
            "speed": asdict(self.timing.speed),
            "load_speed": asdict(self.timing.load_speed),
            "memory": self.memory.to_json(),
            "model_stats": figures_json(self.model_stats),
        }


@dataclass(frozen=True)
class Point:
    """All models on the same inputs: how these were made, and the sizes that the symbols of the first model took."""

    description: str
    sizes: Mapping[str, int]
    standings: tuple[Standing, ...]

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {
            "inputs": self.description,
            "sizes": dict(self.sizes),
            "models": [each.to_json() for each in self.standings],
        }


@dataclass(frozen=True)
class Measurement:
    """Models side by side, the first of them the reference, and how they were run.

    Memory is the resident peak of a fresh process each.
    """

    files: tuple[int, ...]
    """Bytes on disk, external data included."""
    points: tuple[Point, ...]
    options: runtime.SessionOptions

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {
            "file_bytes": list(self.files),
            "points": [point.to_json() for point in self.points],
            "options": self.options.to_json(),
        }

    def pair_to_json(self) -> dict[str, object]:
        """Two models as before and after, with the keys of the JSON report; without points, they are the first's."""
        before, after = self.points[0].standings
        return {
            "before": asdict(before.timing.run),
            "after": asdict(after.timing.run),
            "speed": asdict(after.timing.speed),
            "load_before": asdict(before.timing.load),
            "load_after": asdict(after.timing.load),
            "load": asdict(after.timing.load_speed),
            "bytes_before": self.files[0],
            "bytes_after": self.files[1],
            "memory_before": before.memory.to_json(),
            "memory_after": after.memory.to_json(),
            "model_stats_before": figures_json(before.model_stats),
            "model_stats_after": figures_json(after.model_stats),
            "points": [point.to_json() for point in self.points],
            "options": self.options.to_json(),
        }


def figures_json(found: ModelStats) -> dict[str, object]:
    """The totals: what each operator type takes is for `inspect`."""
    return {name: each for name, each in found.to_json().items() if name != "operators"}


def measure(
    models: Sequence[str | Path],
    *,
    at: Sequence[Mapping[str, int]] = (),
    inputs: Sequence[Path] = (),
    options: runtime.SessionOptions | None = None,
    seconds: float = 6.0,
    follow_symlinks: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Measurement:
    """Measure models side by side; the first is the reference, and what is made for it is given to all.

    A point for each file of `inputs` and for each of `at` (sizes of symbolic dims); with neither, one of made inputs.
    `seconds`: the most time for each point's pairs; fewer when the intervals are narrow before.
    Raises ModelError when a model does not load or run.
    """
    options = options or runtime.SessionOptions()
    progress("load")
    subjects = [Subject(path, ir.load(path, follow_symlinks=follow_symlinks)) for path in map(Path, models)]
    progress("inputs")
    sets = point_feeds(subjects[0], at=at, inputs=inputs, options=options)
    return measure_on(sets, subjects, options, seconds=seconds, progress=progress)


def measure_on(
    sets: Sequence[runtime.FeedSet],
    subjects: Sequence[Subject],
    options: runtime.SessionOptions,
    *,
    seconds: float,
    progress: Callable[[str], None] = lambda step: None,
) -> Measurement:
    """Measure on these inputs, a point for each."""
    paths = [subject.path for subject in subjects]
    points = []
    for feed_set in sets:
        progress(f"measure: {feed_set.description}")
        timings = runtime.time_models(paths, feed_set.feeds, options, budget_s=seconds, seed=options.seed)
        standings = [
            Standing(
                timing,
                runtime.peak_memory(subject.path, feed_set.feeds, options),
                model_stats(subject.model, inputs=shapes_of(feed_set.feeds)),
            )
            for timing, subject in zip(timings, subjects, strict=True)
        ]
        points.append(Point(feed_set.description, standings[0].model_stats.bindings, tuple(standings)))
    return Measurement(tuple(map(runtime.bytes_of, paths)), tuple(points), options)


def point_feeds(
    subject: Subject,
    *,
    at: Sequence[Mapping[str, int]] = (),
    inputs: Sequence[Path] = (),
    options: runtime.SessionOptions,
) -> list[runtime.FeedSet]:
    """Inputs that the model runs, a set for each point: see `measure`."""
    until = time.monotonic() + TRYING_S
    session = runtime.open_session(subject.path, replace(options, optimize=False))
    found = [runtime.read_feeds(path, subject.model) for path in inputs]
    for sizes in at or ([] if found else [{}]):
        model = subject.model.clone() if sizes else subject.model
        ir.fix_dims(model, sizes)
        (made,) = runtime.usable_feeds(
            session,
            model,
            count=1,
            seed=options.seed,
            options=runtime.TrialOptions(first=runtime.TYPICAL, until=until),
        )
        told = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        found.append(replace(made, description=f"{made.description} at {told}") if told else made)
    return found


def shapes_of(feeds: runtime.Feeds) -> dict[str, tuple[int, ...]]:
    """The dims of the tensors among inputs."""
    return dict(_shapes(feeds))


def _shapes(feeds: runtime.Feeds) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, datum in feeds.items():
        shape = getattr(datum, "shape", None)
        if shape is not None:
            yield name, tuple(int(size) for size in shape)
