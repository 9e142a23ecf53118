"""Where the time goes: ONNX Runtime's own profiler, by operator and by node.

The operators are those that ONNX Runtime runs, after its own optimizations: `FusedConv` and `ReorderInput` are in no
model. Times are self times: a Loop's is without what runs in its body. The profiler costs a microsecond or so for each
node, so the total is no latency. On CUDA it sees how long the processor took to launch a kernel, not how long that ran.
"""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ... import ir
from ..ort.session import open_session
from ..ort.session_options import Feeds, SessionOptions

WARM_UP = 2
KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Spent:
    """The time of an operator type, or of one node: the median over runs, and its share of a run."""

    name: str
    operator: str
    provider: str
    calls: int
    microseconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes. `operators` and `nodes`: the longest first. `microseconds`: of a whole run."""

    microseconds: float
    runs: int
    operators: tuple[Spent, ...]
    nodes: tuple[Spent, ...]

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Kernel:
    """One call of a kernel: which run it was in, and its time without that of kernels inside."""

    run: int
    node: str
    operator: str
    provider: str
    microseconds: int


def profile(model: Path | bytes, feeds: Feeds, options: SessionOptions | None = None, *, runs: int = 10) -> Profile:
    """Run `model` some times under ONNX Runtime's profiler. Raises ModelError when it does not run."""
    with tempfile.TemporaryDirectory(prefix="optimize-graph-") as folder:
        how = replace(options or SessionOptions(), interpret=False)
        session = open_session(model, how, profile_to=Path(folder) / "profile")
        call = session.prepare(feeds)
        try:
            for _ in range(WARM_UP + runs):
                call()
        finally:
            written = session.end_profiling()
        return summarize(json.loads(written.read_text(encoding="utf-8")), skip=WARM_UP)


def summarize(events: Iterable[Mapping[str, Any]], *, skip: int = 0) -> Profile:
    """The profile in what ONNX Runtime wrote; the first `skip` runs are left out."""
    spans = [event for event in events if event.get("ph") == "X"]
    runs = sorted((event for event in spans if event["name"] == "model_run"), key=_start)[skip:]
    if not runs:
        raise ir.EnvironmentSetupError(ir.Diagnostic("nothing-profiled", "ONNX Runtime's profiler wrote no whole run"))
    kernels = [event for event in spans if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    found = _self_times(kernels, runs)
    whole = float(median(event["dur"] for event in runs))
    by_operator = _spent(found, len(runs), lambda kernel: (kernel.operator, kernel.operator, kernel.provider))
    by_node = _spent(found, len(runs), lambda kernel: (kernel.node, kernel.operator, kernel.provider))
    return Profile(whole, len(runs), by_operator, by_node)


def _start(event: Mapping[str, Any]) -> tuple[int, int]:
    """In the order of time; what holds others comes before them."""
    return event["ts"], -event["dur"]


def _self_times(events: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> list[Kernel]:
    """The kernels within `runs`. What started later in the same thread and before another's end ran inside of that."""
    found: list[Kernel] = []
    own = [int(event["dur"]) for event in events]
    order = sorted(range(len(events)), key=lambda index: _start(events[index]))
    open_ones: dict[int, list[int]] = defaultdict(list)
    for index in order:
        event = events[index]
        holders = open_ones[event["tid"]]
        while holders and events[holders[-1]]["ts"] + events[holders[-1]]["dur"] <= event["ts"]:
            holders.pop()
        if holders:
            own[holders[-1]] -= int(event["dur"])
        holders.append(index)
    starts = [run["ts"] for run in runs]
    for index in order:
        event = events[index]
        nth = bisect_right(starts, event["ts"]) - 1
        if nth < 0 or event["ts"] > starts[nth] + runs[nth]["dur"]:
            continue
        name, arguments = event["name"].removesuffix(KERNEL), event["args"]
        provider = str(arguments.get("provider", "")).removesuffix("ExecutionProvider")
        found.append(Kernel(nth, name, arguments["op_name"], provider, max(own[index], 0)))
    return found


def _spent(kernels: Iterable[Kernel], runs: int, key: Callable[[Kernel], tuple[str, str, str]]) -> tuple[Spent, ...]:
    times: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0] * runs)
    calls: Counter[tuple[str, str, str]] = Counter()
    for kernel in kernels:
        times[key(kernel)][kernel.run] += kernel.microseconds
        calls[key(kernel)] += 1
    medians = {each: float(median(spent)) for each, spent in times.items()}
    total = sum(medians.values()) or 1.0
    rows = [Spent(*each, round(calls[each] / runs), spent, spent / total) for each, spent in medians.items()]
    return tuple(sorted(rows, key=lambda row: (-row.microseconds, row.name)))
