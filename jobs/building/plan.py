"""Which models a build optimizes, and where each result goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import ir
from ...options import Options

REPORTS = "reports"
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class BuildJob:
    """One model of a build. `name`: its path below the fixed part of its pattern, and the result's below `folder`.

    `known_peak`: bytes that it took in an earlier build; 0 where there was none.
    """

    name: str
    source: Path
    folder: Path
    options: Options
    known_peak: int = 0

    @property
    def output(self) -> Path:
        """Where the result goes."""
        return self.folder / self.name

    @property
    def report(self) -> Path:
        """The report as JSON."""
        return self.folder / REPORTS / f"{self.name}.json"

    @property
    def page(self) -> Path:
        """The report as a page."""
        return self.folder / REPORTS / f"{self.name}.html"

    @property
    def measures(self) -> bool:
        """Whether it measures, so that another job beside it would falsify its figures."""
        options = self.options
        wanted = (options.measure, options.tune, options.model_profile, options.baseline is not None)
        return any(wanted) or options.require_speedup is not None or options.max_peak_memory is not None


def plan(patterns: Sequence[str], folder: Path, options_of: Callable[[Path], Options]) -> list[BuildJob]:
    """The jobs of the models that the patterns fit (`**` any depth; a folder: every .onnx below it), by name.

    What lies below `folder` is a result, and no source. Raises OptionsError for a pattern that fits nothing, for two
    models with one name, and for a result in the place of its source.
    """
    folder = folder.absolute()
    found: dict[str, Path] = {}
    for pattern in patterns:
        models = dict(_models(pattern, folder))
        if not models:
            _reject(
                f"no model fits {pattern!r}", "patterns are relative to pyproject.toml, or to the working directory"
            )
        for name, path in models.items():
            other = found.setdefault(name, path)
            if other != path:
                _reject(f"{other} and {path} would have one result, {name}", "name a folder above both")
    jobs = [BuildJob(name, path, folder, options_of(path)) for name, path in sorted(found.items())]
    for job in jobs:
        if job.output.resolve() == job.source.resolve():
            _reject(f"the result would replace its source, {job.source}", "name another --output-dir")
    return jobs


def _models(pattern: str, results: Path) -> Iterator[tuple[str, Path]]:
    place = Path(pattern).absolute()
    if place.is_dir():
        base, text = place, str(Path(glob.escape(str(place))) / "**" / "*.onnx")
    elif place.exists() or not _WILDCARDS & set(pattern):
        base, text = place.parent, glob.escape(str(place))
    else:
        fixed = next(index for index, part in enumerate(place.parts) if _WILDCARDS & set(part))
        base, text = Path(*place.parts[:fixed]), str(place)
    for word in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
        path = Path(os.path.normpath(word))
        if path.is_file() and not path.is_relative_to(results):
            yield path.relative_to(os.path.normpath(base)).as_posix(), path


def _reject(message: str, hint: str) -> None:
    raise ir.OptionsError(ir.Diagnostic("invalid-build", message, hint=hint))
