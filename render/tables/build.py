"""The table of a build, and its progress while it runs."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ...jobs.building.build import Build, Row
from ...jobs.building.job_run import JobEnd
from .. import formatting


class Progress:
    """A bar on a terminal, else a line for each job that ends; both on standard error."""

    def __init__(self, total: int, *, is_quiet: bool = False) -> None:
        self.total, self.ended, self.is_quiet = total, 0, is_quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        is_shown = sys.stderr.isatty() and not is_quiet
        self.bar = Bar(*columns, console=Console(stderr=True), transient=True) if is_shown else None

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("build", total=self.total)
        return self

    def tell(self, end: JobEnd) -> None:
        """Show that a job has ended."""
        self.ended += 1
        if self.bar is not None:
            self.bar.update(self.task, advance=1, description=end.name)
        elif not self.is_quiet:
            print(f"[{self.ended}/{self.total}] {end.name}: {_status(end)}, {end.seconds:.1f} s", file=sys.stderr)

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()


def print_build(build: Build) -> None:
    """A row for each model, and what became of all."""
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(HEADINGS):
        table.add_column(title, justify="left" if index in (0, 4) else "right", overflow="fold")
    for row in build.rows:
        table.add_row(*cells(row))
    console = formatting.console()
    console.print(table)
    console.print(summary(build), markup=False)


HEADINGS = ("model", "nodes", "size", "speedup", "status", "seconds")


def cells(row: Row) -> tuple[str, ...]:
    """The figures of a model as people read them, in the order of `HEADINGS`."""
    nodes = "" if row.nodes is None else f"{row.nodes[0]} -> {row.nodes[1]}"
    sizes = "" if row.bytes is None else " -> ".join(formatting.size(each) for each in row.bytes)
    speed = "" if row.speedup is None else f"x{row.speedup:.2f}"
    return row.job.name, nodes, sizes, speed, _status(row.end), f"{row.end.seconds:.1f}"


def summary(build: Build) -> str:
    """How many models there were, and what became of them."""
    cached = sum(row.end.is_cached for row in build.rows)
    done = sum(row.end.status == "done" for row in build.rows)
    return f"{done} of {len(build.rows)} done, {cached} of them cached, in {build.seconds:.1f} s"


def _status(end: JobEnd) -> str:
    return f"{end.status}, cached" if end.is_cached else end.status
