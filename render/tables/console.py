"""What the command prints: tables on standard output, or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from ...jobs.bisect import BisectResult
from ...jobs.explain import Explanation
from ...jobs.optimization.result import Result
from ...passes.registry import REGISTRY
from .. import formatting
from .measurements import Row, measured_rows, side_by_side


def print_result(result: Result, *, verbosity: int = 0) -> None:
    """The before/after table on standard output; verbosity 1 adds rewrites by rule, 2 all and missed ones."""
    console = formatting.console()
    console.print(side_by_side(("before", "after"), ("ratio",), result_rows(result)))
    if result.partitions is not None:
        for when, each in zip(("before", "after"), result.partitions, strict=True):
            console.print(f"{when}: {each}", markup=False)
    verification = result.verification
    console.print("not verified" if verification is None else f"verified: {verification.summary()}", markup=False)
    for gate in result.gates:
        console.print(f"{'passed' if gate.passed else 'missed'}: {gate}", markup=False)
    if result.tuning is not None:
        console.print(f"tuned: {result.tuning.summary()}", markup=False)
        if verbosity:
            for trial in result.tuning.trials:
                console.print(f"  {trial}", markup=False)
    if verbosity:
        for rule, count in Counter(each.rule for each in result.rewrites).most_common():
            console.print(f"  {count:5d}  {rule}", markup=False)
    if verbosity > 1:
        for entry in (*(each.trace for each in result.isolated if each.trace), *result.rewrites, *result.missed):
            console.print(str(entry), markup=False)


def print_uses(result: Result, *, seconds: bool) -> None:
    """How often passes ran and rules fired, on standard error; with `seconds`, those that took longest first."""
    misses = Counter(each.rule for each in result.missed)
    passes = [(name, [use.runs, use.changed, use.rewrites], use.seconds) for name, use in result.passes.items()]
    rules = [(name, [use.tried, use.fired, misses[name]], use.seconds) for name, use in result.rules.items()]
    tables = (("pass", ("runs", "changed", "rewrites"), passes), ("rule", ("tried", "fired", "missed"), rules))
    for title, columns, entries in tables:
        table = Table(title, box=None, pad_edge=False)
        for column in (*columns, *(["seconds"] if seconds else [])):
            table.add_column(column, justify="right")
        order = sorted(entries, key=lambda entry: -entry[2] if seconds else 0.0)
        for name, counts, taken in order:
            table.add_row(name, *map(str, counts), *([f"{taken:.3f}"] if seconds else []))
        formatting.console(stderr=True).print(table)


def result_rows(result: Result) -> Iterator[Row]:
    """What changed: a row for each figure."""
    before, after = result.before, result.after
    yield "nodes", str(before.nodes), str(after.nodes), formatting.times(after.nodes, before.nodes)
    weights = (before.weight_bytes, after.weight_bytes)
    yield "weights", formatting.size(weights[0]), formatting.size(weights[1]), formatting.times(weights[1], weights[0])
    if result.partitions is not None:
        pieces = [each.count for each in result.partitions]
        yield "partitions", *map(str, pieces), formatting.times(pieces[1], pieces[0])
    if result.measurement is not None:
        yield from measured_rows(result.measurement)


def print_passes(plugins: Sequence[str], *, as_json: bool = False) -> None:
    """Presets, passes and rules, with the first line of what each says of itself."""
    with REGISTRY.using(plugins):
        catalogue = {
            "presets": dict(REGISTRY.presets),
            "passes": {name: (kind.__doc__ or "").splitlines()[0] for name, kind in REGISTRY.passes.items()},
            "rules": {name: f"{each.doc.splitlines()[0]} [{each.phase}]" for name, each in REGISTRY.rules.items()},
        }
    if as_json:
        print(json.dumps(catalogue, indent=2))
        return
    console = formatting.console()
    for title, entries in catalogue.items():
        console.print(f"{title}:", style="bold")
        for name, text in sorted(entries.items()):
            console.print(f"  {name:34s} {text}", markup=False)


def print_explanation(found: Explanation, *, as_json: bool = False) -> None:
    """Where a rule fired, where a condition did not hold, and where its pattern stops matching."""
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    console = formatting.console()
    console.print(f"{found.rule}: {found.doc.splitlines()[0] if found.doc else ''}", markup=False, style="bold")
    if not found.ran:
        console.print("no pass of this pipeline runs it")
    console.print(f"done at {len(found.rewrites)} places")
    for rewrite in found.rewrites:
        console.print(f"  {rewrite.where}: {rewrite.before} -> {rewrite.after}", markup=False)
    console.print(f"missed at {len(found.missed)} values, where the pattern matches")
    for miss in found.missed:
        console.print(f"  {miss.where}: requires {miss.condition}: {miss.because}", markup=False)
    console.print(f"no pattern at {len(found.mismatches)} places, the nearest first")
    for mismatch in found.mismatches:
        console.print(f"  {mismatch.where}: {mismatch.calls} operators fit; {mismatch.because}", markup=False)


def print_finding(found: BisectResult, *, as_json: bool = False) -> None:
    """The first rewrite that goes wrong."""
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    console = formatting.console()
    if found.rewrite is None:
        console.print(f"nothing goes wrong in {found.rewrites} rewrites")
    else:
        console.print(f"{found.rewrite}\n{found.why} (after {found.rewrite.number} of {found.rewrites})", markup=False)


def print_reduction(output: Path, before: int, after: int, *, as_json: bool = False) -> None:
    """How far a model was cut down."""
    if as_json:
        print(json.dumps({"output": str(output), "nodes_before": before, "nodes_after": after}))
    else:
        print(f"{before} -> {after} nodes: {output}, its inputs: {output.with_suffix('.npz')}")
