"""What the command prints and writes of a result."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import ir
from .api import Result
from .passes.engine.registry import REGISTRY

SCHEMA = 1
"""Version of the JSON report: raised when a key changes its meaning or goes; new keys may come."""


def print_result(result: Result, *, verbosity: int = 0) -> None:
    """The before/after table on standard output; verbosity 1 adds rewrites by rule, 2 every rewrite and near miss."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in ("before", "after", "ratio"):
        table.add_column(column, justify="right")
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    if result.verification is not None:
        console.print(f"verified: {result.verification.summary()}", markup=False)
    else:
        console.print("not verified")
    if verbosity:
        for rule, count in _by_rule(result).most_common():
            console.print(f"  {count:5d}  {rule}", markup=False)
    if verbosity > 1:
        for entry in (*result.rewrites, *result.refusals):
            console.print(str(entry), markup=False)


def _rows(result: Result) -> Iterator[tuple[str, str, str, str]]:
    before, after = result.before, result.after
    yield "nodes", str(before.nodes), str(after.nodes), _ratio(after.nodes, before.nodes)
    yield (
        "weights",
        _bytes(before.weight_bytes),
        _bytes(after.weight_bytes),
        _ratio(after.weight_bytes, before.weight_bytes),
    )
    if result.measurement is not None:
        yield from result.measurement.rows()


def _ratio(after: float, before: float) -> str:
    return f"x{after / before:.2f}" if before else ""


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def _by_rule(result: Result) -> Counter[str]:
    return Counter(rewrite.rule for rewrite in result.rewrites)


def to_json(result: Result) -> dict[str, object]:
    """The result as a document with stable keys: see docs/report.md."""
    return {
        "schema": SCHEMA,
        "versions": {
            name: found
            for name in ("optimize-graph", "onnx", "onnx-ir", "numpy")
            if (found := _version(name)) is not None
        }
        | {"onnxruntime": _version("onnxruntime-gpu") or _version("onnxruntime"), "python": platform.python_version()},
        "pipeline": result.pipeline,
        "exactness": result.exactness.name.lower(),
        "before": {"nodes": result.before.nodes, "weight_bytes": result.before.weight_bytes},
        "after": {"nodes": result.after.nodes, "weight_bytes": result.after.weight_bytes},
        "rewrites_by_rule": dict(sorted(_by_rule(result).items())),
        "rewrites": [
            {
                "number": each.number,
                "rule": each.rule,
                "where": each.where,
                "before": each.before,
                "after": each.after,
                "exactness": each.exactness.name.lower(),
            }
            for each in result.rewrites
        ],
        "near_misses": [
            {"rule": each.rule, "where": each.where, "condition": each.condition, "because": each.because}
            for each in result.refusals
        ],
        "remarks": [_diagnostic(each) for each in result.remarks],
        "seconds_by_pass": dict(result.seconds),
        "verification": result.verification.to_json() if result.verification is not None else None,
        "measurement": result.measurement.to_json() if result.measurement is not None else None,
    }


def write_json(result: Result, path: Path) -> None:
    """Write `to_json`. Raises MachineError when the file cannot be written."""
    try:
        path.write_text(json.dumps(to_json(result), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ir.MachineError(ir.Diagnostic("report-not-written", f"{path}: {error.strerror}")) from error


def _diagnostic(each: ir.Diagnostic) -> dict[str, str]:
    return {"code": each.code, "severity": each.severity.value, "message": each.message, "where": str(each.where)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def print_passes(plugins: Sequence[str]) -> None:
    """Presets, passes and rules, with the first line of what each says of itself."""
    for plugin in plugins:
        REGISTRY.plug_in(plugin)
    console = Console(highlight=False, soft_wrap=True)
    for title, entries in (
        ("presets", [(name, text) for name, text in REGISTRY.presets.items()]),
        ("passes", [(name, (kind.__doc__ or "").splitlines()[0]) for name, kind in REGISTRY.passes.items()]),
        ("rules", [(name, f"{each.doc.splitlines()[0]} [{each.group}]") for name, each in REGISTRY.rules.items()]),
    ):
        console.print(f"{title}:", style="bold")
        for name, text in sorted(entries):
            console.print(f"  {name:34s} {text}", markup=False)
