"""The command: `optimize-graph IN OUT`, or `optimize-graph VERB …`. Dispatches; each verb parses, calls and prints.

Exit codes: 0 done; 1 the model or the pipeline is at fault; 2 usage; 3 verification could not be satisfied. Nothing but
results goes to standard output. Everything heavy is imported late: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import ModuleType

from . import verbs

DONE, AT_FAULT, USAGE, UNVERIFIED = 0, 1, 2, 3
MAIN = "optimize"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives back the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in models are any text, terminals are not
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words.pop(0) if words and words[0] in names() else MAIN
    chosen = module(verb)
    parser = parser_of(verb)
    return _guarded(lambda: int(chosen.run(parser.parse_args(words), parser)))


def names() -> tuple[str, ...]:
    """The verbs: a file each in `cli/verbs`."""
    return tuple(sorted(each.name for each in pkgutil.iter_modules(verbs.__path__)))


def module(verb: str) -> ModuleType:
    """The module of a verb: it has a docstring, `add_arguments(parser)` and `run(given, parser)`."""
    return importlib.import_module(f"{verbs.__name__}.{verb}")


def summary(verb: str) -> str:
    """The first line of what a verb says of itself."""
    return (module(verb).__doc__ or "").splitlines()[0]


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb. That of the main job knows `--version` and lists the others."""
    is_main = verb == MAIN
    others = "\n".join(f"  {name:12s} {summary(name)}" for name in names() if name != MAIN) if is_main else ""
    parser = argparse.ArgumentParser(
        prog="optimize-graph" if is_main else f"optimize-graph {verb}",
        description=module(verb).__doc__,
        epilog=f"other jobs (optimize-graph VERB --help):\n{others}\n\n{module(verb).EPILOG}" if is_main else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if is_main:
        parser.add_argument("--version", action="version", version=f"%(prog)s {version('optimize-graph')}")
    module(verb).add_arguments(parser)
    return parser


def everything() -> argparse.ArgumentParser:
    """One parser that knows all verbs and their options: for completion."""
    parser = argparse.ArgumentParser(prog="optimize-graph")
    subparsers = parser.add_subparsers()
    for name in names():
        module(name).add_arguments(subparsers.add_parser(name, help=summary(name)))
    return parser


def _guarded(work: Callable[[], int]) -> int:
    """Run `work`; what goes wrong becomes one message and an exit code, never a traceback."""
    from ..ir.diagnostics import OptimizeGraphError, VerificationError

    try:
        return work()
    except VerificationError as error:
        return _fail(error, UNVERIFIED)
    except OptimizeGraphError as error:
        return _fail(error, AT_FAULT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read the output has gone
        return DONE
    except KeyboardInterrupt:
        print("optimize-graph: interrupted; nothing was written", file=sys.stderr)
        return 130
    except MemoryError:
        print("optimize-graph: error: out of memory; nothing was written", file=sys.stderr)
        return AT_FAULT


def _fail(error: Exception, code: int) -> int:
    print(f"optimize-graph: error: {error}", file=sys.stderr)
    return code
