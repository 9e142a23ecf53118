"""Instruments: hooks before and after each pass that time, print or check, and never change the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ... import ir


class CheckFailed(Exception):
    """Raised by an instrument to reject what a pass did."""


class Instrument:
    """Hooks before a run, and before and after each of its passes; here they do nothing."""

    def before_run(self) -> None:
        """Note that a run begins: on the original, perhaps once more with less."""

    def before_pass(self, name: str, model: ir.Model) -> None:
        """Note the state before pass `name`."""

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        """Look at the state after pass `name`; `changed`: whether the `Rewriter` was used.

        May raise `CheckFailed` to reject the pass.
        """


class VerifyEach(Instrument):
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
class Timing(Instrument):
    """Seconds by pass, in order of first run."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0

    def before_pass(self, name: str, model: ir.Model) -> None:
        self._started = time.perf_counter()

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._started


@dataclass
class Statistics(Instrument):
    """Node counts after each pass that changed something."""

    nodes: list[tuple[str, int]] = field(default_factory=list)

    def before_pass(self, name: str, model: ir.Model) -> None:
        if not self.nodes:
            self.nodes.append(("", sum(1 for _ in ir.nodes(model))))

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        if changed:
            self.nodes.append((name, sum(1 for _ in ir.nodes(model))))


ALL = "all"
"""Stands for every pass."""


@dataclass(frozen=True)
class PrintIr(Instrument):
    """Write the model's text before and after passes of these names (`all`: of every one).

    `changed`: after passes that changed the model alone; of every pass, where `after` is empty.
    """

    write: Callable[[str], None]
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    changed: bool = False

    def before_pass(self, name: str, model: ir.Model) -> None:
        if not self.before.isdisjoint((name, ALL)):
            self.write(f"// before {name}\n{ir.text(model)}")

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        wanted = self.after or ({ALL} if self.changed else set())
        if not wanted.isdisjoint((name, ALL)) and (changed or not self.changed):
            self.write(f"// after {name}{'' if changed else ', which changed nothing'}\n{ir.text(model)}")


class DumpEach(Instrument):
    """Write the original, and the model after each pass that changed it: `run1-003-simplify.onnx` is the third."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._run, self._passes = folder, 0, 0

    def before_run(self) -> None:
        self._run, self._passes = self._run + 1, 0

    def before_pass(self, name: str, model: ir.Model) -> None:
        if not self._passes:
            self._dump("original", model)

    def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
        if changed:
            self._dump(name, model)

    def _dump(self, name: str, model: ir.Model) -> None:
        path = self._folder / f"run{self._run}-{self._passes:03d}-{name}.onnx"
        self._passes += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model.clone(), path)


class Progress(Instrument):
    """Calls `tell` with the name of the pass that is about to run."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def before_pass(self, name: str, model: ir.Model) -> None:
        self._tell(name)
