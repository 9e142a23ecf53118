"""The JSON report: what was done, as a document with stable keys."""

from __future__ import annotations

import html
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from .. import ir
from ..jobs.optimization.gates import missed
from ..jobs.optimization.result import Result
from ..jobs.optimization.target_versions import installed_versions
from .text_files import write_text

SCHEMA = 1
"""Version of the JSON report: raised when a key changes its meaning or goes; new keys may come."""


def _by_rule(result: Result) -> Counter[str]:
    return Counter(rewrite.rule for rewrite in result.rewrites)


def to_json(result: Result) -> dict[str, object]:
    """The result as a document with stable keys: see docs/report.md."""
    problem = missed(result.gates)
    return {
        "schema": SCHEMA,
        "error": None if problem is None else _diagnostic(problem),
        "versions": installed_versions(),
        "build": result.build,
        "pipeline": result.pipeline,
        "exactness": result.exactness.name.lower(),
        "before": asdict(result.before),
        "after": asdict(result.after),
        "gates": [each.to_json() for each in result.gates],
        "rewrites_by_rule": dict(sorted(_by_rule(result).items())),
        "rewrites": [each.to_json() for each in result.rewrites],
        "missed_rewrites": [
            {"rule": each.rule, "where": each.where, "condition": each.condition, "because": each.because}
            for each in result.missed
        ],
        "isolated": [each.to_json() for each in result.isolated],
        "remarks": [_diagnostic(each) for each in result.remarks],
        "seconds_by_pass": dict(result.seconds),
        "verification": result.verification.to_json() if result.verification is not None else None,
        "model_profile": None if result.model_profile is None else [each.to_json() for each in result.model_profile],
        "tuning": result.tuning.to_json() if result.tuning is not None else None,
        "measurement": result.measurement.pair_to_json() if result.measurement is not None else None,
    }


def failure_document(error: BaseException, code: str, message: str) -> dict[str, object]:
    """A document with the keys of `to_json` for a job that failed: `error` says what, where and what to do."""
    told = error.diagnostic if isinstance(error, ir.OptimizeGraphError) else ir.Diagnostic(code, message)
    found: dict[str, object] = dict.fromkeys(
        "build exactness before after verification model_profile tuning measurement".split()
    )
    found |= {"rewrites_by_rule": {}, "seconds_by_pass": {}, "pipeline": ""}
    found |= {key: [] for key in ("gates", "rewrites", "missed_rewrites", "isolated", "remarks")}
    return {"schema": SCHEMA, "error": _diagnostic(told), "versions": installed_versions(), **found}


def write_failure(document: dict[str, object], path: Path) -> None:
    """Write a failure where a report was asked for: JSON, or a page that quotes it. Raises OSError."""
    text = json.dumps(document, indent=2) + "\n"
    if path.suffix == ".html":
        body = html.escape(json.dumps(document["error"], indent=2))
        text = (
            f"<!doctype html><meta charset=utf-8><title>optimize-graph failed</title><h1>Failed</h1><pre>{body}</pre>\n"
        )
    write_text(path, text)


def write_json(result: Result, path: Path) -> None:
    """Write `to_json`. Raises MachineError when the file cannot be written."""
    try:
        write_text(path, json.dumps(to_json(result), indent=2) + "\n")
    except OSError as error:
        raise ir.EnvironmentSetupError(ir.Diagnostic("report-not-written", f"{path}: {error.strerror}")) from error


def _diagnostic(each: ir.Diagnostic) -> dict[str, str]:
    return {
        "code": each.code,
        "severity": each.severity.value,
        "message": each.message,
        "where": str(each.where),
        "hint": each.hint,
    }
