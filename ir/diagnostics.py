"""Diagnostics: a code, a message, a location and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"
    REMARK = "remark"


@dataclass(frozen=True)
class Location:
    """A place in a model: the file, the graph, the node and the value, as far as they are known."""

    file: str = ""
    graph: str = ""
    node: str = ""
    value: str = ""

    def __str__(self) -> str:
        parts = [self.file, *(f"{kind} {name!r}" for kind, name in self._named() if name)]
        return ", ".join(part for part in parts if part)

    def _named(self) -> tuple[tuple[str, str], ...]:
        return (("graph", self.graph), ("node", self.node), ("value", self.value))


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    `code` is a stable kebab-case name that builds may match on (`external-data-missing`); `message` says what,
    `where` says where, `hint` says what to do.
    """

    code: str
    message: str
    where: Location = field(default_factory=Location)
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.where}: " if str(self.where) else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint} [{self.code}]"

    def to_json(self) -> dict[str, str]:
        """The fields with plain JSON values."""
        plain = {"code": self.code, "severity": self.severity.value, "message": self.message}
        return {**plain, "where": str(self.where), "hint": self.hint}


class OptimizeGraphError(Exception):
    """Base of every error that this package raises on purpose; `diagnostic` says what and where."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


class ModelError(OptimizeGraphError):
    """The model, or a file that belongs to it, is at fault."""


class PipelineError(OptimizeGraphError):
    """A pass, a rule or the text of a pipeline is at fault."""


class OptionsError(OptimizeGraphError, ValueError):
    """An option has a value that it cannot have."""


class EnvironmentSetupError(OptimizeGraphError):
    """An error of the environment: an absent provider, two ONNX Runtimes at once, a missing extra."""


class VerificationError(OptimizeGraphError):
    """The result differs from the original, or could not be compared with it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to append to a message about an unknown name: the nearest known one; empty where none is near."""
    near = difflib.get_close_matches(str(name), sorted(known), 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
