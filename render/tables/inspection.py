"""What is in a model, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ...jobs.inspect import Inspection, Port
from ...passes.analyses.model_stats import Share
from ...runtime import Profile
from .. import formatting


def print_inspection(found: Inspection) -> None:
    """On standard output: what the model is, its operators, and where the time goes."""
    console = formatting.console()
    table = Table(box=None, pad_edge=False, show_header=False)
    for heading, text in _facts(found):
        table.add_row(heading, Text(text))
    console.print(table)
    console.print()
    console.print(_operators(found))
    if found.profile is not None:
        console.print()
        console.print(_times(found.profile))
        console.print("with ONNX Runtime's own optimizations; times without those of bodies inside", markup=False)


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    model_stats = found.model_stats
    yield "producer", found.producer or "unknown"
    yield "opsets", ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    yield "IR version", str(found.ir_version)
    yield from _ports("inputs", found.inputs)
    yield from _ports("outputs", found.outputs)
    total = sum(each.elements for each in found.parameters.values())
    tensors = sum(each.tensors for each in found.parameters.values())
    yield "parameters", f"{formatting.amount(total)} in {tensors} tensors"
    for name, each in found.parameters.items():
        yield "", f"{name}: {formatting.amount(each.elements)} in {each.tensors} tensors, {formatting.size(each.bytes)}"
    yield "nodes", str(model_stats.nodes)
    if found.subgraphs:
        yield "subgraphs", str(found.subgraphs)
    if found.functions:
        yield "functions", ", ".join(f"{name} ({count} nodes)" for name, count in found.functions.items())
    if model_stats.bindings:
        yield "at", ", ".join(f"{name} = {size}" for name, size in model_stats.bindings.items())
    if found.partitions is not None:
        yield "partitions", str(found.partitions)
    more = "> " if model_stats.unknown else ""
    yield "FLOPs", more + formatting.amount(model_stats.flops) + _formula(model_stats.flops_formula)
    yield "bytes moved", more + formatting.size(model_stats.bytes_moved) + _formula(model_stats.bytes_formula)
    peak = model_stats.planned_peak_bytes
    yield "planned peak", "unknown" if peak is None else formatting.size(peak)
    if model_stats.unknown:
        counts = ", ".join(f"{name} ({count})" for name, count in model_stats.unknown.items())
        yield "not counted", counts


def _ports(heading: str, ports: tuple[Port, ...]) -> Iterator[tuple[str, str]]:
    width = max((len(port.name) for port in ports), default=0)
    for place, port in enumerate(ports):
        yield "" if place else heading, f"{port.name:{width}}  {port.type}"


def _formula(text: str | None) -> str:
    return "" if text is None or text.isdigit() else f" = {text}"


def _operators(found: Inspection) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operator")
    for column in ("nodes", "FLOPs", "share", "bytes moved", "share"):
        table.add_column(column, justify="right")
    model_stats = found.model_stats
    shares = model_stats.operators

    def weight(name: str) -> tuple[int, int, int]:
        share = shares.get(name, Share())
        return -share.flops, -share.bytes_moved, -found.operators[name]

    for name in sorted(found.operators, key=weight):
        share = shares.get(name, Share())
        cells = [formatting.amount(share.flops), _percent(share.flops, model_stats.flops)]
        cells += [formatting.size(share.bytes_moved), _percent(share.bytes_moved, model_stats.bytes_moved)]
        table.add_row(Text(name), str(found.operators[name]), *([""] * 4 if name in model_stats.unknown else cells))
    return table


def _times(profile: Profile) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("as it runs")
    for column in ("calls", "time", "share", "where"):
        table.add_column(column, justify="right")
    for each in profile.operators:
        cells = (str(each.calls), f"{each.microseconds / 1e3:.3g} ms", f"{each.share:.1%}", each.provider)
        table.add_row(Text(each.operator), *cells)
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
