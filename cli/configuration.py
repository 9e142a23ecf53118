"""Options from a file: `[tool.optimize-graph]` of the nearest `pyproject.toml` that has it, or what `--config` names.

Keys are the options' names without dashes (`verify = false` for --no-verify). `[[model]]` sections hold for the models
that their `match` fits, later ones over earlier ones; the command line wins over both. Paths are relative to the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NoReturn

from ..option_kinds import BYTES, CACHE, Kind, Range, number, path, several, text
from ..options import declarations

TABLE, MODEL, MATCH = "optimize-graph", "model", "match"

WORDS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "boolean": ("true or false", bool),
    "integer": ("an integer", int),
    "number": ("a number", (int, float)),
    "string": ("a string", str),
    "array": ("an array", list),
    "object": ("a table", dict),
}
"""Types of JSON Schema, as TOML calls them and as `tomllib` reads them."""


BUILD: Mapping[str, tuple[Kind, str]] = {
    "sources": (several(text("GLOB"), "globs"), "models of a build: files, folders, globs as models/**/*.onnx"),
    "output-dir": (path("DIR"), "folder of a build's results, reports and index page"),
    "jobs": (number(Range(1, 4096, True)), "jobs of a build at once (by cores and memory)"),
    "executor": (text("processes|dask://HOST:PORT"), "where a build's jobs run"),
    "cache-dir": (CACHE, "where results are kept for the next build (the user's cache folder), or off"),
    "cache-size": (BYTES, "most that kept results take; the least recently used go (10GiB)"),
}
"""Keys for `optimize-graph build` alone, with what they say; the flags are named alike."""


@dataclass(frozen=True)
class Configuration:
    """The table of a file; without `path`, an empty one."""

    path: Path | None
    table: Mapping[str, object]

    def options(self, model: Path) -> Mapping[str, tuple[object, str]]:
        """The options for a model: for each field of `Options` its value, and where it stands."""
        return {} if self.path is None else dict(_fields(self.path, self.table, model))

    def build(self) -> Mapping[str, Any]:
        """What the file says of a build, by key; globs are absolute."""
        found: dict[str, Any] = {}
        for key in BUILD.keys() & self.table.keys():
            found[key] = _value(str(self.path), key, BUILD[key][0], self.table[key], self.folder)
        if "sources" in found:
            found["sources"] = [str(self.folder / each) for each in found["sources"]]
        return found

    @property
    def folder(self) -> Path:
        """What paths are relative to."""
        return Path() if self.path is None else self.path.parent


def load(config: Path | Literal["off"] | None) -> Configuration:
    """The configuration of `--config`, or the nearest. Raises OptionsError for a file that cannot be read.

    So do its methods for an unknown key and a wrong value, with the nearest name.
    """
    if config == "off":
        return Configuration(None, {})
    return Configuration(*(_nearest() if config is None else (config, _table(_parsed(config)))))


def read(config: Path | Literal["off"] | None, model: Path) -> Mapping[str, tuple[object, str]]:
    """The options that a file gives for a model: for each field of `Options` its value, and where it stands."""
    return load(config).options(model)


def _nearest() -> tuple[Path | None, Mapping[str, object]]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        path = folder / "pyproject.toml"
        if path.is_file() and TABLE.encode() in path.read_bytes():  # others are not ours to judge
            tool = _parsed(path).get("tool")
            if isinstance(tool, Mapping) and isinstance(tool.get(TABLE), Mapping):
                return path, tool[TABLE]
    return None, {}


def _table(document: Mapping[str, Any]) -> Mapping[str, object]:
    """The table of a file that is called by name: as in `pyproject.toml`, or all of it."""
    tool = document.get("tool")
    found = tool.get(TABLE) if isinstance(tool, Mapping) else None
    return found if isinstance(found, Mapping) else document


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # of TOML, and of UTF-8
        _reject(path, (error.strerror if isinstance(error, OSError) else None) or str(error))


def _fields(path: Path, table: Mapping[str, object], model: Path) -> Iterator[tuple[str, tuple[object, str]]]:
    sections = table.get(MODEL, [])
    if not isinstance(sections, list) or not all(isinstance(each, dict) for each in sections):
        _reject(path, f"{MODEL!r} is {sections!r}, expected sections [[{MODEL}]]")
    yield from _section(path, {key: value for key, value in table.items() if key not in (MODEL, *BUILD)}, "")
    for section in sections:
        pattern = section.get(MATCH)
        if not isinstance(pattern, str):
            _reject(path, f"[[{MODEL}]]: {MATCH!r} is {pattern!r}, expected a string like 'models/bert*.onnx'")
        fields = list(
            _section(path, {key: value for key, value in section.items() if key != MATCH}, f", {MODEL} {pattern}")
        )
        if fnmatchcase(_relative(model, path.parent), pattern) or fnmatchcase(model.absolute().as_posix(), pattern):
            yield from fields


def _relative(model: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(model, folder)).as_posix()
    except ValueError:  # another drive
        return model.as_posix()


def _section(path: Path, section: Mapping[str, object], place: str) -> Iterator[tuple[str, tuple[object, str]]]:
    from ..ir.diagnostics import did_you_mean

    known = {declared.key: (name, declared.kind) for name, declared in declarations() if declared.group}
    where = f"{path}{place}"
    for key, value in section.items():
        if key not in known:
            names = known if place else {*known, *BUILD}
            _reject(where, f"unknown key {key!r}{did_you_mean(key, names)}", "docs/options.md lists all keys")
        name, kind = known[key]
        yield name, (_value(where, key, kind, value, path.parent), where)


def _value(where: str, key: str, kind: Kind, value: object, folder: Path) -> object:
    from ..ir.diagnostics import Location, OptionsError

    if expected := _expected(kind.schema, value):
        _reject(where, f"option {key!r} is {value!r}, expected {expected}")
    try:
        return kind.check(key, _with_paths(kind, value, folder))
    except OptionsError as error:
        raise OptionsError(replace(error.diagnostic, where=Location(file=where))) from error


def _expected(schema: Mapping[str, Any], value: object) -> str:
    """The type that `value` should have; empty where it has it."""
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    words = " or ".join(WORDS[kind][0] for kind in kinds)
    if not any(isinstance(value, WORDS[kind][1]) and (kind == "boolean") == isinstance(value, bool) for kind in kinds):
        return words
    parts: Iterable[object] = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    inner = schema.get("items") or schema.get("additionalProperties") or {}
    wrong = next(filter(None, (_expected(inner, part) for part in parts)), "")
    return f"{words} of which each value is {wrong}" if wrong else ""


def _with_paths(kind: Kind, value: object, folder: Path) -> object:
    if not kind.is_path:
        return value
    if isinstance(value, list):
        return [_with_paths(kind, each, folder) for each in value]
    parsed = kind.parse(str(value))
    return folder / parsed if isinstance(parsed, Path) else parsed


def _reject(where: Path | str, message: str, hint: str = "") -> NoReturn:
    from ..ir.diagnostics import Diagnostic, Location, OptionsError  # late: heavy

    raise OptionsError(Diagnostic("invalid-configuration", message, Location(file=str(where)), hint))
