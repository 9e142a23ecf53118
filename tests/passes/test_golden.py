"""Golden tests of the catalogue, beside the tests of each rule's folder: see optimize_graph.testing.golden."""

from __future__ import annotations

import pytest
from optimize_graph.passes import REGISTRY
from optimize_graph.testing.golden import Case, check_case, missing_near_misses
from support.catalogue import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_does_what_its_golden_file_says(case: Case, update_golden: bool) -> None:
    check_case(case, update=update_golden)


def test_every_fusion_has_a_golden_file() -> None:
    fusions = {rule.name for rule in REGISTRY.rules.values() if rule.phase == "simplify"}
    assert fusions <= {case.rule for case in CASES}


@pytest.mark.parametrize("rule", sorted({case.rule for case in CASES}))
def test_every_condition_of_a_rule_has_a_near_miss(rule: str) -> None:
    """A legality condition without a near miss is not tested."""
    assert not missing_near_misses(rule, CASES)
