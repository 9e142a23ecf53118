"""A page with a plot from the rows that `compare_tools.py` wrote: NAME.json gives NAME.md and NAME.svg.

python benchmarks/render_results.py benchmarks/results/NAME.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import competitors

Row = dict[str, Any]

COLOURS = ("#0b6e4f", "#c1440e", "#3b5bdb", "#7048a8", "#8a6d1a")
_LEFT, _RIGHT, _LINE, _WIDTH = 330, 40, 18, 960


def ratio(row: Row, key: str = "median") -> float:
    """How much faster; a tool that failed, or whose result is wrong, leaves the user with the original."""
    speed = row.get("speed")
    return float(speed[key]) if isinstance(speed, dict) else 1.0


def plot(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A line for each model, a dot with its 95 % interval for each tool; SVG."""
    models = sorted({str(row["model"]) for row in rows}, key=lambda name: -_best(rows, name))
    low = min(0.9, *(ratio(row, "low") for row in rows))
    high = max(1.2, *(ratio(row, "high") for row in rows))

    def place(value: float) -> float:
        span = math.log(high / low)
        return _LEFT + math.log(value / low) / span * (_WIDTH - _LEFT - _RIGHT)

    height = _LINE * (len(models) + 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    ticks = [value for value in (0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4) if low <= value <= high]
    for value in ticks:
        x, weight = place(value), 1.5 if value == 1 else 0.5
        parts.append(f'<path d="M{x:.1f} {_LINE}V{height - 2 * _LINE}" stroke="#999999" stroke-width="{weight}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - _LINE}" text-anchor="middle" fill="#333333">x{value:g}</text>')
    for number, model in enumerate(models):
        y = _LINE * (number + 1.5)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#111111">{escape(model)}</text>')
        for row in rows:
            if row["model"] != model or "speed" not in row:
                continue
            order = names.index(str(row["tool"]))
            colour, at = COLOURS[order % len(COLOURS)], y + (order - len(names) / 2) * 2.4
            start, end = place(ratio(row, "low")), place(ratio(row, "high"))
            parts.append(f'<path d="M{start:.1f} {at:.1f}H{end:.1f}" stroke="{colour}" stroke-width="1.5"/>')
            parts.append(f'<circle cx="{place(ratio(row)):.1f}" cy="{at:.1f}" r="3" fill="{colour}"/>')
    for order, name in enumerate(names):
        x = _LEFT + order * 125
        parts.append(f'<circle cx="{x}" cy="{height - 5}" r="4" fill="{COLOURS[order % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 8}" y="{height - 1}" fill="#111111">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _best(rows: Sequence[Row], model: str) -> float:
    return max((ratio(row) for row in rows if row["model"] == model and row["tool"] == competitors.OURS), default=1.0)


def mean(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 1.0


def page(document: dict[str, Any], picture: str) -> str:
    """The tables, in Markdown."""
    rows: list[Row] = document["rows"]
    names = present(rows)
    where = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    lines = [
        "# Side by side",
        "",
        "Original over optimized, above 1 is faster: ONNX Runtime with all of its own optimizations on both sides,",
        f"paired and interleaved runs, median with its 95 % interval. Measured with {where}. Made by "
        "`render_results.py`.",
        "",
        f"![Ratios by model and tool]({picture})",
        "",
        "| tool | models | ok | wrong | failed | geometric mean | worst | nodes kept |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        mine = [row for row in rows if row["tool"] == name]
        good = [row for row in mine if row["verdict"] == "ok"]
        count = {verdict: sum(row["verdict"] == verdict for row in mine) for verdict in ("ok", "wrong", "failed")}
        kept = mean([row["nodes"] / row["nodes_before"] for row in good])
        worst = min((ratio(row) for row in good), default=1.0)
        speed = mean([ratio(row) for row in mine])
        lines.append(
            f"| {name} | {len(mine)} | {count['ok']} | {count['wrong']} | {count['failed']} "
            f"| x{speed:.3f} | x{worst:.2f} | {kept:.0%} |"
        )
    lines += ["", f"| model | nodes | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    for model in sorted({str(row["model"]) for row in rows}):
        found = {str(row["tool"]): row for row in rows if row["model"] == model}
        nodes = next(iter(found.values()))["nodes_before"]
        cells = [_cell(found.get(name)) for name in names]
        lines.append(f"| {model} | {nodes} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row["verdict"] != "ok":
        return str(row["verdict"])
    return f"x{ratio(row):.2f} [{ratio(row, 'low'):.2f}, {ratio(row, 'high'):.2f}] · {row['nodes']}"


def present(rows: Sequence[Row]) -> list[str]:
    found = {str(row["tool"]) for row in rows}
    return [name for name in competitors.names() if name in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    given = parser.parse_args()
    document = json.loads(given.results.read_text())
    picture = given.results.with_suffix(".svg")
    picture.write_text(plot(document["rows"], present(document["rows"])))
    given.results.with_suffix(".md").write_text(page(document, picture.name))


if __name__ == "__main__":
    main()
