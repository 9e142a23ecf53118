"""One model at several sizes of its symbolic dims and thread counts: a gain at one must not be a loss at another.

python benchmarks/dim_sweep.py MODEL.onnx --dim batch=1,8 --dim seq=16,128,512 --threads 1,2 --output results/NAME.json
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import results_io
from optimize_graph import Options, ir, optimize, runtime


def measure(
    source: Path,
    sizes: Mapping[str, Sequence[int]],
    threads: Sequence[int],
    budget_s: float,
    document: results_io.Record,
) -> Iterator[dict[str, Any]]:
    """A row for each combination."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / source.name
        optimize(source, target, Options(verify=False, target=document.target))
        for chosen in itertools.product(*sizes.values()):
            dims = dict(zip(sizes, chosen, strict=True))
            model = ir.load(source)
            ir.fix_dims(model, dims)
            feeds = runtime.make_feeds(model)
            for count in threads:
                race = runtime.race(source, target, feeds, replace(document.options, threads=count), budget_s=budget_s)
                speed = race.to_json()["speed"]
                yield {"model": source.stem, "dims": dims, "threads": count, "speed": speed}


def _dim(text: str) -> tuple[str, list[int]]:
    name, _, sizes = text.partition("=")
    return name, [int(size) for size in sizes.split(",")]


def main() -> None:
    arguments = results_io.parser(__doc__, budget_s=3.0)
    arguments.add_argument("--dim", action="append", default=[], type=_dim, metavar="NAME=1,8", help="sizes of a dim")
    arguments.add_argument("--threads", default="1,2", help="thread counts, with commas")
    given = arguments.parse_args()
    document = results_io.Record(given)
    threads = [int(count) for count in given.threads.split(",")]
    for source in given.models:
        for row in measure(source, dict(given.dim), threads, given.budget, document):
            document.rows.append(row)
            speed = row["speed"]
            interval = f"[{speed['low']:.3f}, {speed['high']:.3f}]"
            print(row["model"], row["dims"], f"{row['threads']} threads: x{speed['median']:.3f} {interval}", flush=True)
        document.write()


if __name__ == "__main__":
    main()
