"""What each rule brings: a model as the command makes it, against the same made without one of its rules.

    python benchmarks/ablation.py MODEL.onnx … --output benchmarks/results/NAME-ablation.json

Above 1: the model is faster with the rule than without it. Only rules and passes that fired and without
which the result differs are run; passes that clean up (`dce`, `fold`, …) are not, since everything rests on them.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import results_io
from optimize_graph import Options, ir, optimize, runtime

FOUNDATIONS = frozenset(
    {
        "cse",
        "dce",
        "dedup-initializers",
        "constant-fold",
        "inline-functions",
        "lift-constants",
        "fold-constant-if",
        "unroll-loops",
    }
)


def ablate(
    source: Path, budget_s: float, only: frozenset[str], document: results_io.Record
) -> Iterator[dict[str, Any]]:
    """A row for each rule that fired and without which the result is another."""
    sample = source.with_suffix(".inputs.npz")
    options = Options(verify=False, target=document.target)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        made = optimize(source, whole, options)
        reference = runtime.open_session(source, replace(document.options, optimize=False))
        feeds = runtime.usable_feeds(reference, ir.load(source), [sample] if sample.exists() else [])[0].feeds
        fired = dict.fromkeys(rewrite.rule for rewrite in made.rewrites)
        for rule in fired:
            if rule in FOUNDATIONS or (only and rule not in only):
                continue
            exclusions = Path(folder) / "without.onnx"
            less = optimize(source, exclusions, replace(options, disable=(rule,)))
            if exclusions.read_bytes() == whole.read_bytes():
                continue
            race = runtime.race(exclusions, whole, feeds, document.options, budget_s=budget_s)
            times = sum(rewrite.rule == rule for rewrite in made.rewrites)
            yield {
                "model": source.stem,
                "rule": rule,
                "times": times,
                "nodes_saved": less.after.nodes - made.after.nodes,
            } | {"speed": race.to_json()["speed"]}


def by_rule(rows: list[dict[str, Any]]) -> list[tuple[str, int, float, float, float]]:
    """Rule, models, geometric mean, worst and best ratio; the dearest first."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[row["rule"]].append(row["speed"]["median"])
    table = [
        (rule, len(each), math.exp(sum(map(math.log, each)) / len(each)), min(each), max(each))
        for rule, each in found.items()
    ]
    return sorted(table, key=lambda line: line[2])


def main() -> None:
    arguments = results_io.parser(__doc__, budget_s=3.0)
    arguments.add_argument("--rules", default="", help="only these, with commas")
    given = arguments.parse_args()
    document = results_io.Record(given)
    done = {row["model"] for row in document.rows}
    only = frozenset(filter(None, given.rules.split(",")))
    for source in given.models:
        if source.stem in done:
            continue
        try:
            document.rows.extend(ablate(source, given.budget, only, document))
        except ir.OptimizeGraphError as error:
            print(f"{source.stem}: {error}", flush=True)
        document.write()
        print(source.stem, flush=True)
    print(f"\n{'rule':45} models   mean   worst    best")
    for rule, count, mean, worst, best in by_rule(document.rows):
        print(f"{rule:45} {count:6} x{mean:.3f}  x{worst:.3f}  x{best:.3f}")


if __name__ == "__main__":
    main()
