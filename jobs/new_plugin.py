"""Writing a package of rules, passes and a target that passes its own tests at once."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from pathlib import Path

import jinja2

from .. import ir

TEMPLATE = Path(__file__).parent / "plugin_template"
"""Files of the package. In paths, `package` is its module, NAME its name; the suffix `.j2` is dropped."""


def new_plugin(folder: str | Path, name: str = "") -> list[Path]:
    """Write a package called `name` (by default like the folder) into a folder; the files that were written.

    Raises OptionsError for a name that no Python module can have, and for a folder that has something in it.
    """
    folder = Path(folder)
    distribution = (name or folder.resolve().name).replace("_", "-").lower()
    module = distribution.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise _refused(f"{module!r} is not the name of a Python module", "--name gives another")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _refused(f"{folder} is there and not empty", "name a new folder")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    written = []
    try:
        for template in _templates():
            parts = (module if part == "package" else part for part in template.with_suffix("").parts)
            path = folder.joinpath(*(part.replace("NAME", distribution) for part in parts))
            path.parent.mkdir(parents=True, exist_ok=True)
            text = environment.get_template(template.as_posix()).render(distribution=distribution, module=module)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
        raise ir.EnvironmentSetupError(ir.Diagnostic("plugin-not-written", message)) from error
    return written


def _templates() -> Iterator[Path]:
    return (path.relative_to(TEMPLATE) for path in sorted(TEMPLATE.rglob("*.j2")))


def _refused(message: str, hint: str) -> ir.OptionsError:
    return ir.OptionsError(ir.Diagnostic("new-plugin", message, hint=hint))
