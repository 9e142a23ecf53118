"""Whether the peak memory that is reported is what the operating system says of the same process.

    python benchmarks/check_peak_memory.py MODEL.onnx …

The other reading is `ru_maxrss`, as `wait4` gives it to the parent; a small process stands in between, since the figure
starts at what the process held that forked. Fails where the two are more than 5 % apart. Inputs as in
`compare_tools.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from optimize_graph import ir, runtime
from optimize_graph.runtime.benchmark import peak_memory

WATCHER = (
    "import os, sys; pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); print(os.wait4(pid, 0)[2].ru_maxrss)"
)
UNIT = 1 if sys.platform == "darwin" else 1024


def readings(source: Path) -> tuple[int, int]:
    """What the process says of itself, and what the operating system says of it."""
    sample = source.with_suffix(".inputs.npz")
    model = ir.load(source)
    feeds = runtime.read_feeds(sample, model).feeds if sample.exists() else runtime.make_feeds(model)
    with tempfile.TemporaryDirectory() as folder:
        child = peak_memory.command(source, feeds, runtime.SessionOptions(), Path(folder))
        line = [sys.executable, "-I", "-S", "-c", WATCHER, *child]
        said, seen = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(json.loads(said)["run"]), int(seen) * UNIT


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", type=Path)
    worst = 0.0
    for source in arguments.parse_args().models:
        own, system = readings(source)
        worst = max(worst, abs(own / system - 1))
        print(f"{source.stem:40} {own / 2**20:8.1f} MiB, system {system / 2**20:8.1f} MiB, x{own / system:.4f}")
    sys.exit(worst > 0.05)


if __name__ == "__main__":
    main()
