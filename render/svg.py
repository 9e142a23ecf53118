"""Small drawings as SVG: a few operators with what reads what, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from markupsafe import Markup

from ..passes.pipeline.rewrite_log import Sketch

CHAR, PAD, HEIGHT, GAP_X, GAP_Y = 6.6, 8.0, 20.0, 18.0, 6.0
MOST_NODES = 24
POINTS = 300


def graph(sketch: Sketch) -> str:
    """Operators as boxes from left to right, a line from each to those that read it."""
    if not sketch:
        return '<span class="nothing">nothing</span>'
    shown = sketch[:MOST_NODES]
    columns = _columns(shown)
    widths = [max(len(shown[place].operator) for place in column) * CHAR + 2 * PAD for column in columns]
    lefts = [sum(widths[:index]) + index * GAP_X for index in range(len(columns))]
    boxes: dict[int, tuple[float, float, float]] = {}
    for left, width, column in zip(lefts, widths, columns, strict=True):
        for row, place in enumerate(column):
            boxes[place] = (left, row * (HEIGHT + GAP_Y), width)
    tall = max(map(len, columns)) * (HEIGHT + GAP_Y) - GAP_Y
    wide = lefts[-1] + widths[-1]
    lines = [
        _line(boxes[source], boxes[place])
        for place, node in enumerate(shown)
        for source in node.reads
        if source in boxes
    ]
    more = len(sketch) - len(shown)
    tail = f'<span class="nothing">and {more} more</span>' if more else ""
    drawn = "".join([*lines, *(_box(*boxes[place], node.operator) for place, node in enumerate(shown))])
    return f'<svg class="graph" width="{wide + 2:.0f}" height="{tall + 2:.0f}">{drawn}</svg>{tail}'


def _columns(sketch: Sketch) -> list[list[int]]:
    """Places by how many operators stand in front of them at most."""
    depth = [0] * len(sketch)
    for _ in sketch:
        for place, node in enumerate(sketch):
            depth[place] = max([depth[source] + 1 for source in node.reads if source < len(sketch)], default=0)
    columns: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for place, column in enumerate(depth):
        columns[column].append(place)
    return [column for column in columns if column]


def _box(left: float, top: float, width: float, text: str) -> str:
    middle = left + width / 2
    return (
        f'<rect x="{left + 1:.1f}" y="{top + 1:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="4"/>'
        f'<text x="{middle + 1:.1f}" y="{top + 15:.1f}">{escape(text)}</text>'
    )


def _line(source: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    x1, y1 = source[0] + source[2] + 1, source[1] + HEIGHT / 2 + 1
    x2, y2 = target[0] + 1, target[1] + HEIGHT / 2 + 1
    middle = (x1 + x2) / 2
    return f'<path d="M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"/>'


def curves(named: Sequence[tuple[str, Sequence[int]]], top: int, width: int = 860, height: int = 180) -> str:
    """Steps over the course of a run, each curve over the whole width; `top` is the value at the upper edge."""
    drawn = []
    for name, values in named:
        points = _thinned(values)
        step = width / max(len(points), 1)
        heights = [height - value / max(top, 1) * (height - 10) for value in points]
        path = " ".join(f"V{y:.1f}H{(index + 1) * step:.1f}" for index, y in enumerate(heights))
        drawn.append(f'<path class="{name}" d="M0 {height} {path} V{height}Z"/>')
    return f'<svg class="curves" viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(drawn)}</svg>'


def _thinned(values: Sequence[int]) -> list[int]:
    """At most POINTS numbers: the largest of each stretch."""
    if len(values) <= POINTS:
        return list(values)
    edges = [len(values) * index // POINTS for index in range(POINTS + 1)]
    return [max(values[start:end]) for start, end in pairwise(edges)]


def sparkline(values: Sequence[float], width: int = 90, height: int = 22) -> Markup:
    """A line through the values, from the least to the largest."""
    low, high = min(values), max(values)
    step = (width - 4) / max(len(values) - 1, 1)
    share = [0.5 if high == low else (value - low) / (high - low) for value in values]
    points = " ".join(
        f"{2 + index * step:.1f},{height - 3 - each * (height - 6):.1f}" for index, each in enumerate(share)
    )
    return Markup(f'<svg class="spark" viewBox="0 0 {width} {height}"><path d="M{points}"/></svg>')
