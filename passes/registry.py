"""The registry of passes, rules and presets: they register by decorator, and there is no central list.

The catalogue's folders are imported on first use, then the entry points of group `optimize_graph.plugins`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .. import ir
from .pipeline.exactness import Exactness
from .pipeline.pass_ import Pass, is_foreign
from .pipeline.pipeline_parser import NAME

if TYPE_CHECKING:
    from .rewriting.rewrite_rule import Rule

CATALOGUE = ("presets", "phases", "cleanup", "recognize", "simplify", "ort")
ENTRY_POINTS = "optimize_graph.plugins"
P = TypeVar("P", bound=type[Pass])
V = TypeVar("V")


class Owner(NamedTuple):
    """Where a name was registered: the module, and the qualified name in it."""

    module: str
    qualname: str

    def may_redefine(self, other: Owner) -> bool:
        """Whether this is the same definition once more: a cell of a notebook run again, a module reloaded."""
        return self.module == other.module and (self.module == "__main__" or self.qualname == other.qualname)


@dataclass
class _Layer:
    """Registrations of one plugin, or of the package.

    Replaced, never changed in place: other threads may iterate over it.
    """

    passes: Mapping[str, type[Pass]] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    presets: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, Owner] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        for kind in ("passes", "rules", "presets", "owners"):
            setattr(self, kind, {key: each for key, each in getattr(self, kind).items() if key != name})


class Registry:
    """Passes, rules and presets by name. A name belongs to one definition: duplicates are an error.

    Defining the same name again in the same place (module and qualified name, or anywhere in `__main__`) replaces it.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._base = _Layer()
        self._plugins: dict[str, _Layer] = {}
        self._lock = threading.RLock()  # short: a registration
        self._discovery = threading.RLock()  # long: imports; never taken by a registration
        self._is_discovering = False
        self._discovered = False
        self._active: ContextVar[tuple[str, ...]] = ContextVar("optimize_graph.plugins", default=())
        self._loading: ContextVar[str] = ContextVar("optimize_graph.loading", default="")

    @property
    def passes(self) -> Mapping[str, type[Pass]]:
        """The passes in force, by name."""
        self.discover()
        return self._merged([each.passes for each in self._layers()])

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules in force, by name."""
        self.discover()
        return self._merged([each.rules for each in self._layers()])

    @property
    def presets(self) -> Mapping[str, str]:
        """Pipelines in text form, by name."""
        self.discover()
        return self._merged([each.presets for each in self._layers()])

    @staticmethod
    def _merged(layers: Sequence[Mapping[str, V]]) -> Mapping[str, V]:
        if len(layers) == 1:
            return MappingProxyType(layers[0])
        return {name: each for layer in layers for name, each in layer.items()}

    def _layers(self) -> list[_Layer]:
        """The layers that are in force here: what is registered for good, and the plugins of this call."""
        names = dict.fromkeys((*self._active.get(), *filter(None, [self._loading.get()])))
        return [self._base, *(self._plugins[name] for name in names if name in self._plugins)]

    def add_pass(self, kind: P) -> P:
        """Register a pass class (also usable as its decorator). Raises PipelineError for a name that is taken."""
        faults: list[str] = []
        if not isinstance(kind.exactness, Exactness):
            faults.append(f"exactness is {kind.exactness!r}, expected a member of Exactness")
        if not isinstance(kind.phases, frozenset):
            faults.append(f"phases is {kind.phases!r}, expected a frozenset of members of Phase")
        reject(f"pass {kind.name!r}", [*name_faults(kind.name), *faults])
        with self._lock:
            layer = self._claim(kind.name, Owner(kind.__module__, kind.__qualname__))
            layer.passes = {**layer.passes, kind.name: kind}
        return kind

    def add_rule(self, rule: Rule) -> Rule:
        """Register a rule. Raises PipelineError for a name that is taken."""
        with self._lock:
            layer = self._claim(rule.name, Owner(rule.module, rule.body.__qualname__))
            layer.rules = {**layer.rules, rule.name: rule}
        return rule

    def add_preset(self, name: str, text: str, owner: str) -> None:
        """Register a pipeline under a name that other pipelines may use."""
        reject(f"preset {name!r}", name_faults(name))
        with self._lock:
            layer = self._claim(name, Owner(owner, name))
            layer.presets = {**layer.presets, name: text}

    def _claim(self, name: str, owner: Owner) -> _Layer:
        """The layer that `owner` registers `name` in, where the name is free or its own."""
        for layer in self._layers():
            known = layer.owners.get(name)
            if known is None:
                continue
            if not owner.may_redefine(known):
                raise _duplicate(name, known, owner)
            layer.forget(name)
        layer = self._plugins[self._loading.get()] if self._loading.get() else self._base
        layer.owners = {**layer.owners, name: owner}
        return layer

    @contextmanager
    def scope(self) -> Iterator[Registry]:
        """Forget at the end what is registered inside: for tests."""
        self.discover()
        base = _Layer(**vars(self._base))
        plugins = {name: _Layer(**vars(layer)) for name, layer in self._plugins.items()}
        try:
            yield self
        finally:
            self._base, self._plugins = base, plugins

    @contextmanager
    def using(self, modules: Sequence[str]) -> Iterator[Registry]:
        """Let the passes, rules and presets of plugin modules take part inside, in this thread's context alone.

        A module is imported once; what it registers while it is imported belongs to it. What it registered before,
        imported by other means, is there for good. Raises PipelineError when one cannot be imported, and when two of
        them register one name.
        """
        self.discover()
        for module in modules:
            self._load_plugin(module)
        active = tuple(dict.fromkeys((*self._active.get(), *modules)))
        owners: dict[str, Owner] = {}
        for layer in (self._base, *(self._plugins[name] for name in active if name in self._plugins)):
            for name, owner in layer.owners.items():
                if name in owners:
                    raise _duplicate(name, owners[name], owner)
                owners[name] = owner
        token = self._active.set(active)
        try:
            yield self
        finally:
            self._active.reset(token)

    def _load_plugin(self, module: str) -> None:
        with self._discovery:
            if module in self._plugins:
                return
            self._plugins[module] = _Layer()
            token = self._loading.set(module)
            try:
                _load(module, "plugin")
            except BaseException:
                del self._plugins[module]
                raise
            finally:
                self._loading.reset(token)

    def discover(self) -> None:
        """Import the catalogue and the installed plugins, once. Other threads wait until that is done."""
        if self._discovered:
            return
        with self._discovery:
            if self._discovered or self._is_discovering:  # what is imported asks the registry too
                return
            self._is_discovering = True
            try:
                self._import_catalogue()
                self._discovered = True
            finally:
                self._is_discovering = False

    def _import_catalogue(self) -> None:
        package = __package__
        for name in CATALOGUE:
            found = importlib.import_module(f"{package}.{name}")
            for module in pkgutil.walk_packages(getattr(found, "__path__", ()), f"{found.__name__}."):
                importlib.import_module(module.name)
        for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
            _load(entry.value, f"plugin {entry.name!r}")

    def plugin_modules(self) -> list[str]:
        """The modules outside of this package that something in force here was registered by."""
        owners = {owner.module for layer in self._layers() for owner in layer.owners.values()}
        return sorted(module for module in owners if is_foreign(module))


def reject(what: str, faults: Sequence[str]) -> None:
    """Raise PipelineError when there are faults."""
    if faults:
        raise ir.PipelineError(ir.Diagnostic("unreadable-rule", f"{what}: {'; '.join(faults)}"))


def name_faults(name: object) -> list[str]:
    """Why a name cannot be written in the text of a pipeline or in --disable."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [f"{name!r} is no name: expected letters, digits, dashes, dots, and a letter first"]


def _duplicate(name: str, known: Owner, owner: Owner) -> ir.PipelineError:
    message = f"{name!r} is registered by {known.module} and again by {owner.module}"
    if known.module == owner.module:
        message += f" ({known.qualname}, {owner.qualname})"
    return ir.PipelineError(ir.Diagnostic("duplicate-name", message, hint="give one of them another name"))


def _load(module: str, what: str) -> None:
    try:
        importlib.import_module(module.partition(":")[0])
    except ir.PipelineError:
        raise
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
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
