"""How two models differ, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ...jobs.compare import Comparison, OutputGap
from .. import formatting


def print_comparison(found: Comparison, first: str, second: str) -> None:
    """On standard output: structure, outputs, interface, and the verdict."""
    console = formatting.console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column(first, justify="right")
    table.add_column(second, justify="right")
    for row in _structure(found):
        table.add_row(*map(Text, row))
    console.print(table)
    for gap in found.outputs:
        console.print(f"output {gap.name}: {_said(gap)}", markup=False)
    for text in found.interface:
        console.print(f"interface: {text}", markup=False)
    console.print(f"numbers: {found.verification.summary()}", markup=False)
    console.print("the models agree" if found.agrees else "the models differ")


def _structure(found: Comparison) -> Iterator[tuple[str, ...]]:
    yield ("nodes", *map(str, found.nodes))
    yield ("weights", *map(formatting.size, found.weight_bytes))
    yield ("weight tensors", *map(str, found.weight_tensors))
    for domain, versions in found.opsets.items():
        yield (f"opset of {domain}", *(str(version) if version else "" for version in versions))
    for name, counts in found.operators.items():
        yield (name, *map(str, counts))


def _said(gap: OutputGap) -> str:
    if gap.equal:
        return "equal bit for bit"
    return gap.problem or f"worst {gap.worst}"
