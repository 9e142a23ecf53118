"""A bug in any family of rules is found: planted in every rule, its results keep type and shape and are wrong.

A family is a file of the catalogue that registers rules. Random models find a bug in every family that they reach, the
varied golden models one in every rule.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Builder, Exactness, Match
from optimize_graph.passes.pipeline.pass_ import PassFailure
from optimize_graph.passes.rewriting.operand import Operand
from optimize_graph.passes.rewriting.rewrite_rule import Rule
from support import random_models
from support.checking import Disagreement, attends_to_nothing, compare, optimized, outputs_of, session_of
from support.sampling import EVERYTHING
from support.variation_feeds import feeds_for
from support.variations import Subject, subjects

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

FOUND = (Disagreement, PassFailure)
"""Another result, or rewriting that does not end: the wrong result of one rewrite may be what the rule starts from."""

Mutation = Callable[[ir.Value, Match, Builder], ir.Value]


def magnitude(value: ir.Value, op: Builder) -> ir.Value:
    return op.Sqrt(op.Mul(value, value))


def shifted(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The result plus one and its magnitude (a normalization would not notice one alone); the opposite of a truth.

    Written so that no rule takes it up again.
    """
    dtype = m.shapes.dtype(m.root.outputs[0])
    assert dtype is not None
    one = op.constant(np.ones((), dtype.numpy()))
    if dtype == ir.DataType.BOOL:
        return op.Xor(value, one)
    return op.Sum(value, magnitude(value, op), one) if dtype.is_floating_point() else op.Add(value, one)


def a_little_off(value: ir.Value, m: Match, op: Builder, share: float = 0.01) -> ir.Value:
    """The result 1 % off, where it is a float; a half, which is compared within 256 eps of the largest inside, more."""
    dtype = m.shapes.dtype(m.root.outputs[0])
    if dtype == ir.DataType.FLOAT16:
        share *= 2000
    if dtype is None or not dtype.is_floating_point():
        return shifted(value, m, op)
    rank = m.shapes.rank(m.root.outputs[0]) or 0  # of a lower rank, a rule would take it for its own place
    return op.Sum(value, op.Mul(magnitude(value, op), op.constant(np.full((1,) * rank, share, dtype.numpy()))))


def an_ulp_off(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The last bit of the result, where it is a float: nothing less may be noticed of an exact rule."""
    return a_little_off(value, m, op, share=float(np.finfo(np.float32).eps))


def backwards(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The result with its last axis turned around; shifted where it has none, or one that is known to be short."""
    dims = m.shapes.dims(m.root.outputs[0])
    if not dims or dims[-1] in (0, 1) or (m.root.version or 0) < 10:
        return shifted(value, m, op)
    bounds = [op.constant(np.array([each])) for each in (-1, np.iinfo(np.int64).min, -1, -1)]
    return op.Slice(value, *bounds)


MUTATIONS = (shifted, a_little_off, backwards)
EXACT = [rule.name for rule in REGISTRY.rules.values() if rule.exactness is Exactness.EXACT]


def planted(rule: Rule, mutation: Mutation) -> Rule:
    """The rule with a wrong body, which the registry takes for another definition of the same."""

    @functools.wraps(rule.body)
    def body(m: Match, op: Builder) -> Operand | ir.Value | None:
        made = rule.body(m, op)
        if made is None:
            return None
        if all(ir.is_constant(value) for value in m.root.inputs):
            return made  # it would be folded, and then be wrong again
        assert isinstance(made, (ir.Value, Operand))
        return mutation(made.value if isinstance(made, Operand) else made, m, op)

    return dataclasses.replace(rule, body=body)


def plant(rules: Iterable[Rule], mutation: Mutation) -> None:
    """Put a bug into rules of the registry; within `REGISTRY.scope()`."""
    for rule in rules:
        REGISTRY.add_rule(planted(rule, mutation))


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


def compare_on(
    model: onnx.ModelProto,
    pipeline: str,
    feeds: Iterable[tuple[dict[str, np.ndarray], bool]],
    target: str = "ort-cpu",
) -> None:
    try:
        before = session_of(model.SerializeToString())
        runs = [
            (each, wanted, is_finite) for each, is_finite in feeds if (wanted := outputs_of(before, each)) is not None
        ]
    except Exception:  # ONNX Runtime has no kernel for something
        return
    if not runs:  # nothing to compare with
        return
    report, result = optimized(model, pipeline, target=target)
    exact = report.log.exactness is Exactness.EXACT
    after, produced = session_of(result), onnx.load_from_string(result)
    for each, wanted, is_finite in runs:
        if (is_finite or exact) and not attends_to_nothing(produced, each):
            compare(model, each, wanted, after, exact=exact)


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
    with REGISTRY.scope(), pytest.raises(FOUND):
        compare_planted(rule, mutation)


@pytest.mark.parametrize("rule", sorted(EXACT))
def test_golden_models_find_the_last_bit_of_an_exact_rule(rule: str) -> None:
    with REGISTRY.scope(), pytest.raises(FOUND):
        compare_planted(rule, an_ulp_off)


def compare_planted(rule: str, mutation: Mutation) -> None:
    plant([REGISTRY.rules[rule]], mutation)
    for subject in SUBJECTS[rule]:
        feeds = (each for seed in range(4) for each in feeds_for(subject.model, seed))
        compare_on(subject.model, subject.pipeline, feeds, subject.target)
