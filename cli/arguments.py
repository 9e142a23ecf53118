"""Arguments that several verbs share, made from the declarations of `Options`.

An option that is not given is absent from what the parser returns, so that a configuration file can give it.
"""

from __future__ import annotations

import argparse
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..option_kinds import CACHE, SECONDS
from ..options import Group, Option, Options, declarations, defaults
from .configuration import BUILD, read

if TYPE_CHECKING:
    from ..runtime import SessionOptions

PER_MODEL = ("inputs", "threads", "provider", "custom_ops", "seed", "follow_symlinks")


def add_groups(parser: argparse.ArgumentParser, *groups: Group) -> None:
    """Add all options of these groups, each group under its heading."""
    for group in groups:
        section = parser.add_argument_group(group)
        add(section, *(name for name, declared in declarations() if declared.group == group))


def add(parser: argparse._ActionsContainer, *names: str) -> None:
    """Add the options of these fields of `Options`."""
    for name, declared in declarations():
        if name in names:
            _add(parser, name, declared)


def _add(parser: argparse._ActionsContainer, name: str, declared: Option) -> None:
    kind, default = declared.kind, getattr(defaults(), name)
    if kind.is_flag:
        action = "store_false" if declared.is_negated else "store_true"
        other = "store_true" if declared.is_negated else "store_false"
        parser.add_argument(declared.flag, dest=name, action=action, default=SUPPRESS, help=declared.help)
        parser.add_argument(declared.opposite, dest=name, action=other, default=SUPPRESS, help=SUPPRESS)
        return
    more: dict[str, Any] = {"type": argparse_type(_release if name == "min_ort" else kind.parse)}
    if kind.choices:
        more = {"choices": kind.choices}
    else:
        more["metavar"] = declared.metavar
    if kind.is_repeated:
        more["action"] = "append"
    shown = (
        f" ({default:g})" if isinstance(default, float) else f" ({default})" if isinstance(default, (int, str)) else ""
    )
    parser.add_argument(declared.flag, dest=name, default=SUPPRESS, help=declared.help + shown, **more)


def argparse_type(parse: Callable[[str], object]) -> Callable[[str], object]:
    """`parse` with the error that argparse shows."""

    def parsed(word: str) -> object:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def add_seconds(parser: argparse._ActionsContainer, default: float, text: str) -> None:
    """Add `--seconds`, a time limit."""
    parser.add_argument(
        "--seconds", type=argparse_type(SECONDS.parse), default=default, metavar="S", help=f"{text} ({default:g})"
    )


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add `--json`, for verbs that print a table."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_config(parser: argparse._ActionsContainer) -> None:
    """Add `--config`, where options may stand besides."""
    parser.add_argument(
        "--config",
        type=CACHE.parse,
        metavar="FILE.toml|off",
        help="options from this file (the nearest pyproject.toml with [tool.optimize-graph])",
    )


def add_build(parser: argparse._ActionsContainer) -> None:
    """Add the flags of a build's own keys, but for the models."""
    for key, (kind, text) in BUILD.items():
        if key != "sources":
            parser.add_argument(
                f"--{key}", type=argparse_type(kind.parse), metavar=kind.metavar, default=SUPPRESS, help=text
            )


def configured(given: argparse.Namespace, parser: argparse.ArgumentParser, model: Path) -> Options:
    """The options that the arguments give, then those of a configuration as far as this verb has them."""
    known = {action.dest for action in parser._actions}
    return options(given, {name: value for name, value in read(given.config, model).items() if name in known})


def session_options(given: Options) -> SessionOptions:
    """How models are run, as the options of group `execution` say."""
    from ..runtime import SessionOptions

    threads = 1 if given.threads is None else given.threads
    return SessionOptions(
        provider=given.provider or "cpu", threads=threads, custom_ops=given.custom_ops, seed=given.seed
    )


def options(given: argparse.Namespace, configured: Mapping[str, tuple[object, str]] | None = None) -> Options:
    """The options that the arguments give, then those of a configuration with their sources, then the defaults."""
    fields = dict(configured or {})
    for name, value in vars(given).items():
        if name in Options.__dataclass_fields__:
            is_mapping = isinstance(getattr(defaults(), name), Mapping)
            fields[name] = (dict(value) if is_mapping else value, "command line")
    values: dict[str, Any] = {name: value for name, (value, _) in fields.items()}
    return Options(**values, sources={name: source for name, (_, source) in fields.items()})


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show the present step on a terminal; silent elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("load") as status:
        yield status.update


def output_file(text: str) -> Path:
    """The path of a file to be written. `-` is refused: a model and its data are verified as files."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file; standard output is not supported")
    return Path(text)


def _release(text: str) -> str:
    """A release of ONNX Runtime that is known, or the installed one. Raises PipelineError."""
    from ..jobs.optimization.target_versions import check_release

    check_release(text)
    return text
