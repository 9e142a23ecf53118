"""The models of the golden files, varied: the result is valid and gives what the original gives.

By default every rule meets every variation of its first hit, and a share of the rest.
"""

from __future__ import annotations

from collections import Counter

import pytest
from optimize_graph.passes import REGISTRY
from optimize_graph.testing.variations import VARIATIONS, Subject, Variation, check_variation
from support.sampling import in_sample
from support.subjects import subjects

pytestmark = pytest.mark.slow

SHARDS = 8
SHARE = 0.2
SHARE_OF_WHOLE_PIPELINES = 0.05

SUBJECTS = subjects()
FIRST_HITS = {subject.rule: subject for subject in reversed(SUBJECTS) if subject.is_hit}


def check_all(subject: Subject, variation: Variation, tally: Counter[str]) -> None:
    name = f"{subject}, {variation.__name__}"
    if subject is not FIRST_HITS[subject.rule] and not in_sample(name, SHARE):
        return
    for index, model in enumerate(variation(subject.model)):
        for pipeline in dict.fromkeys((subject.pipeline, "default")):
            if pipeline != subject.pipeline and not in_sample(f"{name} {index}", SHARE_OF_WHOLE_PIPELINES):
                continue
            try:
                tally[check_variation(model, pipeline, subject)] += 1
            except Exception as error:
                raise AssertionError(f"{name} {index}, {pipeline}: {error}") from error


def test_every_rule_is_varied() -> None:
    assert {subject.rule for subject in SUBJECTS if subject.is_hit} == set(REGISTRY.rules)


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("variation", VARIATIONS, ids=lambda each: each.__name__)
def test_a_varied_model_gives_what_it_gave(variation: Variation, shard: int) -> None:
    tally: Counter[str] = Counter()
    for subject in SUBJECTS[shard::SHARDS]:
        check_all(subject, variation, tally)
    assert tally["fired"], tally


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_whole_pipeline_leaves_golden_models_what_they_compute(shard: int) -> None:
    """Near misses among them: what one rule refuses, others may take."""
    for subject in SUBJECTS[shard::SHARDS]:
        try:
            check_variation(subject.model, "default", subject)
        except Exception as error:
            raise AssertionError(f"{subject}: {error}") from error
