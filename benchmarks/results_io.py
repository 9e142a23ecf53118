"""The file of rows that a measuring script writes, and the arguments that all of them take."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from optimize_graph import runtime

TARGETS = {"cpu": "ort-cpu", "cuda": "ort-cuda"}
"""What models are optimized for, by where they run."""


def parser(description: str | None, budget_s: float, *, models: bool = True) -> argparse.ArgumentParser:
    """Models where they are to be given, the file of rows, and how long to measure."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if models:
        made.add_argument("models", nargs="+", type=Path)
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--budget", type=float, default=budget_s, help="seconds of measuring for each row")
    made.add_argument("--provider", default="cpu", choices=sorted(TARGETS), help="where they run, and are chosen for")
    made.add_argument("--cpu", type=int, help="run on this core alone")
    return made


class Record:
    """The rows, with those that the file had; written after each model."""

    def __init__(self, given: argparse.Namespace) -> None:
        if given.cpu is not None:
            os.sched_setaffinity(0, {given.cpu})
        self.path: Path = given.output
        self.options = runtime.SessionOptions(provider=given.provider, threads=1)
        self.target = TARGETS[given.provider]
        self.document: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"rows": []}
        self.document["machine"] = machine(self.options)

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.document["rows"]
        return rows

    def write(self) -> None:
        self.path.write_text(json.dumps(self.document, indent=1) + "\n")


def machine(options: runtime.SessionOptions) -> dict[str, object]:
    """Where and with what the rows were measured."""
    import onnxruntime

    return {
        "processor": runtime.device_name(options.provider),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "provider": options.provider,
        "threads": options.threads,
        "date": time.strftime("%Y-%m-%d"),
    }
