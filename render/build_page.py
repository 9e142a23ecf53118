"""The index page of a build: a row for each model, with its report and its figures over earlier builds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..jobs.building.build import Build, Row
from . import svg
from .tables.build import HEADINGS, cells, summary
from .text_files import template, write_report

MOST_BUILDS = 40


def write_index(build: Build, path: Path) -> None:
    """Write the page. Raises EnvironmentSetupError where the file cannot be written."""
    text = template("build_page.html.j2").render(
        headings=HEADINGS,
        summary=summary(build),
        builds=min(len(build.earlier), MOST_BUILDS) + 1,
        rows=[
            {
                "cells": cells(row),
                "is_good": row.end.status == "done",
                "said": row.end.said,
                "link": quote(os.path.relpath(row.job.page, path.parent)) if row.job.page.exists() else "",
                "trends": list(_trends(row, build.earlier[-MOST_BUILDS:])),
            }
            for row in build.rows
        ],
    )
    write_report(path, text)


def _trends(row: Row, earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Lines of what the model had in each build: nodes and bytes of the result, speedup, seconds of what was run."""
    entries = [each for found in earlier for each in found["models"] if each["model"] == row.job.name]
    entries.append(row.to_json())
    figures = {
        "nodes": [each["nodes"] and each["nodes"]["after"] for each in entries],
        "bytes": [each["bytes"] and each["bytes"]["after"] for each in entries],
        "speedup": [each["speedup"] for each in entries],
        "seconds": [None if each["cached"] else each["seconds"] for each in entries],
    }
    known = {name: [float(each) for each in values if each is not None] for name, values in figures.items()}
    return [
        {"name": name, "text": f"{min(values):g} to {max(values):g}", "drawing": svg.sparkline(values)}
        for name, values in known.items()
        if len(values) > 1
    ]
