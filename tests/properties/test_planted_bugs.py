"""A bug in any family of rules is found: planted in every rule, its results keep type and shape and are wrong.

A family is a file of the catalogue that registers rules. Random models find a bug in every family that they reach, the
varied golden models one in every rule.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from optimize_graph.passes import REGISTRY, Exactness
from optimize_graph.passes.rewriting.rewrite_rule import Rule
from optimize_graph.testing.differential import (
    optimized,
)
from optimize_graph.testing.planted_bugs import FOUND, MUTATIONS, Mutation, an_ulp_off, compare_on, plant, reveals
from optimize_graph.testing.variations import Subject
from support import random_models
from support.sampling import EVERYTHING
from support.subjects import subjects

pytestmark = pytest.mark.slow

SCANNED = 800 if EVERYTHING else 200  # models at most, each for the default and for the exact pipeline
ENOUGH = 4  # models in which a family fires
TRIED = 25
FOR_GOLDEN_MODELS = {  # those of other targets, and those that random models seldom reach
    "ort.cuda.activations",
    "ort.cuda.attention",
    "ort.cuda.group_norm",
    "ort.cuda.group_query_attention",
    "ort.cuda.quantization",
    "ort.cuda.skip_norm",
    "ort.cpu.conv.lrn",
    "ort.cpu.conv.winograd",
    "ort.contrib_gelu",
    "ort.cpu.flash_attention",
    "ort.cpu.upcast_fp16_functions",
    "ort.cpu.scatter_elements",
    "ort.attention.fuse_sdpa",
    "ort.attention.contrib_attention",
    "simplify.weights.swap_conv_resize",
    "simplify.shape.gather_nd",
    "ort.attention.rotary_embedding",
    "recognize.group_normalization",
    "simplify.attention.attention_heads",
}

EXACT = [rule.name for rule in REGISTRY.rules.values() if rule.exactness is Exactness.EXACT]


def families() -> Mapping[str, Sequence[Rule]]:
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in REGISTRY.rules.values():
        found[rule.module.partition("passes.")[2]].append(rule)
    return found


FAMILIES = families()


@functools.cache
def reached() -> Mapping[str, Sequence[tuple[int, str]]]:
    """For each family seeds and pipelines in which one of its rules fires: as many models as give enough of each."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    home = {rule.name: family for family, rules in FAMILIES.items() for rule in rules}
    for seed in range(SCANNED):
        if all(len(found[family]) >= ENOUGH for family in set(FAMILIES) - FOR_GOLDEN_MODELS):
            break
        for pipeline in ("default", "exact"):
            report, _ = optimized(random_model(seed, pipeline), pipeline)
            for family in {home[name] for name in report.log.by_rule() if name in home}:
                found[family].append((seed, pipeline))
    return found


def random_model(seed: int, pipeline: str) -> onnx.ModelProto:
    return random_models.ModelGenerator(seed, smooth=pipeline == "default").make()


def compare_random(seed: int, pipeline: str) -> None:
    model = random_model(seed, pipeline)
    random = np.random.default_rng(seed)
    smooth = pipeline == "default"
    sizes = random_models.sizes_of(model, random)
    feeds = [random_models.feeds_of(model, each, random, smooth=smooth, override=False) for each in sizes]
    compare_on(model, pipeline, [(each, True) for each in feeds])


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not EVERYTHING, reason="fewer models are scanned: OPTIMIZE_GRAPH_EVERYTHING=1")
def test_random_models_reach_the_families_of_rules() -> None:
    """Those that are excepted may be reached now and then."""
    assert {family for family in FAMILIES if not reached()[family]} <= FOR_GOLDEN_MODELS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - FOR_GOLDEN_MODELS))
def test_random_models_find_a_bug_in_a_family(family: str, mutation: Mutation) -> None:
    places = reached()[family][:TRIED]
    if len(places) < ENOUGH and not EVERYTHING:
        pytest.skip("reached by few of the models that are scanned: the golden models reveal it, below")
    with REGISTRY.scope(), pytest.raises(FOUND):
        plant(FAMILIES[family], mutation)
        for seed, pipeline in places:
            compare_random(seed, pipeline)


SUBJECTS: dict[str, list[Subject]] = defaultdict(list)
for _subject in subjects():
    if _subject.is_hit:
        SUBJECTS[_subject.rule].append(_subject)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("rule", sorted(REGISTRY.rules))
def test_golden_models_find_a_bug_in_a_rule(rule: str, mutation: Mutation) -> None:
    assert reveals(SUBJECTS[rule], rule, mutation)


@pytest.mark.parametrize("rule", sorted(EXACT))
def test_golden_models_find_the_last_bit_of_an_exact_rule(rule: str) -> None:
    assert reveals(SUBJECTS[rule], rule, an_ulp_off)
