"""Thresholds of profit, measured on this machine, as a target file that extends another target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from .. import ir, runtime
from ..options import DEFAULT_TARGET
from ..passes.pipeline.pass_ import Settings
from ..passes.pipeline.pipeline import Pipeline
from ..passes.targets.target import Target
from ..runtime.benchmark.latency import time_models
from .optimization.target_versions import installed_release
from .temporary_folder import workspace

_HEADER = '<ir_version: 10, opset_import: ["": 21]> '


@dataclass(frozen=True)
class Entry:
    """A threshold: the rule that asks for it, and a model at each size. `is_upper`: the rule pays up to it."""

    name: str
    rule: str
    text: str
    sizes: tuple[int, ...]
    parameter: Callable[[int], int] = int
    is_upper: bool = False

    def model(self, size: int) -> ir.Model:
        """A model with one place for the rule, at a size."""
        return ir.from_text(_HEADER + self.text.replace("SIZE", str(self.parameter(size))))


ENTRIES: Final = (
    Entry(
        "softmax-inner",
        "decompose-softmax-outer-axis",
        "g (float[1,19,SIZE,SIZE] x) => (float[1,19,SIZE,SIZE] y) { y = Softmax<axis = 1>(x) }",
        (64, 256, 1024, 4096, 16384),
        lambda elements: round(elements**0.5),
    ),
    Entry(
        "outer-product-width",
        "outer-product-to-matmul",
        "g (float[200,64,1] u, float[200,1,SIZE] v) => (float[200,64,SIZE] y) { y = Mul(u, v) }",
        (4, 16, 32, 64, 128),
        is_upper=True,
    ),
)
"""Those whose rule pays by one size. Others depend on several (the rows of a ScatterElements, Winograd's costs)."""


@dataclass(frozen=True)
class Calibration:
    """What was measured for an entry: how fast the rewrite is at each size, and the threshold; None: it never pays."""

    entry: str
    rule: str
    speeds: Mapping[int, runtime.Ratio]
    threshold: int | None

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {**asdict(self), "speeds": {str(size): asdict(speed) for size, speed in self.speeds.items()}}

    def __str__(self) -> str:
        told = ", ".join(
            f"x{speed.median:.2f} [{speed.low:.2f}, {speed.high:.2f}] at {size}" for size, speed in self.speeds.items()
        )
        return f"{self.rule}: {told}"


def calibrate(
    target: str | Path = DEFAULT_TARGET,
    *,
    threads: int = 1,
    seconds: float = 2.0,
    entries: Sequence[Entry] = ENTRIES,
    progress: Callable[[str], None] = lambda step: None,
) -> list[Calibration]:
    """Measure each entry at its sizes: the model as it is and with the rewrite, in turn, for at most `seconds` each.

    Raises OptionsError for a target that ONNX Runtime's CPU provider does not run.
    """
    base = Target(target, installed_release(), (threads, threads))
    if not base.is_cpu:
        message = f"thresholds are measured for ONNX Runtime's CPU provider, which does not run {base}"
        raise ir.OptionsError(ir.Diagnostic("wrong-target", message))
    how = runtime.SessionOptions(threads=threads)
    found = []
    for entry in entries:
        speeds = dict(_speeds(entry, base, how, seconds, progress))
        found.append(Calibration(entry.name, entry.rule, speeds, chosen(speeds, is_upper=entry.is_upper)))
    return found


def _speeds(
    entry: Entry, base: Target, how: runtime.SessionOptions, seconds: float, progress: Callable[[str], None]
) -> Iterator[tuple[int, runtime.Ratio]]:
    for size in entry.sizes:
        progress(f"{entry.rule} at {size}")
        with workspace() as folder:
            paths = [folder / "before.onnx", folder / "after.onnx"]
            before, after = entry.model(size), rewritten(entry, size, base)
            ir.save(before, paths[0])
            ir.save(after, paths[1])
            session = runtime.open_session(paths[0], replace(how, optimize=False))
            feeds = runtime.usable_feeds(session, before, seed=how.seed)[0].feeds
            yield size, time_models(paths, feeds, how, budget_s=seconds)[1].speed


def rewritten(entry: Entry, size: int, base: Target) -> ir.Model:
    """The model of an entry with the rewrite, whether it is expected to pay or not."""
    model = entry.model(size)
    pipeline = Pipeline.parse(f"rewrite{{rules={entry.rule}}},dce")
    pipeline.run(model, settings=Settings(base, force=frozenset({entry.rule})))
    return model


def chosen(speeds: Mapping[int, runtime.Ratio], *, is_upper: bool) -> int | None:
    """The size up to which, or from which on, all that were measured are faster with confidence; None for no size."""
    best = None
    for size in sorted(speeds, reverse=not is_upper):
        if not speeds[size].is_faster:
            break
        best = size
    return best


def target_text(name: str, base: str | Path, found: Sequence[Calibration], *, threads: int) -> str:
    """A target file with what was measured."""
    never = [each.rule for each in found if each.threshold is None]
    lines = [
        f"# Measured by optimize-graph calibrate on {runtime.device_name()}, ONNX Runtime {installed_release()}, "
        f"threads: {threads}.",
        f'name = "{name}"',
        f'summary = "{base} with thresholds measured on one machine"',
        f'extends = "{base}"',
        "",
        "[profit]",
        *([f"never = [{', '.join(map(repr, never))}]"] if never else []),
    ]
    for each in found:
        lines += [f"# {each}", *([] if each.threshold is None else [f"{each.entry} = {each.threshold}"])]
    return "\n".join(lines) + "\n"
