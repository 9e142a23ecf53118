"""Tables of models side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from ...jobs.measure import Measurement, Point, Standing
from ...passes.analyses import ModelStats
from .. import formatting

Row = tuple[str, ...]
"""What, the first model's, then for each other its own and the ratio."""


def side_by_side(names: Sequence[str], ratios: Sequence[str], rows: Iterator[Row]) -> Table:
    """A table with a column for the first model, and two for each other: its own, and how it compares."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column(names[0], justify="right")
    for name, heading in zip(names[1:], ratios, strict=True):
        table.add_column(name, justify="right")
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_measurement(measurement: Measurement, names: Sequence[str]) -> None:
    """The table on standard output, and the inputs that it was measured on."""
    console = formatting.console()
    console.print(side_by_side(names, [""] * (len(names) - 1), _rows(measurement)))
    for point in measurement.points:
        console.print(f"inputs: {point.description}", markup=False)
    console.print(f"{measurement.options.provider}, threads: {measurement.options.threads}", markup=False)
    if unknown := {
        name for point in measurement.points for each in point.standings for name in each.model_stats.unknown
    }:
        console.print(f"not counted in FLOPs and bytes: {', '.join(sorted(unknown))}", markup=False)


def _rows(measurement: Measurement) -> Iterator[Row]:
    found = [each.model_stats for each in measurement.points[0].standings]
    yield _compared("nodes", [each.nodes for each in found], str)
    yield _compared("weights", [each.weight_bytes for each in found], formatting.size)
    yield from measured_rows(measurement)


def measured_rows(measurement: Measurement) -> Iterator[Row]:
    """What was measured: a group for each point, with its sizes above when there are several."""
    yield _compared("file", measurement.files, formatting.size)
    for point in measurement.points:
        if len(measurement.points) > 1:
            yield (_heading(point), *[""] * (2 * len(point.standings) - 1))
        yield from _point_rows(point.standings)


def _heading(point: Point) -> str:
    return ", ".join(f"{name} = {size}" for name, size in point.sizes.items()) or point.description


def _point_rows(standings: Sequence[Standing]) -> Iterator[Row]:
    others = [each.timing for each in standings[1:]]
    for name, latencies, ratios in (
        ("latency", [each.timing.run for each in standings], [each.speed for each in others]),
        ("load", [each.timing.load for each in standings], [each.load_speed for each in others]),
    ):
        cells = []
        for latency, ratio in zip(latencies[1:], ratios, strict=True):
            cells += [formatting.milliseconds(latency), formatting.faster(ratio)]
        yield (name, formatting.milliseconds(latencies[0]), *cells)
    yield _compared("peak memory", [each.memory.run for each in standings], formatting.size)
    if all(each.memory.device is not None for each in standings):
        yield _compared("device memory", [each.memory.device for each in standings], formatting.size)
    found = [each.model_stats for each in standings]
    yield _compared("planned peak", [each.planned_peak_bytes for each in found], formatting.size)
    yield _compared("FLOPs", [each.flops for each in found], formatting.amount, found)
    yield _compared("bytes moved", [each.bytes_moved for each in found], formatting.size, found)


def _compared(
    name: str, numbers: Sequence[int | None], show: Callable[[int], str], found: Sequence[ModelStats] = ()
) -> Row:
    """A row of numbers with their ratios to the first; `found` says of which nodes nothing is known."""
    partial = [bool(each.unknown) for each in found] or [False] * len(numbers)
    shown = [
        "unknown" if number is None else f"{'> ' if part else ''}{show(number)}"
        for number, part in zip(numbers, partial, strict=True)
    ]
    cells = [shown[0]]
    for text, number in zip(shown[1:], numbers[1:], strict=True):
        cells += [text, "" if any(partial) else formatting.times(number, numbers[0])]
    return (name, *cells)
