"""Results by what they depend on: a folder for each, which a rename puts in its place, complete.

Libraries of this kind keep values or single files; a result is a model, its external data and two reports. Files are
copied, not linked: who edits a result in place must not change the cache, or what another project got of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from ... import ir
from ..optimization.build_record import file_hashes
from .plan import BuildJob

LIMIT = 10 << 30
"""Bytes that the cache may take by default."""
_MANIFEST, _REPORT, _PAGE, _DATA = "manifest.json", "report.json", "report.html", "files/"
_MODEL = f"{_DATA}.model.onnx"  # beside its external data
_NEW, _STALE_S = "new-", 24 * 3600


class ResultCache:
    """Results in a folder of the user's, the least recently used removed where they take more than `limit` bytes."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = folder or Path(platformdirs.user_cache_dir("optimize-graph")) / "results"
        self.limit = limit

    def restore(self, key: str, job: BuildJob) -> bool:
        """Deliver what is kept for `key`, with its reports; whether there is any. What is damaged is removed.

        A result that is in its place already stays as it is.
        """
        for entry in (self._entry(key), self._entry(key, job.output.stem)):
            if not (entry / _MANIFEST).exists():
                continue
            try:
                files = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))["files"]
                if {name: _sha256(entry / name) for name in files} == files:
                    _deliver(entry, files, job)
                    os.utime(entry / _MANIFEST)
                    return True
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                pass
            self._remove(entry)
        return False

    def keep(self, key: str, job: BuildJob) -> None:
        """Remember a result that was delivered. A folder that cannot be written is no reason to fail."""
        try:
            names = ir.data_files(ir.load(job.output))
            report = json.loads(job.report.read_text(encoding="utf-8"))
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            with tempfile.TemporaryDirectory(prefix=_NEW, dir=self.folder, ignore_cleanup_errors=True) as place:
                new = Path(place) / "entry"
                origins = {_MODEL: job.output, _REPORT: job.report, _PAGE: job.page}
                origins |= {f"{_DATA}{name}": job.output.parent / name for name in names}
                for name, origin in origins.items():
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(origin, new / name)
                files = {name: _sha256(new / name) for name in origins}
                if files[_MODEL] != report["build"]["output"]["sha256"] or report["isolated"]:
                    return  # replaced meanwhile; or a fault, whose reproducers and warnings each run should give
                (new / _MANIFEST).write_text(json.dumps({"files": files}), encoding="utf-8")
                # The names of data files follow from the name of the result, and stand in it.
                entry = self._entry(key, job.output.stem if names else "")
                entry.parent.mkdir(parents=True, exist_ok=True)
                new.rename(entry)  # refused where another process was first
        except (OSError, ValueError, KeyError, TypeError, ir.OptimizeGraphError):
            return
        self._evict()

    def _entry(self, key: str, stem: str = "") -> Path:
        name = f"{key}-{hashlib.sha256(stem.encode()).hexdigest()[:16]}" if stem else key
        return self.folder / key[:2] / name

    def _evict(self) -> None:
        """Remove the least recently used results beyond the limit."""
        found = []
        for manifest in self.folder.glob(f"??/*/{_MANIFEST}"):
            with suppress(OSError):
                size = sum(each.stat().st_size for each in manifest.parent.rglob("*") if each.is_file())
                found.append((manifest.stat().st_mtime_ns, size, manifest.parent))
        total = sum(size for _, size, _ in found)
        for _, size, entry in sorted(found):
            if total <= self.limit:
                return
            self._remove(entry)
            total -= size

    def _remove(self, entry: Path) -> None:
        """Remove an entry: by a rename first, so that another process sees all of it or nothing."""
        with suppress(OSError), tempfile.TemporaryDirectory(prefix=_NEW, dir=self.folder) as place:
            entry.rename(Path(place) / "entry")

    def _sweep(self) -> None:
        """Remove what a process left that was killed while it wrote."""
        for place in self.folder.glob(f"{_NEW}*"):
            with suppress(OSError):
                if place.stat().st_mtime < time.time() - _STALE_S:
                    shutil.rmtree(place)


def _deliver(entry: Path, files: Mapping[str, str], job: BuildJob) -> None:
    beside = {name.removeprefix(_DATA): digest for name, digest in files.items() if name.startswith(_DATA)}
    data = {name: digest for name, digest in beside.items() if _DATA + name != _MODEL}
    places = {job.output: files[_MODEL], **{job.output.parent / name: digest for name, digest in data.items()}}
    job.report.parent.mkdir(parents=True, exist_ok=True)
    if not all(place.is_file() and _sha256(place) == digest for place, digest in places.items()):
        job.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            with ir.stage_unchanged(entry / _MODEL, job.output, tuple(data)) as staged:
                staged.commit()
        except ir.OptimizeGraphError as error:
            raise OSError(str(error)) from error
    for name, place in ((_REPORT, job.report), (_PAGE, job.page)):
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as folder:
            shutil.copyfile(entry / name, Path(folder) / name)
            (Path(folder) / name).replace(place)


def _sha256(path: Path) -> str:
    return str(file_hashes(path, ())["sha256"])
