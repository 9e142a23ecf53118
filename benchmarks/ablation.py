"""What each rule brings: a model as the command makes it, against the same made without one of its rules.

    python benchmarks/ablation.py MODEL.onnx … --output benchmarks/results/NAME-ablation.json

Above 1: the model is faster with the rule than without it. Only rules and passes that fired and without
which the result differs are run; passes that clean up (`dce`, `fold`, …) are not, since everything rests on them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from compare import OPTIONS, machine
from optimize_graph import Options, ir, optimize, runtime

FOUNDATIONS = frozenset({"cse", "dce", "dedup", "fold", "inline", "lift-constants", "resolve-if", "unroll-loops"})


def ablate(source: Path, budget_s: float, only: frozenset[str]) -> Iterator[dict[str, object]]:
    """A row for each rule that fired and without which the result is another."""
    sample = source.with_suffix(".inputs.npz")
    options = Options(verify=False)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        made = optimize(source, whole, options)
        reference = runtime.open_session(source, replace(OPTIONS, optimize=False))
        feeds = runtime.usable_feeds(reference, ir.load(source), [sample] if sample.exists() else [])[0].feeds
        fired = dict.fromkeys(rewrite.rule for rewrite in made.rewrites)
        for rule in fired:
            if rule in FOUNDATIONS or (only and rule not in only):
                continue
            without = Path(folder) / "without.onnx"
            less = optimize(source, without, replace(options, disable=(rule,)))
            if without.read_bytes() == whole.read_bytes():
                continue
            race = runtime.race(without, whole, feeds, OPTIONS, budget_s=budget_s)
            times = sum(rewrite.rule == rule for rewrite in made.rewrites)
            yield {
                "model": source.stem,
                "rule": rule,
                "times": times,
                "nodes_saved": less.after.nodes - made.after.nodes,
            } | {"speed": race.to_json()["speed"]}


def by_rule(rows: list[dict[str, object]]) -> list[tuple[str, int, float, float, float]]:
    """Rule, models, geometric mean, worst and best ratio; the dearest first."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        speed = row["speed"]
        assert isinstance(speed, dict)
        found[str(row["rule"])].append(float(speed["median"]))
    table = [
        (rule, len(each), math.exp(sum(map(math.log, each)) / len(each)), min(each), max(each))
        for rule, each in found.items()
    ]
    return sorted(table, key=lambda line: line[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rules", default="", help="only these, with commas")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of measuring for each rule and model")
    parser.add_argument("--cpu", type=int, help="run on this core alone")
    given = parser.parse_args()
    if given.cpu is not None:
        os.sched_setaffinity(0, {given.cpu})
    document = json.loads(given.output.read_text()) if given.output.exists() else {"rows": []}
    document["machine"] = machine()
    done = {row["model"] for row in document["rows"]}
    only = frozenset(filter(None, given.rules.split(",")))
    for source in given.models:
        if source.stem in done:
            continue
        try:
            document["rows"] += ablate(source, given.budget, only)
        except ir.OptimizeGraphError as error:
            print(f"{source.stem}: {error}", flush=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")
        print(source.stem, flush=True)
    print(f"\n{'rule':45} models   mean   worst    best")
    for rule, count, mean, worst, best in by_rule(document["rows"]):
        print(f"{rule:45} {count:6} x{mean:.3f}  x{worst:.3f}  x{best:.3f}")


if __name__ == "__main__":
    main()
