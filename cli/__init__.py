"""The command: `optimize-graph IN OUT`, or `optimize-graph VERB …`. Dispatches; each verb parses, calls and prints.

Exit codes: 0 done; 1 the model or the pipeline is at fault; 2 usage; 3 verification could not be satisfied; 4 a gate is
missed; 128 + n: stopped by signal n. Nothing but results goes to standard output.
Everything heavy is imported late: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import FrameType, ModuleType
from typing import Any

from . import verbs

DONE, AT_FAULT, USAGE, UNVERIFIED, GATE_MISSED = 0, 1, 2, 3, 4
MAIN = "optimize"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives back the exit code."""
    return guarded(lambda failure: _run(arguments, failure))


def _run(arguments: Sequence[str] | None, failure: Failure) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in models are any text, terminals are not
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words.pop(0) if words and words[0] in names() else MAIN
    chosen = module(verb)
    parser = parser_of(verb)
    failure.wants_json = "--json" in words
    failure.given = parser.parse_args(words)
    failure.wants_json = bool(getattr(failure.given, "json", False))
    return int(chosen.run(failure.given, parser))


def names() -> tuple[str, ...]:
    """The verbs: a file each in `cli/verbs`, `_` for `-`."""
    return tuple(sorted(each.name.replace("_", "-") for each in pkgutil.iter_modules(verbs.__path__)))


def module(verb: str) -> ModuleType:
    """The module of a verb: it has a docstring, `add_arguments(parser)` and `run(given, parser)`."""
    return importlib.import_module(f"{verbs.__name__}.{verb.replace('-', '_')}")


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


@dataclass
class Failure:
    """How a failure is told besides the line on standard error: what was asked, as far as it was read."""

    given: argparse.Namespace | None = None
    wants_json: bool = False

    def tell(self, error: BaseException, code: str, message: str) -> None:
        """Write the failure to standard output for --json, and to the files of --report."""
        reports = list(getattr(self.given, "report", None) or [])
        if not self.wants_json and not reports:
            return
        import json

        from ..render.json_report import failure_document, write_failure

        document = failure_document(error, code, message)
        if self.wants_json:
            print(json.dumps(document, indent=2))
        for path in reports:
            with suppress(OSError):  # the failure that is told matters more
                write_failure(document, path)


def guarded(work: Callable[[Failure], int]) -> int:
    """Run `work`; what goes wrong becomes one message and an exit code, never a traceback."""
    failure = Failure()
    with _Stop() as stop:
        try:
            return work(failure)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what read the output has gone
            return DONE
        except BaseException as error:
            if stop.signal:  # whatever it became on its way: an import that is interrupted raises ImportError
                return _stopped(stop.signal, error, failure)
            return _fail(error, failure)


def _fail(error: BaseException, failure: Failure) -> int:
    """One line for what a person can do something about; raises `error` again where it is a defect of this package."""
    from ..ir.diagnostics import OptimizeGraphError, OptionsError, VerificationError

    code, message = "internal-error", f"{type(error).__name__}: {error}"
    match error:
        case OptimizeGraphError():
            exit_code = {VerificationError: UNVERIFIED, OptionsError: USAGE}.get(type(error), AT_FAULT)
            code, message = error.diagnostic.code, str(error)
        case MemoryError():
            exit_code, code, message = AT_FAULT, "out-of-memory", "out of memory; nothing was written"
        case KeyboardInterrupt():
            return _stopped(signal.SIGINT, error, failure)
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            exit_code, code, message = AT_FAULT, "system-error", f"{place}{error.strerror or error}"
        case Exception():
            failure.tell(error, code, message)
            raise error
        case _:  # SystemExit of the parser
            raise error
    print(f"optimize-graph: error: {message}", file=sys.stderr)
    failure.tell(error, code, message)
    return exit_code


def _stopped(number: int, error: BaseException, failure: Failure) -> int:
    word = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    message = f"{word}; nothing was written"
    with suppress(OSError):  # after SIGHUP there is no terminal
        print(f"optimize-graph: {message}", file=sys.stderr)
        failure.tell(error, "stopped", message)
    exec("")  # resets CPython's mark of an interrupt within exec(str), as dataclasses use: it would end by SIGINT
    return 128 + number


_AGAIN_S = 0.02


def _is_loading_extension(frame: FrameType | None) -> bool:
    """Whether an extension module is being initialized: an exception in the middle of that crashes onnx's."""
    while frame is not None:
        loader = frame.f_locals.get("self") if frame.f_code.co_name in ("create_module", "exec_module") else None
        if type(loader).__name__ == "ExtensionFileLoader":
            return True
        frame = frame.f_back
    return False


class _Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into an exception, so that temporary files are removed on the way out.

    Only in the main thread, and only signals that nothing else handles or ignores (as nohup does with SIGHUP). Once one
    has come, further ones are ignored while files are removed.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            return
        if _is_loading_extension(frame):
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        self.signal = number
        raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
