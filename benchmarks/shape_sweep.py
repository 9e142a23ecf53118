"""Rules over a grid of shapes: the default command's result against the one without the rule.

    python benchmarks/shape_sweep.py --output benchmarks/results/NAME-shapes.json

A row for each rule that fires at a shape. What is slower in a short measurement is measured for longer. The table gives
the worst ratio of each rule, and where: none may be under 0.97 beyond its interval.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import results_io
import sweep_cases
from ablation import FOUNDATIONS
from optimize_graph import Options, ir, optimize, runtime

SUSPECT = 0.985
LONGER = 10
"""Times the budget with which a ratio under `SUSPECT` is measured again."""


def measure(case: sweep_cases.Case, budget_s: float, document: results_io.Record) -> Iterator[dict[str, Any]]:
    """A row for each rule that fires and without which the result is another."""
    options = Options(verify=False, target=document.target)
    with tempfile.TemporaryDirectory() as folder:
        source, exclusions, whole = (Path(folder) / name for name in ("in.onnx", "without.onnx", "out.onnx"))
        onnx.save(case.model(), source)
        result = optimize(source, whole, options)
        model = ir.load(source)
        ir.fix_dims(model, case.sizes)
        feeds = runtime.make_feeds(model)
        for rule in dict.fromkeys(rewrite.rule for rewrite in result.rewrites):
            if rule in FOUNDATIONS:
                continue
            optimize(source, exclusions, replace(options, disable=(rule,)))
            if exclusions.read_bytes() == whole.read_bytes():
                continue
            for seconds in (budget_s, LONGER * budget_s):
                speed = runtime.race(exclusions, whole, feeds, document.options, budget_s=seconds).speed
                if speed.median >= SUSPECT:
                    break
            yield {"rule": rule, "median": speed.median, "low": speed.low, "high": speed.high}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: each rule, at how many shapes it fired, its worst, median and best ratio."""
    fired: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for each in row["rules"]:
            fired[each["rule"]].append(each | {"where": f"{row['subject']} {row['shape']}"})
    lines = ["| rule | shapes | worst [95 %] | where | median | best |", "|---|---|---|---|---|---|"]
    for rule in sorted(fired):
        ordered = sorted(fired[rule], key=lambda each: float(each["median"]))
        worst, middle, best = ordered[0], ordered[len(ordered) // 2], ordered[-1]
        lines.append(
            f"| {rule} | {len(ordered)} | {worst['median']:.2f} [{worst['low']:.2f}, {worst['high']:.2f}] "
            f"| {worst['where']} | {middle['median']:.2f} | {best['median']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = results_io.parser(__doc__, budget_s=0.3, models=False)
    arguments.add_argument("--subjects", default="", help="only these, with commas")
    given = arguments.parse_args()
    document = results_io.Record(given)
    only = frozenset(filter(None, given.subjects.split(",")))
    done = {(row["subject"], row["shape"]) for row in document.rows}
    for case in sweep_cases.cases():
        if (case.subject, case.shape) in done or (only and case.subject not in only):
            continue
        rules = list(measure(case, given.budget, document))
        document.rows.append({"subject": case.subject, "shape": case.shape, "rules": rules})
        for each in rules:
            interval = f"[{each['low']:.3f}, {each['high']:.3f}]"
            print(f"{case.subject:40} {case.shape:16} {each['rule']:40} x{each['median']:.3f} {interval}", flush=True)
        document.write()
    print(table(document.rows))


if __name__ == "__main__":
    main()
