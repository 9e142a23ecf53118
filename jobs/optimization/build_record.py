"""What a result was made from and with: hashes of input and output, options, host, plugins. For reports of builds."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path

from ... import ir
from ...options import Options
from ...passes.registry import REGISTRY
from ...runtime.ort.device import device_name, widest_vectors
from ..model_source import Source

_CHUNK = 4 << 20


def input_hashes(source: Source, data: Sequence[str]) -> dict[str, object] | None:
    """SHA-256 of the model that was given and of its external data; None for one that has no bytes (onnx-ir's)."""
    given = source.given
    if isinstance(given, Path):
        return file_hashes(given, [given.parent / name for name in data])
    if isinstance(given, ir.Model):
        return None
    content = given if isinstance(given, bytes) else given.SerializeToString(deterministic=True)
    return {"sha256": hashlib.sha256(content).hexdigest(), "data": {}}


def file_hashes(path: Path, data: Sequence[Path]) -> dict[str, object]:
    """SHA-256 of a model file and of the files of its external data, by name."""
    return {"sha256": _sha256(path), "data": {each.name: _sha256(each) for each in data}}


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found.update(piece)
    return found.hexdigest()


def build_record(
    options: Options, given: Mapping[str, object] | None, output: Mapping[str, object] | None
) -> dict[str, object]:
    """The record of one call, with plain JSON values. The plugins of the call must be in force."""
    return {
        "input": given,
        "output": output,
        "options": {each.name: _plain(getattr(options, each.name)) for each in fields(options)},
        "host": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpu": device_name(),
            "vectors": widest_vectors(),
            "cpus": os.cpu_count(),
        },
        "plugins": {module: _module(module) for module in REGISTRY.plugin_modules()},
    }


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _module(name: str) -> dict[str, str]:
    """What identifies a plugin: its distribution and version, where it has any, and the content of its file."""
    found: dict[str, str] = {}
    for distribution in _distributions().get(name.partition(".")[0], ())[:1]:
        found = {"distribution": distribution, "version": importlib.metadata.version(distribution)}
    file = getattr(sys.modules.get(name), "__file__", None)
    if file and Path(file).is_file():
        found["sha256"] = _sha256(Path(file))
    return found


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()
