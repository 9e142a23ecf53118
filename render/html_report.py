"""The HTML report: one page that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import runtime
from ..jobs.optimization.result import Result
from ..jobs.optimization.target_versions import installed_versions
from ..passes.pipeline.rewrite_log import MissedRewrite, Rewrite, Sketch, Sketched
from ..passes.registry import REGISTRY
from . import formatting, svg
from .tables.console import result_rows
from .text_files import template, write_report

MOST_KINDS = 6  # drawings for each rule
MOST_PLACES = 200
MOST_OPERATORS = 40
MOST_LINES = 60
MOST_WORDS = 60


@dataclass(frozen=True)
class Bar:
    """Two numbers that belong together, and what they are of the largest, in percent."""

    name: str
    before: float
    after: float
    before_share: float
    after_share: float


def write_page(result: Result, path: Path, *, title: str, flags: str = "") -> None:
    """Write the page. Raises EnvironmentSetupError when the file cannot be written."""
    write_report(path, page(result, title=title, flags=flags))


def page(result: Result, *, title: str, flags: str = "") -> str:
    """The page as text."""
    verdict, is_good = _verdict(result)
    measurement = result.measurement
    provider = "cpu" if measurement is None else measurement.options.provider
    return template("html_report.html.j2").render(
        title=title,
        verdict=verdict,
        verdict_is_good=is_good,
        versions=installed_versions(),
        device=runtime.device_name(provider),
        date=time.strftime("%Y-%m-%d"),
        rows=list(result_rows(result)),
        measured_how=[] if measurement is None else [f"inputs: {each.description}" for each in measurement.points],
        verification=result.verification,
        gates=result.gates,
        isolated=result.isolated,
        tuning=result.tuning,
        **_inside(result),
        rewrite_count=len(result.rewrites),
        exactness=str(result.exactness),
        rules=list(_rules(result.rewrites)),
        misses=list(_misses(result.missed)),
        how=list(_how(result, flags)),
    )


def _verdict(result: Result) -> tuple[str, bool]:
    if result.verification is None:
        return "not verified", False
    proven = "computes the same bit for bit" if result.verification.exact else "computes the same"
    if result.measurement is None:
        return f"{proven}, verified", True
    speed = result.measurement.points[0].standings[1].timing.speed
    interval = f"[{speed.low:.2f}, {speed.high:.2f}]"
    if speed.is_faster:
        return f"x{speed.median:.2f} faster {interval}, {proven}", True
    said = "slower" if speed.is_slower else "not shown to be faster"
    return f"{said}: x{speed.median:.2f} {interval}; {proven}", False


def _inside(result: Result) -> dict[str, object]:
    """Charts of the two models from inside, where they were looked at."""
    if result.model_profile is None:
        return {"times": None, "memory": None, "operators": [], "total_before": 0.0, "total_after": 0.0}
    before, after = result.model_profile
    spent = [{each.name: each.microseconds for each in side.profile.operators} for side in (before, after)]
    memory = None
    if before.live_bytes and after.live_bytes:
        peaks = max(before.live_bytes), max(after.live_bytes)
        curves = svg.curves([("before", before.live_bytes), ("after", after.live_bytes)], max(peaks))
        memory = {"before": formatting.size(peaks[0]), "after": formatting.size(peaks[1]), "drawing": curves}
    return {
        "times": _bars(spent[0], spent[1]),
        "total_before": sum(spent[0].values()),
        "total_after": sum(spent[1].values()),
        "memory": memory,
        "operators": _bars(before.operators, after.operators),
    }


def _bars(before: Mapping[str, float], after: Mapping[str, float]) -> list[Bar]:
    names = sorted({*before, *after}, key=lambda name: (-max(before.get(name, 0), after.get(name, 0)), name))
    top = max([*before.values(), *after.values()], default=1) or 1
    return [
        Bar(name, one, two, 100 * one / top, 100 * two / top)
        for name in names[:MOST_OPERATORS]
        for one, two in [(before.get(name, 0), after.get(name, 0))]
    ]


def _rules(rewrites: Sequence[Rewrite]) -> Iterator[dict[str, object]]:
    """Rules by how often they fired, each with drawings of its most frequent kinds of places."""
    by_rule: dict[str, list[Rewrite]] = {}
    for each in rewrites:
        by_rule.setdefault(each.rule, []).append(each)
    for name, found in sorted(by_rule.items(), key=lambda each: (-len(each[1]), each[0])):
        kinds = Counter((each.drawing, each.before, each.after) for each in found).most_common()
        more = f" and {len(found) - MOST_PLACES} more" if len(found) > MOST_PLACES else ""
        yield {
            "name": name,
            "count": len(found),
            "doc": _doc(name),
            "kinds": [
                {"count": count, "before": _drawn(old, before), "after": _drawn(new, after)}
                for (drawn, before, after), count in kinds[:MOST_KINDS]
                for old, new in [drawn or (None, None)]
            ],
            "more": max(len(kinds) - MOST_KINDS, 0),
            "places": ", ".join(each.where for each in found[:MOST_PLACES]) + more,
        }


def _drawn(sketch: Sketch | None, text: str) -> str:
    """The drawing, or one box with the words where there is none."""
    words = text if len(text) < MOST_WORDS else f"{text[: MOST_WORDS - 1]}…"
    return svg.graph((Sketched(words, ()),) if sketch is None else sketch)


def _doc(name: str) -> str:
    rule, kind = REGISTRY.rules.get(name), REGISTRY.passes.get(name)
    text = rule.doc if rule is not None else (kind.__doc__ or "" if kind is not None else "")
    return text.splitlines()[0] if text else ""


def _misses(missed: Sequence[MissedRewrite]) -> Iterator[dict[str, object]]:
    """Near misses by rule and condition, those of most places first."""
    groups: dict[tuple[str, str], list[MissedRewrite]] = {}
    for each in missed:
        groups.setdefault((each.rule, each.condition), []).append(each)
    for (rule, condition), found in sorted(groups.items(), key=lambda each: (-len(each[1]), each[0])):
        lines = [f"{each.where}: {each.because}" for each in found]
        more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
        yield {
            "rule": rule,
            "condition": condition,
            "count": len(found),
            "example": found[0].because,
            "lines": [*lines[:MOST_LINES], *more],
        }


def _how(result: Result, flags: str) -> Iterator[tuple[str, str]]:
    if flags:
        yield "command", flags
    yield "pipeline", result.pipeline
    yield from installed_versions().items()
    if result.measurement is not None:
        options = result.measurement.options
        yield "provider, threads", f"{options.provider}, {options.threads}"
    for remark in result.remarks:
        yield str(remark.severity), str(remark)
