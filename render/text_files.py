"""Text files that are there complete, or not at all, and the templates of pages."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from .. import ir

if TYPE_CHECKING:
    import jinja2


def template(name: str) -> jinja2.Template:
    """A template of this folder."""
    import jinja2  # late: most runs write no page

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(name)


def write_report(path: Path, text: str) -> None:
    """Write a report. Raises EnvironmentSetupError when the file cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise ir.EnvironmentSetupError(ir.Diagnostic("report-not-written", f"{path}: {error.strerror}")) from error


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it; what is no regular file as it is. Raises OSError."""
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    place = path.resolve()  # a link stays one
    part = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
