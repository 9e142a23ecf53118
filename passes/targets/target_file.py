"""Target files: read, checked, found by name or path, and merged with what they extend.

The built-in targets are such files, in `data/`; a package brings its own by an entry point of group
`optimize_graph.targets`: `acme-npu = "acme_targets:npu.toml"`, a file in the package `acme_targets`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ... import ir
from ...ir.standard.custom_operators import operator_function
from .ort_releases import release_number
from .target_schema import PHASES, PROFIT, Fault, faults, line_of

ENTRY_POINTS: Final = "optimize_graph.targets"
FOLDER: Final = Path(__file__).with_name("data")
SUFFIX: Final = ".toml"

Operator = tuple[str, str]
"""Domain ("" for the standard's) and name."""


@dataclass(frozen=True)
class Listed:
    """Operators with kernels for one set of types, versions and releases, as a file lists them."""

    operators: frozenset[Operator]
    inputs: Mapping[int, frozenset[str]]
    outputs: Mapping[int, frozenset[str]]
    versions: tuple[int, int]
    since: str
    until: str


@dataclass(frozen=True, eq=False, repr=False)
class TargetFile:
    """A target as its file says, with what it extends. The keys are described in `target_schema.SCHEMA`.

    Equal only to itself: a file that has not changed is read once. `digest`: of its content, and what it extends.
    """

    name: str
    origin: str
    digest: str = ""
    lineage: tuple[str, ...] = ()
    summary: str = ""
    source: str = ""
    runtime: str = "other"
    provider: str = ""
    fallback: str = ""
    rules: frozenset[str] = frozenset()
    phases: frozenset[str] = frozenset(PHASES)
    forbidden: frozenset[Operator] = frozenset()
    kernel_lists: tuple[Path, ...] = ()
    kernels: tuple[Listed, ...] = ()
    unlisted_domains: str = "refused"
    verify_provider: str = ""
    libraries: tuple[Path, ...] = ()
    bodies: tuple[str, ...] = ()
    always: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    profit: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        return f"<target {self.name} {self.digest}>"

    @property
    def lists_kernels(self) -> bool:
        """Whether it says what it runs; where it does not, everything may run."""
        return bool(self.kernel_lists or self.kernels)

    @property
    def restricts(self) -> bool:
        """Whether there is an operator that it does not run, or must not be given."""
        return self.lists_kernels or bool(self.forbidden)

    def register_bodies(self) -> None:
        """Register the meanings of its operators, for processes that run what is optimized for it."""
        for body in self.bodies:
            operator_function(body)

    def verified_by(self) -> str:
        """How a result is verified, in words."""
        parts = [f"ONNX Runtime, {self.verify_provider or 'cpu'}"]
        if self.libraries:
            parts.append(", ".join(path.name for path in self.libraries))
        elif self.bodies:
            parts.append("reference semantics")
        return " with ".join(parts)


def find(name: str | Path) -> TargetFile:
    """A target by name, or a file. Raises OptionsError for a name that is not known, and for a file that is wrong."""
    if isinstance(name, Path) or name.endswith(SUFFIX):
        return _from_path(Path(name), str(name))
    known = locations()
    if name not in known:
        message = f"no target is called {name!r}{ir.did_you_mean(name, known)}"
        raise ir.OptionsError(ir.Diagnostic("unknown-target", message, hint=f"{', '.join(known)}, or a file *.toml"))
    return _from_path(known[name].path(), known[name].origin)


@dataclass(frozen=True)
class Location:
    """Where the file of a target with a name is: in the package `module`, by its entry point; "" for this package."""

    module: str
    file: str

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"package {self.module}" if self.module else "built in"

    def path(self) -> Path:
        """The file. The package is imported only now: its rules import this one. Raises OptionsError where it fails."""
        if not self.module:
            return FOLDER / self.file
        try:
            return Path(str(files(self.module).joinpath(self.file)))
        except (ImportError, TypeError) as error:
            raise _wrong(f"{self.module}:{self.file}", f"the target's package cannot be imported: {error}") from error


@cache
def locations() -> Mapping[str, Location]:
    """The targets with a name: of this package, and of the entry points of others."""
    found = {path.stem: Location("", path.name) for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
        module, _, file = entry.value.partition(":")
        found.setdefault(entry.name, Location(module.strip(), file.strip()))
    return found


def for_provider(provider: str) -> TargetFile:
    """The built-in target for an execution provider of ONNX Runtime."""
    return next(each for each in map(find, built_in()) if each.provider == provider)


def built_in() -> list[str]:
    """The names of the targets of this package."""
    return [name for name, location in locations().items() if not location.module]


def _from_path(path: Path, origin: str) -> TargetFile:
    try:
        state = path.stat()
    except OSError as error:
        raise _wrong(str(path), f"the target file cannot be read: {error.strerror}") from None
    path, changes = path.resolve(), (state.st_mtime_ns, state.st_size)
    parent = _document(path, *changes).get("extends", "")
    base = None if not parent else find(path.parent / parent if parent.endswith(SUFFIX) else parent)
    return _extended(path, base, origin, *changes)


@cache
def _document(path: Path, *_changes: int) -> Mapping[str, Any]:
    document, found = checked(path)
    if found:
        raise ir.OptionsError(found[0])
    return document


@cache
def _extended(path: Path, base: TargetFile | None, origin: str, *changes: int) -> TargetFile:
    made = _merged(_document(path, *changes), base, path.parent, origin)
    content = [path.read_bytes(), b"" if base is None else base.digest.encode()]
    content += [each.read_bytes() for each in made.kernel_lists if base is None or each not in base.kernel_lists]
    return replace(made, digest=hashlib.blake2b(b"".join(content), digest_size=8).hexdigest())


def checked(path: Path) -> tuple[Mapping[str, Any], list[ir.Diagnostic]]:
    """The document in a file, and everything that is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        return {}, [_diagnostic(str(path), f"the target file cannot be read: {error.strerror}")]
    except ValueError as error:  # of TOML, and of UTF-8
        return {}, [_diagnostic(str(path), str(error))]
    found = list(faults(document)) or list(_unknown_names(document, path))
    placed = sorted((line_of(text, fault), fault.message, fault.hint) for fault in found)
    return document, [_diagnostic(f"{path}:{line}", message, hint) for line, message, hint in placed]


def _unknown_names(document: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    """Names of operators, types, files and targets in a well-formed document that nothing is called."""
    kernels = document.get("kernels", ())
    yield from _unknown_operators(("forbidden",), document.get("forbidden", ()))
    for index, each in enumerate(kernels):
        yield from _unknown_operators(("kernels", index, "operators"), each["operators"])
        yield from _malformed(each, ("kernels", index))
    for where in (("kernel-lists",), ("verify", "libraries")):
        table = document.get("verify", {}) if len(where) > 1 else document
        for name in table.get(where[-1], ()):
            if not (path.parent / name).is_file():
                yield Fault(where, f"there is no file {name!r}", f"expected beside {path.name}", name)
    for key in ("extends", "fallback"):
        name = document.get(key, "")
        if name.endswith(SUFFIX) and (path.parent / name).resolve() == path.resolve():
            yield Fault((key,), f"{name!r} is the file itself")
        elif name.endswith(SUFFIX) and not (path.parent / name).is_file():
            yield Fault((key,), f"there is no file {name!r}", f"expected beside {path.name}")
        elif name and not name.endswith(SUFFIX) and name not in locations():
            yield Fault((key,), f"no target is called {name!r}{ir.did_you_mean(name, locations())}")


def _unknown_operators(where: tuple[str | int, ...], texts: Sequence[str]) -> Iterator[Fault]:
    known = ir.standard_operators()[""]
    for text in texts:
        domain, name = operator(text)
        if not domain and name not in known:
            message = f"ONNX has no operator {text!r}{ir.did_you_mean(text, known)}"
            yield Fault(where, message, "operators of a vendor are written com.vendor::Name", text)


def _malformed(kernels: Mapping[str, Any], where: tuple[str | int, ...]) -> Iterator[Fault]:
    groups: list[tuple[str, tuple[str, ...], Sequence[str]]] = [("types", (), kernels.get("types", ()))]
    groups += [(key, (i,), names) for key in ("inputs", "outputs") for i, names in kernels.get(key, {}).items()]
    known = [each.name.lower() for each in ir.DataType]
    for key, inner, names in groups:
        if inner and not inner[0].isdigit():
            yield Fault((*where, key), f"{inner[0]!r} is no index of an input or output", "write { 1 = ['int64'] }")
        for name in names:
            if name.lower() not in known:
                yield Fault((*where, key, *inner), f"no element type {name!r}{ir.did_you_mean(name, known)}", "", name)
    first, dash, last = kernels.get("versions", "1").partition("-")
    if not first.isdigit() or (dash and last and not last.isdigit()):
        yield Fault((*where, "versions"), f"{kernels['versions']!r} is no range of versions", "as 7-13, 7- or 13")
    for key in ("since", "until"):
        if kernels.get(key) and release_number(kernels[key]) == (0, 0):
            yield Fault((*where, key), f"{kernels[key]!r} is no release of ONNX Runtime", "as 1.20")


def operator(text: str) -> Operator:
    """Domain and name of `Add` or `com.vendor::FusedThing`."""
    domain, _, name = text.rpartition("::")
    return ("" if domain == "ai.onnx" else domain), name


def _merged(document: Mapping[str, Any], base: TargetFile | None, folder: Path, origin: str) -> TargetFile:
    """A target from its document: lists are added to those of `base`, other keys replace them."""
    base = base or TargetFile("", "")
    verify, profit = document.get("verify", {}), document.get("profit", {})

    def more(table: Mapping[str, Any], key: str) -> Sequence[str]:
        found: Sequence[str] = table.get(key, ())
        return found

    libraries = (folder / each for each in more(verify, "libraries"))
    return TargetFile(
        name=document["name"],
        origin=origin,
        lineage=(document["name"], *base.lineage),
        summary=document.get("summary", base.summary),
        source=document.get("source", base.source),
        runtime=document.get("runtime", base.runtime),
        provider=document.get("provider", base.provider),
        fallback=document.get("fallback", base.fallback),
        rules=base.rules | {*more(document, "rules")},
        phases=frozenset(document.get("phases", base.phases)),
        forbidden=base.forbidden | {*map(operator, more(document, "forbidden"))},
        kernel_lists=(*base.kernel_lists, *(folder / each for each in more(document, "kernel-lists"))),
        kernels=(*base.kernels, *map(_listed, document.get("kernels", ()))),
        unlisted_domains=document.get("unlisted-domains", base.unlisted_domains),
        verify_provider=verify.get("provider", base.verify_provider),
        libraries=(*base.libraries, *libraries),
        bodies=(*base.bodies, *more(verify, "bodies")),
        always=base.always | {*more(profit, "always")},
        never=base.never | {*more(profit, "never")},
        profit={**base.profit, **{key: each for key, each in profit.items() if key in PROFIT}},
    )


def _listed(kernels: Mapping[str, Any]) -> Listed:
    first, dash, last = kernels.get("versions", "1-").partition("-")
    inputs = {int(index): _types(names) for index, names in kernels.get("inputs", {}).items()}
    if "types" in kernels:
        inputs = {0: _types(kernels["types"]), **inputs}
    return Listed(
        frozenset(map(operator, kernels["operators"])),
        inputs,
        {int(index): _types(names) for index, names in kernels.get("outputs", {}).items()},
        (int(first), int(last) if last else 1 << 30 if dash else int(first)),
        kernels.get("since", ""),
        kernels.get("until", ""),
    )


def _types(names: Sequence[str]) -> frozenset[str]:
    return frozenset(ir.DataType[name.upper()].short_name() for name in names)


def _diagnostic(where: str, message: str, hint: str = "") -> ir.Diagnostic:
    return ir.Diagnostic("invalid-target", message, ir.Location(file=where), hint)


def _wrong(where: str, message: str) -> ir.OptionsError:
    return ir.OptionsError(_diagnostic(where, message))
