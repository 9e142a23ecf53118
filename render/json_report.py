"""The JSON report: what was done, as a document with stable keys."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from .. import ir
from ..jobs.optimization.result import SCHEMA, Result
from ..jobs.optimization.target_versions import installed_versions
from .text_files import write_report, write_text


class _Entry(Protocol):
    def to_json(self) -> Mapping[str, object]:
        """The entry with plain JSON values."""


def failure_document(error: BaseException, code: str, message: str) -> dict[str, object]:
    """A document with the keys of `Result.to_json` for a job that failed: `error` says what, where and what to do."""
    told = error.diagnostic if isinstance(error, ir.OptimizeGraphError) else ir.Diagnostic(code, message)
    found: dict[str, object] = dict.fromkeys(
        "summary build exactness before after verification model_profile partitions tuning measurement".split()
    )
    found |= {"rewrites_by_rule": {}, "passes": {}, "rules": {}, "pipeline": ""}
    found |= {key: [] for key in ("gates", "rewrites", "missed_rewrites", "isolated", "remarks")}
    return {"schema": SCHEMA, "error": told.to_json(), "versions": installed_versions(), **found}


def write_failure(document: dict[str, object], path: Path) -> None:
    """Write a failure where a report was asked for: JSON, or a page that quotes it. Raises OSError."""
    text = json.dumps(document, indent=2) + "\n"
    if path.suffix == ".html":
        body = html.escape(json.dumps(document["error"], indent=2))
        text = (
            f"<!doctype html><meta charset=utf-8><title>optimize-graph failed</title><h1>Failed</h1><pre>{body}</pre>\n"
        )
    write_text(path, text)


def write_remarks(result: Result, path: Path) -> None:
    """Write rewrites, missed rewrites and remarks, a line of JSON each. Raises EnvironmentSetupError likewise."""
    kinds: dict[str, Sequence[_Entry]] = {
        "rewrite": result.rewrites,
        "missed": result.missed,
        "isolated": result.isolated,
        "remark": result.remarks,
    }
    lines = [json.dumps({"kind": kind, **each.to_json()}) for kind, entries in kinds.items() for each in entries]
    write_report(path, "".join(f"{line}\n" for line in lines))


def write_json(result: Result, path: Path) -> None:
    """Write `Result.to_json`. Raises EnvironmentSetupError when the file cannot be written."""
    write_report(path, json.dumps(result.to_json(), indent=2) + "\n")
