"""The temporary folder of a job. What the disk refuses becomes an error that says which folder, and what to do."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import ir

_HINT = "the environment variable TMPDIR names another folder"


@contextmanager
def workspace() -> Iterator[Path]:
    """A new folder, removed at the end.

    Raises MachineError: `no-temporary-folder` when there is none to be had, `disk-full` and `temporary-folder-failed`
    when something in it cannot be written. Other errors pass through.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="optimize-graph-", ignore_cleanup_errors=True)
    except OSError as error:
        message = f"no temporary folder can be made: {error.strerror or error}"
        raise ir.EnvironmentSetupError(ir.Diagnostic("no-temporary-folder", message, hint=_HINT)) from error
    with folder as name:
        try:
            yield Path(name)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not is_full and not str(error.filename or "").startswith(name):
                raise
            code = "disk-full" if is_full else "temporary-folder-failed"
            where = ir.Location(file=str(error.filename or name))
            message = f"cannot be written: {error.strerror or error}"
            raise ir.EnvironmentSetupError(ir.Diagnostic(code, message, where, _HINT)) from error
