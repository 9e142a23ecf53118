"""Optimize many models: plan, run, record. A failure of one stops no other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .executors import Executor
from .job_run import CRASHED, STATUS, JobEnd
from .plan import REPORTS, BuildJob
from .result_cache import ResultCache

SCHEMA = 1
HISTORY = "history.jsonl"
EXIT_CODES = {"usage": 2, "failed": 1, CRASHED: 1, "not verified": 3, "gate missed": 4, "done": 0}
"""The exit code of a build is that of its worst job, the worst first: the less of a job was done, the worse."""


@dataclass(frozen=True)
class Row:
    """One model of a build: how its job ended, and figures of its report (None where there is none)."""

    job: BuildJob
    end: JobEnd
    nodes: tuple[int, int] | None = None
    bytes: tuple[int, int] | None = None
    speedup: float | None = None

    def to_json(self) -> dict[str, object]:
        """The row as plain values; what the history keeps of it, too."""
        pair = ("before", "after")
        return {
            "model": self.job.name,
            "source": str(self.job.source),
            "output": str(self.job.output) if self.end.status == STATUS[0] else None,
            "report": str(self.job.report),
            "status": self.end.status,
            "error": self.end.said or None,
            "cached": self.end.is_cached,
            "seconds": round(self.end.seconds, 3),
            "peak_bytes": self.end.peak_bytes,
            "nodes": None if self.nodes is None else dict(zip(pair, self.nodes, strict=True)),
            "bytes": None if self.bytes is None else dict(zip(pair, self.bytes, strict=True)),
            "speedup": self.speedup,
        }


@dataclass(frozen=True)
class Build:
    """What a build did: a row for each model, by name, and the earlier builds of the same folder, the oldest first."""

    rows: Sequence[Row]
    seconds: float
    earlier: Sequence[Mapping[str, Any]] = ()

    @property
    def exit_code(self) -> int:
        """That of the worst job."""
        statuses = {row.end.status for row in self.rows}
        return next((code for status, code in EXIT_CODES.items() if status in statuses), 0)

    def to_json(self) -> dict[str, object]:
        """The whole as a document."""
        return {
            "schema": SCHEMA,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "models": [row.to_json() for row in self.rows],
        }


def build(
    jobs: Sequence[BuildJob],
    executor: Executor,
    cache: ResultCache | None,
    *,
    on_end: Callable[[JobEnd], None] = lambda end: None,
) -> Build:
    """Run the jobs and add a line to the history of their folder. `on_end` is called as each job ends."""
    begin = time.monotonic()
    history = jobs[0].folder / REPORTS / HISTORY if jobs else None
    earlier = [] if history is None else _read(history)
    peaks = _known_peaks(earlier)
    jobs = [replace(job, known_peak=peaks.get(job.name, 0)) for job in jobs]
    for job in jobs:
        job.report.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            job.report.unlink()  # an earlier run's says nothing of this one
    ends: dict[str, JobEnd] = {}
    with closing(executor.run(jobs, cache)) as running:
        for end in running:
            ends[end.name] = end
            on_end(end)
    found = Build([_row(job, ends[job.name]) for job in jobs], time.monotonic() - begin, earlier)
    if history is not None:
        line = json.dumps({"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **found.to_json()})
        with history.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return found


def _read(path: Path) -> list[Mapping[str, Any]]:
    """The lines of a history that can be read."""
    found: list[Mapping[str, Any]] = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("schema") == SCHEMA:
                    found.append(entry)
    return found


def _known_peaks(earlier: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The peak memory of each model's last job that ran."""
    rows = (row for found in earlier for row in found["models"])
    return {row["model"]: row["peak_bytes"] for row in rows if row["peak_bytes"]}


def _row(job: BuildJob, end: JobEnd) -> Row:
    try:
        report = json.loads(job.report.read_text(encoding="utf-8"))
        before, after = report["before"], report["after"]
        measured = report["measurement"]
        nodes, sizes = ((before[key], after[key]) for key in ("nodes", "file_bytes"))
        return Row(job, end, nodes, sizes, measured and measured["speed"]["median"])
    except (OSError, ValueError, KeyError, TypeError):
        return Row(job, end)
