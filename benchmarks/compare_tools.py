"""Side by side: what each tool makes of each model, and how fast ONNX Runtime runs it, its own optimizations on.

    python benchmarks/compare_tools.py MODEL.onnx … --output benchmarks/results/NAME.json

Inputs come from MODEL.inputs.npz beside the model; they are made where there are none, or ONNX Runtime does not accept
them. Ratios are those of paired, interleaved runs on one thread: above 1 means faster than the original. The file is
written after each model, and what it has is not redone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import competitors
import results_io
from optimize_graph import ir, runtime


def compare(
    source: Path, wanted: list[str], peer_python: str, budget_s: float, document: results_io.Record
) -> Iterator[dict[str, Any]]:
    """A row for each tool. Raises ModelError where ONNX Runtime does not run the original."""
    model, options = ir.load(source), document.options
    sample = source.with_suffix(".inputs.npz")
    reference = runtime.open_session(source, replace(options, optimize=False))
    samples = [sample] if sample.exists() and _accepts(reference, runtime.read_feeds(sample, model).feeds) else []
    feeds = runtime.usable_feeds(reference, model, samples)
    for tool in wanted:
        row: dict[str, Any] = {"model": source.stem, "tool": tool, "nodes_before": _nodes(source)}
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / source.name
            started = time.perf_counter()
            problem = competitors.run(tool, source, target, peer_python, document.target)
            row["seconds"] = time.perf_counter() - started
            if problem:
                yield {**row, "verdict": "failed", "problem": problem}
                continue
            verification = runtime.verify(source, target, feeds, options)
            race = runtime.race(source, target, feeds[0].feeds, options, budget_s=budget_s) if verification.ok else None
            yield {
                **row,
                "verdict": "ok" if verification.ok else "wrong",
                "problem": verification.problem,
                "error": verification.error,
                "nodes": _nodes(target),
                **(race.to_json() if race else {}),
            }


def _accepts(session: runtime.Session, feeds: runtime.Feeds) -> bool:
    try:
        session.run(feeds)
    except ir.ModelError:
        return False
    return True


def _nodes(path: Path) -> int:
    return sum(1 for node in ir.nodes(ir.load(path)) if node.op_type != "Constant")


def main() -> None:
    arguments = results_io.parser(__doc__, budget_s=6.0)
    arguments.add_argument("--tools", default=",".join(competitors.names()), help="which of them, with commas")
    arguments.add_argument("--peer-python", default="python", help="the interpreter that the peers are installed for")
    given = arguments.parse_args()
    document = results_io.Record(given)
    known = {(row["model"], row["tool"]) for row in document.rows}
    for source in given.models:
        wanted = [tool for tool in given.tools.split(",") if (source.stem, tool) not in known]
        try:
            for row in compare(source, wanted, given.peer_python, given.budget, document) if wanted else ():
                document.rows.append(row)
                speed = row.get("speed")
                said = f"x{speed['median']:.3f} [{speed['low']:.3f}, {speed['high']:.3f}]" if speed else row["problem"]
                print(f"{source.stem:50} {row['tool']:15} {row['verdict']:7} {said}", flush=True)
        except ir.OptimizeGraphError as error:
            print(f"{source.stem:50} {error}", flush=True)
        document.write()


if __name__ == "__main__":
    main()
