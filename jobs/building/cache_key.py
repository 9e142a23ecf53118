"""What a result depends on, as one digest: the model, options, plugins, libraries, versions and host.

A field of `Options` counts unless it is named here, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ... import ir
from ...options import Options
from ...passes.targets.target_file import find
from ...runtime.ort.device import device_name
from ..optimization.build_record import file_hashes
from ..optimization.target_versions import installed_versions, provider_of
from .plan import BuildJob
from .plugin_files import plugin_digest

SCHEMA = 1
WITHOUT_EFFECT = frozenset({"sources", "reproducer_dir", "plugins"})
"""Fields that no result depends on: what is cached has no reproducers. Plugins count by content."""
BY_CONTENT = ("inputs", "custom_ops", "baseline", "target")
_LAYERS = ("ir", "passes", "runtime", "jobs", "render", "cli")
_LIBRARIES = ("onnx-graphsurgeon", "networkx", "ml-dtypes", "protobuf", "jinja2")


def cache_key(job: BuildJob) -> str | None:
    """The digest of a job; None where its result cannot be kept: it writes a further file, or cannot be read."""
    options = job.options
    if options.save_session_options is not None:
        return None
    try:
        parts = {
            "schema": SCHEMA,
            "model": model_hashes(job.source, options.follow_symlinks),
            "options": _options(options),
            "plugins": [list(options.plugins), plugin_digest(options.plugins)],
            "versions": _versions(),
            "host": _host(job),
        }
    except (OSError, ir.OptimizeGraphError):
        return None  # the job says what is wrong
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def model_hashes(path: Path, follow_symlinks: bool) -> Mapping[str, object]:
    """SHA-256 of a model and of its external data."""
    names = ir.data_files(ir.load(path, follow_symlinks=follow_symlinks))
    data = {name: file_hashes(path.parent / name, ())["sha256"] for name in names}
    return {**file_hashes(path, ()), "data": data}


def _options(options: Options) -> Mapping[str, object]:
    found: dict[str, object] = {
        each.name: repr(getattr(options, each.name))
        for each in dataclasses.fields(options)
        if each.name not in WITHOUT_EFFECT and each.name not in BY_CONTENT
    }
    for name in ("dims", "input_shapes", "require_fused"):
        found[name] = sorted((key, repr(value)) for key, value in getattr(options, name).items())
    for name in ("inputs", "custom_ops", "baseline"):
        value = getattr(options, name)
        paths = () if value is None else value if isinstance(value, tuple) else (value,)
        found[name] = [file_hashes(path, ())["sha256"] for path in paths]
    target = find(options.target)
    found["target"] = [target.name, target.digest, *(file_hashes(path, ())["sha256"] for path in target.libraries)]
    if not options.tune:
        found.pop("tune_cache")
    return found


def _versions() -> Mapping[str, str]:
    return {**installed_versions(), **_libraries(), "source": source_digest()}


@cache
def _libraries() -> Mapping[str, str]:
    """Versions of libraries; of ONNX Runtime, which distribution it is, too."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in _LIBRARIES or name.startswith("onnxruntime"):
            found[f"{name} {distribution.version}"] = distribution.version
    return found


@cache
def source_digest(root: Path = Path(__file__).parents[2]) -> str:
    """The content of this package: an editable one changes without its version."""
    found = hashlib.sha256()
    files = [*root.glob("*.py"), *(path for layer in _LAYERS for path in (root / layer).rglob("*"))]
    for path in sorted(path for path in files if path.suffix in (".py", ".tsv", ".j2", ".json", ".toml")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _host(job: BuildJob) -> Mapping[str, object]:
    """The machine: its kernels decide the last bits of folded constants; where it measures, all that decides speed."""
    found: dict[str, object] = {"machine": platform.machine(), "cpu": device_name()}
    provider = provider_of(job.options.target, job.options.provider)
    if provider != "cpu":
        found["device"] = device_name(provider)
    if job.measures:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        found |= {"node": platform.node(), "system": platform.platform(), "cpus": [os.cpu_count(), usable]}
    return found
