"""The command in this process: to import the package takes longer than most of what it is asked for."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

from optimize_graph.cli import main


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The exit code and the output of `optimize-graph ARGUMENTS`."""
    words, out, err = [*map(str, arguments)], io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:  # of the parser
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
