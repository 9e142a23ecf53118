"""The registry of passes, rules and presets. Who defines one registers it there; nobody edits a list elsewhere.

The catalogue's folders are imported on first use, then the entry points of group `optimize_graph.plugins`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from ... import ir
from .pass_ import Pass

if TYPE_CHECKING:
    from .rule import Rule

STAGES = ("clean", "recognize", "simplify", "legalize")
ENTRY_POINTS = "optimize_graph.plugins"

P = TypeVar("P", bound=type[Pass])


class Registry:
    """Passes, rules and presets by name. A name is given once: duplicates are refused, naming both owners."""

    def __init__(self) -> None:
        self._passes: dict[str, type[Pass]] = {}
        self._rules: dict[str, Rule] = {}
        self._presets: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._discovered = False

    @property
    def passes(self) -> Mapping[str, type[Pass]]:
        self.discover()
        return MappingProxyType(self._passes)

    @property
    def rules(self) -> Mapping[str, Rule]:
        self.discover()
        return MappingProxyType(self._rules)

    @property
    def presets(self) -> Mapping[str, str]:
        """Pipelines in text form, by name."""
        self.discover()
        return MappingProxyType(self._presets)

    def add_pass(self, kind: P) -> P:
        """Register a pass class (also usable as its decorator)."""
        self._claim(kind.name, kind.__module__)
        self._passes[kind.name] = kind
        return kind

    def add_rule(self, rule: Rule) -> Rule:
        """Register a rule."""
        self._claim(rule.name, rule.module)
        self._rules[rule.name] = rule
        return rule

    def add_preset(self, name: str, text: str, owner: str) -> None:
        """Register a pipeline under a name that other pipelines may use."""
        self._claim(name, owner)
        self._presets[name] = text

    def _claim(self, name: str, owner: str) -> None:
        if name in self._owners:
            raise ir.PipelineError(
                ir.Diagnostic(
                    "duplicate-name",
                    f"{name!r} is registered by {self._owners[name]} and again by {owner}",
                    hint="give one of them another name",
                )
            )
        self._owners[name] = owner

    @contextmanager
    def scope(self) -> Iterator[Registry]:
        """What is registered inside vanishes at the end: for tests."""
        self.discover()
        kept = (dict(self._passes), dict(self._rules), dict(self._presets), dict(self._owners))
        try:
            yield self
        finally:
            self._passes, self._rules, self._presets, self._owners = kept

    def discover(self) -> None:
        """Import the catalogue and the installed plugins, once."""
        if self._discovered:
            return
        self._discovered = True  # said first: what is imported asks the registry too
        try:
            self._import_catalogue()
        except BaseException:
            self._discovered = False
            raise

    def _import_catalogue(self) -> None:
        package = __package__.rsplit(".", 1)[0]
        for name in ("presets", "rewrite"):
            importlib.import_module(f"{package}.engine.{name}")
        for stage in STAGES:
            if importlib.util.find_spec(f"{package}.{stage}") is None:
                continue
            folder = importlib.import_module(f"{package}.{stage}")
            for module in sorted(pkgutil.iter_modules(folder.__path__), key=lambda each: each.name):
                importlib.import_module(f"{folder.__name__}.{module.name}")
        for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
            _load(entry.value, f"plugin {entry.name!r}")

    def plug_in(self, module: str) -> None:
        """Import a plugin module by name; importing registers. Raises PipelineError when it cannot be imported."""
        self.discover()
        _load(module, "plugin")


def _load(module: str, what: str) -> None:
    try:
        importlib.import_module(module.partition(":")[0])
    except ir.PipelineError:
        raise
    except Exception as error:  # a plugin is somebody else's code: whatever it raises is its owner's to read
        raise ir.PipelineError(
            ir.Diagnostic(
                "plugin-import",
                f"{what} {module!r} cannot be imported: {error}",
                hint="is it installed in this environment?",
            )
        ) from error


REGISTRY = Registry()
"""The registry that the decorators `rule` and `register` write to and the command reads."""


def register(kind: P) -> P:
    """Class decorator: register a pass in `REGISTRY`."""
    return REGISTRY.add_pass(kind)
