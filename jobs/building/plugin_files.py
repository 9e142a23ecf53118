"""The files that plugins consist of: the modules that importing them brings in, and the folders of their packages.

Run in a fresh process (`python -P -m optimize_graph.jobs.building.plugin_files MODULE …`), so that what another plugin
imported hides nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from ... import ir

_LOCK = threading.Lock()


def plugin_digest(plugins: Sequence[str]) -> str:
    """A digest of the content of these plugins, and of those that packages register for all calls."""
    from ...passes.registry import ENTRY_POINTS

    if not plugins and not importlib.metadata.entry_points(group=ENTRY_POINTS):
        return ""
    with _LOCK:
        return _digest(tuple(plugins))


@cache
def _digest(plugins: tuple[str, ...]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-P", "-m", __name__, *plugins]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        message = f"plugins cannot be imported: {done.stderr.strip().splitlines()[-1:]}"
        raise ir.PipelineError(ir.Diagnostic("plugin-not-importable", message))
    found = hashlib.sha256()
    for name in json.loads(done.stdout.splitlines()[-1]):
        content = Path(name).read_bytes()
        found.update(f"{Path(name).name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _files(plugins: Sequence[str]) -> Iterator[Path]:
    from ...passes.registry import REGISTRY

    before = set(sys.modules)
    with REGISTRY.using(plugins):
        packages = {name.partition(".")[0] for name in (*plugins, *REGISTRY.plugin_modules())}
    standard = Path(sysconfig.get_paths()["stdlib"])
    installed = {Path(sysconfig.get_paths()[key]) for key in ("purelib", "platlib")}
    ours = __name__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        top, file = name.partition(".")[0], getattr(module, "__file__", None)
        if not file or top == ours or (name in before and top not in packages):
            continue
        path = Path(file)
        is_versioned = any(path.is_relative_to(folder) for folder in (standard, *installed))
        if top not in packages and is_versioned:
            continue
        yield path
        if path.name == "__init__.py" and name == top:
            yield from (each for each in path.parent.rglob("*") if each.is_file() and each.suffix != ".pyc")


if __name__ == "__main__":
    print(json.dumps(sorted({str(path.resolve()) for path in _files(sys.argv[1:])})))
