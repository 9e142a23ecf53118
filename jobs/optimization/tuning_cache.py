"""What tuning learned, remembered for the next build of the same model on the same machine."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from ... import ir, runtime
from ...passes.registry import REGISTRY
from .pipeline_runner import PipelineRunner
from .target_versions import installed_versions
from .tune import Tuning

SCHEMA = 1
ENOUGH = 0.8  # of a budget: a search stops before a trial that would not fit


class TuningCache:
    """One file for each key, in a folder of the user's. A file that cannot be read counts as none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(platformdirs.user_cache_dir("optimize-graph")) / "tuning"

    def find(self, key: str, budget_s: float) -> Tuning | None:
        """What an earlier run learned that tried everything, or took as long as this one would."""
        try:
            found = json.loads(self._file(key).read_text(encoding="utf-8"))
            tuning = Tuning.from_json({**found["tuning"], "is_cached": True})
            is_enough = tuning.is_complete or tuning.seconds >= ENOUGH * budget_s
            return tuning if is_enough and found["schema"] == SCHEMA else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, tuning: Tuning) -> None:
        """Remember it. A folder that cannot be written is no reason to fail."""
        document = {"schema": SCHEMA, "versions": installed_versions(), "tuning": tuning.to_json()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as name:  # another process may write the same key
                file = Path(name) / "new.json"
                file.write_text(json.dumps(document, indent=1), encoding="utf-8")
                file.replace(self._file(key))
        except OSError:
            return

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def cache_key(
    runner: PipelineRunner, model: ir.Model, feeds: runtime.Feeds, how: runtime.SessionOptions, *, with_session: bool
) -> str:
    """What a choice depends on: the model's structure, the pipeline, versions, sizes, and where it runs."""
    versions = installed_versions()
    parts: Sequence[object] = (
        ir.fingerprint(model),
        str(runner.pipeline),
        repr(runner.settings),
        sorted(runner.options.disable),
        runner.options.max_rewrites,
        _rules(),
        versions.get("optimize-graph"),
        versions["onnxruntime"],
        runtime.device_name(how.provider),
        os.cpu_count(),
        how.provider,
        how.threads,
        sorted(map(str, how.custom_ops)),
        sorted((name, str(getattr(datum, "shape", ""))) for name, datum in feeds.items()),
        with_session,
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _rules() -> Sequence[object]:
    """What plugins may add to."""
    return sorted((rule.name, rule.module) for rule in REGISTRY.rules.values()), sorted(REGISTRY.passes)
