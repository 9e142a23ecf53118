"""Instruments: hooks before and after each pass that time, print or check, and never change the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ... import ir


class CheckFailed(Exception):
    """Raised by an instrument to reject what a pass did."""


class Instrument(Protocol):
    """Hooks before and after each pass. `after_pass` may raise `CheckFailed` to reject the pass."""

    def before_pass(self, name: str, model: ir.Model) -> None:
        """Note the state before pass `name`."""

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        """Look at the state after pass `name`; `changed`: whether the `Rewriter` was used."""


class VerifyEach:
    """Reject a pass that leaves the model malformed, or that changes it without the `Rewriter`.

    A pass whose changes went around the `Rewriter` is caught by the fingerprint: unchanged must mean the same digest.
    """

    def __init__(self) -> None:
        self._before = ""

    def before_pass(self, name: str, model: ir.Model) -> None:
        self._before = ir.fingerprint(model)

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        if problems := ir.verify(model):
            raise CheckFailed(f"the model is malformed afterwards: {problems[0]}")
        if not changed and ir.fingerprint(model) != self._before:
            raise CheckFailed("it changed the model without the Rewriter")


@dataclass
class Timing:
    """Seconds by pass, in order of first run."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0

    def before_pass(self, name: str, model: ir.Model) -> None:
        self._started = time.perf_counter()

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._started


@dataclass
class Statistics:
    """Node counts by operator after each pass that changed something."""

    nodes: list[tuple[str, int]] = field(default_factory=list)

    def before_pass(self, name: str, model: ir.Model) -> None:
        if not self.nodes:
            self.nodes.append(("", sum(1 for _ in ir.nodes(model))))

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        if changed:
            self.nodes.append((name, sum(1 for _ in ir.nodes(model))))


@dataclass(frozen=True)
class PrintAfter:
    """Write the model's text after each pass that changed it (of `names`, when any are given)."""

    write: Callable[[str], None]
    names: frozenset[str] = frozenset()

    def before_pass(self, name: str, model: ir.Model) -> None:
        """Nothing to note."""

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        if changed and (not self.names or name in self.names):
            self.write(f"// after {name}\n{ir.text(model)}\n")


class Progress:
    """Calls `tell` with the name of the pass that is about to run."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def before_pass(self, name: str, model: ir.Model) -> None:
        self._tell(name)

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        """Nothing to note."""
