"""Every model of the golden files, varied: the result is valid and gives what the original gives.

`OPTIMIZE_GRAPH_EVERYTHING=1` runs every variant through the whole pipeline too; by default a part of them.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import pytest
from checking import assert_same_interface, attends_to_nothing, compare, is_valid, optimized, outputs_of, session_of
from fragments import reduces_backwards
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Exactness
from optimize_graph.runtime import make_feeds
from optimize_graph.runtime.inputs.bind_dims import Sizing
from optimize_graph.runtime.inputs.feeds import Plan
from random_models import SPECIAL, may_be_empty
from variations import VARIATIONS, Subject, Variation, subjects

SHARDS = 8
SHARE = 1.0 if os.environ.get("OPTIMIZE_GRAPH_EVERYTHING") else 0.2

SMALL = Plan(Sizing(batch=2, length=5, past=3, image=12, samples=24))

Feeds = dict[str, np.ndarray]
SUBJECTS = subjects()


def made_for(model: onnx.ModelProto, seed: int) -> Feeds:
    return dict(make_feeds(ir.from_proto(model), seed=seed, plan=SMALL))  # type: ignore[arg-type]


def feeds_for(model: onnx.ModelProto, seed: int, like: onnx.ModelProto | None = None) -> Iterator[tuple[Feeds, bool]]:
    """Inputs, and whether all their numbers are finite: as made for the model, the symbols 1 and 0, special numbers,
    other content for what the caller may override."""
    random = np.random.default_rng(seed)
    plain = made_for(model, seed)
    if like is not None:  # dims that lost their numbers still have to fit the weights
        plain |= {name: array for name, array in made_for(like, seed).items() if array.dtype == plain[name].dtype}
    yield plain, True
    if symbols := {dim.dim_param for value in model.graph.input for dim in dims_of(value) if dim.dim_param}:
        yield resized(model, plain, dict.fromkeys(symbols, 1)), True
    if (first := batches(model)) and not reduces_backwards(model):
        yield resized(model, plain, dict.fromkeys(first, 0)), True
    defaults = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    given = {value.name: defaults[value.name] for value in model.graph.input if value.name in defaults}
    if given:
        yield {**plain, **{name: changed(content, random) for name, content in given.items()}}, True
    yield {name: special(content, random) for name, content in plain.items()}, False


def dims_of(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    return value.type.tensor_type.shape.dim


def batches(model: onnx.ModelProto) -> set[str]:
    """The symbols that may be 0, those that stand first and nowhere else: ONNX Runtime divides by other sizes."""
    if not may_be_empty(model):
        return set()
    first, others = set(), set()
    for value in model.graph.input:
        for axis, dim in enumerate(dims_of(value)):
            (others if axis else first).add(dim.dim_param)
    return first - others - {""}


def resized(model: onnx.ModelProto, feeds: Feeds, sizes: Mapping[str, int]) -> Feeds:
    """The content of `feeds` in the dims that the model has for these `sizes` of symbols."""
    made = dict(feeds)
    for value in model.graph.input:
        if value.name in feeds and dims_of(value):
            content = feeds[value.name]
            wanted = [sizes.get(dim.dim_param, size) for dim, size in zip(dims_of(value), content.shape, strict=True)]
            made[value.name] = np.resize(content, wanted) if content.size else np.ones(wanted, content.dtype)
    return made


def changed(content: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same numbers in another order, floats nudged."""
    moved = random.permutation(content.reshape(-1)).reshape(content.shape)
    with np.errstate(over="ignore"):
        return np.asarray(moved * 1.25 if content.dtype.kind == "f" else moved).astype(content.dtype)


def special(content: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if content.dtype.kind != "f":
        return content
    numbers = random.choice(SPECIAL, content.shape).astype(content.dtype)
    return np.asarray(np.where(random.random(content.shape) < 0.5, numbers, content))


def check(model: onnx.ModelProto, pipeline: str, subject: Subject) -> str:
    """`fired`, `nothing` or `skipped`. Raises AssertionError where the result is not right."""
    try:
        before = session_of(model.SerializeToString())
    except Exception:  # ONNX Runtime has no kernel for something: nothing to compare with
        return "skipped"
    cases = [
        (feeds, wanted, is_finite)
        for feeds, is_finite in feeds_for(model, zlib.crc32(pipeline.encode()), subject.model)
        if (wanted := outputs_of(before, feeds)) is not None
    ]
    if not cases:
        return "skipped"
    report, result = optimized(model, pipeline, target=subject.target)
    if not report.rewrites:
        return "nothing"
    produced = onnx.load_from_string(result)
    if is_valid(model):
        onnx.checker.check_model(produced)
    assert_same_interface(model, produced)
    exact = report.log.exactness is Exactness.EXACT
    after = session_of(result)
    for feeds, wanted, is_finite in cases:
        if attends_to_nothing(produced, feeds):
            continue
        if is_finite or exact:
            compare(model, feeds, wanted, after, exact=exact)
    return "fired"


def check_all(subject: Subject, variation: Variation, tally: Counter[str]) -> None:
    for index, model in enumerate(variation(subject.model)):
        for pipeline in dict.fromkeys((subject.pipeline, "default")):
            key = f"{subject} {variation.__name__} {index}"
            if pipeline == "default" != subject.pipeline and zlib.crc32(key.encode()) % 1000 >= SHARE * 1000:
                continue
            try:
                tally[check(model, pipeline, subject)] += 1
            except Exception as error:
                raise AssertionError(f"{subject}, {variation.__name__} {index}, {pipeline}: {error}") from error


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
            check(subject.model, "default", subject)
        except Exception as error:
            raise AssertionError(f"{subject}: {error}") from error
