"""The text form of pipelines: `fixpoint(canonicalize,cse,dce),simplify{limit=3}`. Errors point at the column."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType

from ... import ir
from .pass_ import Pass

NAME = re.compile(r"[A-Za-z_][\w.-]*")
"""The name of a pass, rule or preset."""
_VALUE = re.compile(r"[^{},()\s]+")

Option = int | float | bool | str | tuple[str, ...] | None


class Reader:
    """A cursor over the text of a pipeline."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def skip(self) -> None:
        """Skip white space."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def peek(self) -> str:
        """The next character, or an empty text at the end."""
        self.skip()
        return self.text[self.position : self.position + 1]

    def take(self, character: str) -> bool:
        """Consume `character` if it comes next."""
        if self.peek() != character:
            return False
        self.position += 1
        return True

    def expect(self, character: str) -> None:
        """Consume `character`. Raises PipelineError where another comes next."""
        if not self.take(character):
            self.fail(f"expected {character!r}")

    def word(self, pattern: re.Pattern[str], what: str) -> str:
        """Consume what `pattern` matches. Raises PipelineError where it does not, naming `what` is expected."""
        self.skip()
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail(f"expected {what}")
        self.position = found.end()
        return found.group()

    def fail(self, message: str, at: int | None = None) -> typing.NoReturn:
        """Raise a PipelineError with a caret under the place."""
        column = self.position if at is None else at
        raise ir.PipelineError(
            ir.Diagnostic(
                "pipeline-syntax", f"{message}\n  {self.text}\n  {' ' * column}^", hint="see optimize-graph passes"
            )
        )


def read_name(reader: Reader) -> tuple[str, int]:
    """The next name, and where it starts."""
    reader.skip()
    start = reader.position
    return reader.word(NAME, "the name of a pass"), start


def read_options(reader: Reader) -> dict[str, tuple[str, int]]:
    """The raw options `{key=value,…}` that follow, if any, each with the place of its key."""
    options: dict[str, tuple[str, int]] = {}
    if not reader.take("{"):
        return options
    while not reader.take("}"):
        if options:
            reader.expect(",")
        reader.skip()
        start = reader.position
        key = reader.word(NAME, "an option")
        if key.replace("-", "_") in options:
            reader.fail(f"{key!r} is given twice", start)
        reader.expect("=")
        options[key.replace("-", "_")] = (reader.word(_VALUE, f"a value for {key!r}"), start)
    return options


def make(kind: type[Pass], raw: Mapping[str, tuple[str, int]], reader: Reader) -> Pass:
    """The pass that `kind` and its options in text describe."""
    hints = _hints(kind)
    fields = {field.name for field in dataclasses.fields(typing.cast(typing.Any, kind))}
    options: dict[str, Option] = {}
    for key, (text, start) in raw.items():
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            reader.fail(f"{kind.name!r} has no option {key!r} (it has: {known})", start)
        try:
            options[key] = convert(text, hints[key])
        except ValueError:
            reader.fail(f"{key}={text} does not fit: {kind.name!r} wants {_spell(hints[key])}", start)
    build = typing.cast(Callable[..., Pass], kind)
    return build(**options)


@cache
def _hints(kind: type[Pass]) -> Mapping[str, object]:
    return typing.get_type_hints(kind)


def convert(text: str, hint: object) -> Option:
    """`text` as a value of the type `hint`. Raises ValueError when it is none."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        kinds = typing.get_args(hint)
        if text == "none" and NoneType in kinds:
            return None
        (hint,) = (kind for kind in kinds if kind is not NoneType)
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    if hint is int:
        return int(text)
    if hint is float:
        return float(text)
    if typing.get_origin(hint) is tuple:
        return tuple(text.split("|"))
    return text


def show(step: Pass) -> str:
    """A pass in text form: its name, and the options that differ from their defaults."""
    shown = [
        f"{field.name}={_show(value)}"
        for field in dataclasses.fields(typing.cast(typing.Any, step))
        if (value := getattr(step, field.name)) != field.default
    ]
    return step.name + (f"{{{','.join(shown)}}}" if shown else "")


def _show(value: Option) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "|".join(value) if isinstance(value, tuple) else str(value)


def _spell(hint: object) -> str:
    return getattr(hint, "__name__", str(hint))
