"""Gates: figures that a build requires of a result. Where one is missed, the job fails and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ... import ir
from ...option_kinds import parse_size
from ...options import FAMILIES, Options
from ...passes.analyses.model_stats import operator

if TYPE_CHECKING:
    from ...runtime import Ratio
    from .result import Result

SLACK = 1 << 20
"""Bytes by which the peaks of two processes that run one model differ: pages, and what Python holds."""

Sizes = frozenset[tuple[str, int]]

HINTS = {
    "require-speedup": "--tune looks for what is faster on this machine, -vv lists missed rewrites",
    "max-size": "--compress-constants and --strip-metadata make files smaller",
    "max-peak-memory": "-v lists the rules that fired, --disable leaves one out",
    "max-error": "-v lists the rules that fired, --disable leaves one out",
    "max-nodes": "-vv lists missed rewrites with the condition that did not hold",
    "require-fused": "optimize-graph explain RULE MODEL says where its pattern stops matching",
    "baseline": "the rewrites and versions of both reports say what changed",
}


class GateError(ir.OptimizeGraphError):
    """The result misses a figure that was required, and was not written. `result` has the gates and all figures."""

    def __init__(self, diagnostic: ir.Diagnostic, result: Result) -> None:
        super().__init__(diagnostic)
        self.result = result


@dataclass(frozen=True)
class Gate:
    """A figure that is required, and whether the result has it.

    `name`: the option; `about`: which of its figures. `unit`: `bytes`, `x` for a ratio, or none. `interval`: of 95 %,
    for what was timed.
    """

    name: str
    about: str
    figure: float
    relation: Literal["at least", "at most"]
    limit: float
    passed: bool
    unit: Literal["", "bytes", "x"] = ""
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        about = f" {self.about}" if self.about else ""
        more = " of the original" if self.unit == "x" else ""
        if self.interval is not None:
            more = " [{:.2f}, {:.2f}]".format(*self.interval)
        return f"--{self.name}{about}: {self._show(self.figure)}{more}, {self.relation} {self._show(self.limit)}"

    def _show(self, number: float) -> str:
        match self.unit:
            case "x":
                return f"x{number:.2f}" if abs(self.figure - self.limit) >= 0.01 else f"x{number:.4f}"
            case "bytes":
                return f"{number:,.0f} bytes"
            case _:
                return f"{number:g}" if number == int(number) else f"{number:.1e}"

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


def missed(gates: Sequence[Gate]) -> ir.Diagnostic | None:
    """The error of the gates that are missed: figures, limits, and what to do; None where all are passed."""
    failed = [gate for gate in gates if not gate.passed]
    if not failed:
        return None
    hints = dict.fromkeys(HINTS[gate.name] for gate in failed)
    message = f"gate missed: {'; '.join(map(str, failed))}"
    return ir.Diagnostic("gate-missed", message, hint=f"nothing was written; {'; '.join(hints)}")


@dataclass(frozen=True)
class Baseline:
    """The figures of an earlier report. `error`: or the model's own noise, where that is larger; None: not verified."""

    nodes: int
    file_bytes: int
    error: float | None
    speeds: Mapping[Sizes, float]
    """The lower ends of the intervals, by the sizes of dims; empty where nothing was measured."""

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The figures of a JSON report. Raises OptionsError for a file that is none, or of a job that failed."""
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            report = report if report["error"] is None else {}
            after, verification, measurement = report["after"], report["verification"], report["measurement"]
            points = measurement["points"] if measurement else ()
            return cls(
                int(after["nodes"]),
                int(after["file_bytes"]),
                None if verification is None else max(float(verification["error"]), float(verification["floor"])),
                {frozenset(each["sizes"].items()): float(each["models"][1]["speed"]["low"]) for each in points},
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "expected a report of a job that succeeded"
            raise ir.OptionsError(ir.Diagnostic("baseline-unusable", f"--baseline {path}: {reason}")) from error


class Gates:
    """The gates that options ask for. Raises OptionsError for those that the other options rule out."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.baseline = None if options.baseline is None else Baseline.read(options.baseline)
        by_error = options.max_error is not None, self.baseline is not None and self.baseline.error is not None
        if not options.verify and any(by_error):
            name = "max-error" if by_error[0] else "baseline"
            message = f"--{name} requires verification"
            raise ir.OptionsError(ir.Diagnostic("invalid-option", message, hint="drop --no-verify"))

    @property
    def need_measurement(self) -> bool:
        """Whether latencies or memory are asked for."""
        timed = self.options.require_speedup is not None or self.options.max_peak_memory is not None
        return timed or (self.baseline is not None and bool(self.baseline.speeds))

    def of(self, result: Result) -> Iterator[Gate]:
        """The gates with the figures of a result.

        Speed is missed where even the upper end of the interval is below the limit: noise alone fails no build.
        """
        options, speeds, file_bytes = self.options, _speeds(result), result.after.file_bytes or 0
        if options.require_speedup is not None:
            sizes, speed = min(speeds.items(), key=lambda each: each[1].high)
            yield _fast_enough("require-speedup", _at(sizes), speed, options.require_speedup)
        if options.max_size is not None:
            yield _small_enough("max-size", options.max_size, [(result.before.file_bytes, file_bytes)])
        if options.max_peak_memory is not None and result.measurement is not None:
            pairs = [point.standings for point in result.measurement.points]
            peaks = [(before.memory.run, after.memory.run) for before, after in pairs]
            yield _small_enough("max-peak-memory", options.max_peak_memory, peaks, slack=SLACK)
        if options.max_error is not None and result.verification is not None:
            yield _at_most("max-error", "", result.verification.error, options.max_error)
        if options.max_nodes is not None:
            yield _at_most("max-nodes", "", result.after.nodes, options.max_nodes)
        for name, count in options.require_fused.items():
            found = sum(1 for node in ir.nodes(result.model) if _is_one(node, name))
            yield Gate("require-fused", name, found, "at least", count, found >= count)
        if self.baseline is not None:
            yield from self._against(self.baseline, result, speeds)

    def _against(self, baseline: Baseline, result: Result, speeds: Mapping[Sizes, Ratio]) -> Iterator[Gate]:
        yield _at_most("baseline", "nodes", result.after.nodes, baseline.nodes)
        yield _at_most("baseline", "file", result.after.file_bytes or 0, baseline.file_bytes, "bytes")
        if baseline.error is not None and result.verification is not None:
            yield _at_most("baseline", "error", result.verification.error, baseline.error)
        for sizes, low in baseline.speeds.items():
            if sizes not in speeds:
                message = f"--baseline was measured {_at(sizes) or 'at fixed sizes'}, this job was not"
                raise ir.OptionsError(
                    ir.Diagnostic("baseline-unusable", message, hint="pass the same --at and --inputs")
                )
            yield _fast_enough("baseline", f"speed {_at(sizes)}".rstrip(), speeds[sizes], low)


def _at_most(name: str, about: str, figure: float, limit: float, unit: Literal["", "bytes", "x"] = "") -> Gate:
    return Gate(name, about, figure, "at most", limit, figure <= limit, unit)


def _fast_enough(name: str, about: str, speed: Ratio, limit: float) -> Gate:
    passed = speed.high >= limit
    return Gate(name, about, speed.median, "at least", limit, passed, "x", (speed.low, speed.high))


def _small_enough(name: str, limit: str, sizes: Sequence[tuple[int | None, int]], slack: int = 0) -> Gate:
    """The gate of bytes before and after: of the pair that exceeds the limit most."""
    number, is_ratio = parse_size(limit)
    if is_ratio and any(not before for before, _ in sizes):
        message = f"--{name} {limit} requires an original with a file"
        raise ir.OptionsError(ir.Diagnostic("invalid-option", message, hint="give a size like 20MB"))
    before, after = max(sizes, key=lambda each: each[1] / (each[0] or 1) if is_ratio else each[1])
    whole = before or 0 if is_ratio else 1
    passed = after <= number * whole + slack
    return Gate(name, "", after / whole, "at most", number, passed, "x" if is_ratio else "bytes")


def _is_one(node: ir.Node, name: str) -> bool:
    """Whether a node is of a family, or an operator that is named with or without its domain."""
    return node.op_type in FAMILIES.get(name, (name,)) or operator(node) == name


def _speeds(result: Result) -> Mapping[Sizes, Ratio]:
    points = result.measurement.points if result.measurement is not None else ()
    return {frozenset(point.sizes.items()): point.standings[1].timing.speed for point in points}


def _at(sizes: Sizes) -> str:
    return f"at {', '.join(f'{name} = {size}' for name, size in sorted(sizes))}" if sizes else ""
