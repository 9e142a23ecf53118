"""What the command prints: tables on standard output, or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from ..passes.engine.registry import REGISTRY
from ..result import Result
from . import words
from .measurements import Row, measured_rows, side_by_side


def print_result(result: Result, *, verbosity: int = 0) -> None:
    """The before/after table on standard output; verbosity 1 adds rewrites by rule, 2 every rewrite and near miss."""
    console = words.console()
    console.print(side_by_side(("before", "after"), ("ratio",), _rows(result)))
    if result.verification is not None:
        console.print(f"verified: {result.verification.summary()}", markup=False)
    else:
        console.print("not verified")
    if verbosity:
        for rule, count in Counter(each.rule for each in result.rewrites).most_common():
            console.print(f"  {count:5d}  {rule}", markup=False)
    if verbosity > 1:
        for entry in (*result.rewrites, *result.refusals):
            console.print(str(entry), markup=False)


def _rows(result: Result) -> Iterator[Row]:
    before, after = result.before, result.after
    yield "nodes", str(before.nodes), str(after.nodes), words.times(after.nodes, before.nodes)
    weights = (before.weight_bytes, after.weight_bytes)
    yield "weights", words.size(weights[0]), words.size(weights[1]), words.times(weights[1], weights[0])
    if result.measurement is not None:
        yield from measured_rows(result.measurement)


def print_passes(plugins: Sequence[str], *, as_json: bool = False) -> None:
    """Presets, passes and rules, with the first line of what each says of itself."""
    for plugin in plugins:
        REGISTRY.plug_in(plugin)
    catalogue = {
        "presets": dict(REGISTRY.presets),
        "passes": {name: (kind.__doc__ or "").splitlines()[0] for name, kind in REGISTRY.passes.items()},
        "rules": {name: f"{each.doc.splitlines()[0]} [{each.group}]" for name, each in REGISTRY.rules.items()},
    }
    if as_json:
        print(json.dumps(catalogue, indent=2))
        return
    console = words.console()
    for title, entries in catalogue.items():
        console.print(f"{title}:", style="bold")
        for name, text in sorted(entries.items()):
            console.print(f"  {name:34s} {text}", markup=False)
