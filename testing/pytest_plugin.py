"""A pytest plugin that is installed with the package: golden files of rules are tests.

    [tool.pytest.ini_options]
    optimize_graph_golden = ["tests/rules"]     # folders with RULE.md files; see optimize_graph.testing.golden
    optimize_graph_plugins = ["acme_rules"]     # modules to plug in for all tests

Each file gives a test for each case; that every condition has a near miss; that every variation of a hit gives what
the original gives (another user, a graph output, a captured value, an overridable initializer, symbols that are 1 or 0,
other element types, other opsets); and that the file reveals a bug which is planted in the rule. `--update-golden`
writes the `after` blocks anew, and the fixture `update_golden` tells whether it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .golden import Case
    from .planted_bugs import Mutation
    from .variations import Subject, Variation


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the settings."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the 'after' blocks of golden files")
    parser.addini("optimize_graph_golden", "folders with golden files of rules", type="paths", default=[])
    parser.addini("optimize_graph_plugins", "modules of rules to plug in for all tests", type="args", default=[])


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are written anew."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _optimize_graph_plugins(request: pytest.FixtureRequest) -> Iterator[None]:
    """The modules that the settings name take part in every test."""
    with _in_force(request.config):
        yield


@contextmanager
def _in_force(config: pytest.Config) -> Iterator[None]:
    modules = config.getini("optimize_graph_plugins")
    if not modules:
        yield
        return
    from ..passes import REGISTRY

    with REGISTRY.using(modules):
        yield


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect golden files of the folders that the settings name."""
    folders = parent.config.getini("optimize_graph_golden")
    if file_path.suffix == ".md" and any(folder in file_path.parents for folder in folders):
        collector: pytest.Collector = GoldenFile.from_parent(parent, path=file_path)
        return collector
    return None


class GoldenFile(pytest.File):
    """The tests of one rule."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each case, the near misses, the variations and the planted bugs."""
        from .golden import cases_in, check_case
        from .planted_bugs import MUTATIONS
        from .variations import VARIATIONS

        cases = cases_in(self.path)
        update = bool(self.config.getoption("--update-golden"))
        for case in cases:
            yield self._item(case.title, partial(check_case, case, update=update))
        yield self._item("every condition has a near miss", partial(_check_near_misses, self.path.stem, cases))
        for variation in VARIATIONS:
            title = f"varied: {variation.__name__.replace('_', ' ')}"
            yield self._item(title, partial(_check_variations, cases, variation))
        for mutation in MUTATIONS:
            title = f"a planted bug is revealed: {mutation.__name__.replace('_', ' ')}"
            yield self._item(title, partial(_check_planted, self.path.stem, cases, mutation))

    def _item(self, name: str, check: Callable[[], None]) -> pytest.Item:
        item: pytest.Item = GoldenItem.from_parent(self, name=name, check=check)
        return item


class GoldenItem(pytest.Item):
    """One test of a golden file."""

    def __init__(self, *, check: Callable[[], None], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # of pytest's own factory
        self._check = check

    def runtest(self) -> None:
        """Run it with the plugins in force."""
        with _in_force(self.config):
            self._check()

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file, and the name of the test."""
        return self.path, 0, f"{self.path.stem}: {self.name}"


def _check_near_misses(rule: str, cases: list[Case]) -> None:
    from .golden import missing_near_misses

    missing = missing_near_misses(rule, cases)
    assert not missing, f"no case misses {', '.join(sorted(missing))}"


def _subjects(cases: list[Case]) -> list[Subject]:
    from .golden import parse
    from .variations import Subject, alone

    hits = (case for case in cases if case.after is not None)
    return [Subject(case.rule, case.title, parse(case.before), alone(case.rule), True, case.target) for case in hits]


def _check_variations(cases: list[Case], variation: Variation) -> None:
    from .variations import check_variation

    for subject in _subjects(cases):
        for model in variation(subject.model):
            for pipeline in (subject.pipeline, "default"):
                check_variation(model, pipeline, subject)


def _check_planted(rule: str, cases: list[Case], mutation: Mutation) -> None:
    from .planted_bugs import reveals

    assert reveals(_subjects(cases), rule, mutation), f"no hit of {rule} tells a wrong result from a right one"
