"""Targets: those that have a name, and what is wrong with a target file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from ... import ir
from ...passes.targets.kernel_table import operators_of
from ...passes.targets.target_file import TargetFile, checked, find, locations
from .. import formatting


def print_targets(*, as_json: bool = False) -> None:
    """The targets with a name: where they come from, what they run and how results are verified."""
    found = {}
    for name in locations():
        try:
            found[name] = row(find(name))
        except ir.OptionsError as error:  # of a package: the others can be used
            found[name] = {"error": error.diagnostic.message}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(box=None)
    for heading in ("target", "from", "operators", "verified by", ""):
        table.add_column(heading, overflow="fold")
    for name, each in found.items():
        cells = (str(each.get(key, "")) for key in ("from", "operators", "verified by"))
        table.add_row(name, *cells, str(each.get("error") or each["summary"]))
    formatting.console().print(table)


def row(file: TargetFile) -> dict[str, object]:
    """What is told of a target."""
    return {
        "from": file.origin,
        "operators": len(operators_of(file)) or "any",
        "verified by": file.verified_by(),
        "summary": file.summary,
    }


def print_check(path: Path, *, as_json: bool = False) -> bool:
    """What is wrong with a target file; whether anything is."""
    _, found = checked(path)
    if not found:
        try:
            find(path)
        except ir.OptionsError as error:  # in what it extends
            found = [error.diagnostic]
    if as_json:
        print(json.dumps({"file": str(path), "diagnostics": [asdict(each) for each in found]}, indent=2))
        return bool(found)
    console = formatting.console()
    for each in found:
        console.print(str(each), markup=False, soft_wrap=True)
    if not found:
        file = find(path)
        told = ", ".join(f"{key}: {value}" for key, value in row(file).items() if value)
        console.print(f"{path}: nothing is wrong with it ({told})", markup=False, soft_wrap=True)
    return bool(found)
