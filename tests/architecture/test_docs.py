"""Documentation that is generated is fresh, and what the README shows is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from optimize_graph.cli import names, parser_of
from optimize_graph.passes import REGISTRY

ROOT = Path(__file__).parents[2]


def test_the_catalogue_page_is_what_the_docstrings_say() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run: python docs/generate.py"
    assert generate.OPTIONS.read_text(encoding="utf-8") == generate.options_page(), "run: python docs/generate.py"
    assert generate.SCHEMA.read_text(encoding="utf-8") == generate.schema(), "run: python docs/generate.py"
    assert generate.TARGET_SCHEMA.read_text(encoding="utf-8") == generate.schema_of_targets()
    assert generate.README.read_text(encoding="utf-8") == generate.readme(), "run: python docs/generate.py"


def test_the_readme_names_every_option_of_the_command_that_it_shows() -> None:
    known = {option for verb in names() for action in parser_of(verb)._actions for option in action.option_strings}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert shown - known <= {"--constraint"}


def test_every_pass_and_rule_says_what_it_does_before_and_after() -> None:
    for name, kind in REGISTRY.passes.items():
        assert "before:" in (kind.__doc__ or "") and "after:" in (kind.__doc__ or ""), name
    for name, rule in REGISTRY.rules.items():
        assert rule.source and "before:" in rule.doc and "after:" in rule.doc, name


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
