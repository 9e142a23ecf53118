"""Whether the 95 % intervals are worth their name: a model against itself, again and again.

    python benchmarks/interval_coverage.py MODEL.onnx … [--times 100] [--budget 0.5]

The true ratio is 1. Prints how many intervals hold it, and fails below nine of ten.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from optimize_graph import ir, runtime


def covered(source: Path, times: int, budget_s: float) -> tuple[int, float]:
    """How many intervals hold 1, and the median of half their width."""
    sample = source.with_suffix(".inputs.npz")
    model = ir.load(source)
    feeds = (runtime.read_feeds(sample, model).feeds) if sample.exists() else runtime.make_feeds(model)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / source.name
        shutil.copyfile(source, copy)
        ratios = [runtime.race(source, copy, feeds, budget_s=budget_s, seed=nth).speed for nth in range(times)]
    return sum(each.low <= 1 <= each.high for each in ratios), statistics.median(each.half_width for each in ratios)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", type=Path)
    arguments.add_argument("--times", type=int, default=100)
    arguments.add_argument("--budget", type=float, default=0.5, help="seconds for each")
    given = arguments.parse_args()
    worst = 1.0
    for source in given.models:
        held, half_width = covered(source, given.times, given.budget)
        worst = min(worst, held / given.times)
        print(f"{source.stem:40} {held} of {given.times} intervals hold 1, half-width {half_width:.2%}", flush=True)
    sys.exit(worst < 0.9)


if __name__ == "__main__":
    main()
