"""Random models through whole pipelines: equal results, equal interface, nothing left to do the second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx
import pytest
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Builder,
    Exactness,
    Match,
    Pass,
    PassContext,
    any_call,
    op,
    register,
    rule,
    values,
)
from optimize_graph.passes.rewriting.constraints import constant
from optimize_graph.testing.differential import (
    assert_same_interface,
    attends_to_nothing,
    compare,
    optimized,
    outputs_of,
    session_of,
)
from support import random_models
from support.sampling import EVERYTHING

pytestmark = pytest.mark.slow

GRAPHS_AT_ONCE = 50
BATCHES = 26 if EVERYTHING else 6
CHECKED_AFTER_EACH_PASS = 10  # every so many models: it takes longer than all the rest


@dataclass
class Tally:
    """What a number of seeds came to: models that never run show nothing."""

    ran: int = 0
    runs: int = 0
    fired: set[str] = field(default_factory=set)


def check(seed: int, pipeline: str, tally: Tally, *, smooth: bool) -> None:
    """Raise AssertionError when the optimized model differs from the model of this seed."""
    model = random_models.ModelGenerator(seed, smooth=smooth).make()
    raw = model.SerializeToString()
    try:
        before = session_of(raw)
    except Exception:  # ONNX Runtime has no kernel for something: nothing to compare with
        return
    random = np.random.default_rng(seed)
    cases = [
        (feeds, wanted)
        for sizes in random_models.sizes_of(model, random)
        for override in (False, True)
        for feeds in [random_models.feeds_of(model, sizes, random, smooth=smooth, override=override)]
        if (wanted := outputs_of(before, feeds)) is not None
    ]
    if not cases:  # a model that never runs promises nothing
        return
    tally.ran += 1
    tally.runs += len(cases)
    report, result = optimized(model, pipeline, check_each=seed % CHECKED_AFTER_EACH_PASS == 0)
    tally.fired |= set(report.log.by_rule())
    try:
        after = session_of(result)
    except Exception as error:
        raise AssertionError(f"ONNX Runtime refuses the result: {error}") from error
    produced = onnx.load_from_string(result)
    onnx.checker.check_model(produced)
    assert_same_interface(model, produced)
    again, same = optimized(onnx.load_from_string(result), pipeline)
    assert not again.rewrites, [str(each) for each in again.rewrites[:3]]
    assert same == result
    assert count(produced, random_models.RANDOM) == count(model, random_models.RANDOM)
    exact = report.log.exactness is Exactness.EXACT
    for feeds, wanted in cases:
        if attends_to_nothing(produced, feeds):
            continue
        compare(model, feeds, wanted, after, exact=exact)


def count(model: onnx.ModelProto, operators: tuple[str, ...]) -> int:
    return sum(1 for node in model.graph.node if node.op_type in operators)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_exact_pipelines_change_no_bit(batch: int) -> None:
    tally = Tally()
    for seed in range(batch * GRAPHS_AT_ONCE, (batch + 1) * GRAPHS_AT_ONCE):
        check(seed, "exact", tally, smooth=False)
    assert tally.ran > GRAPHS_AT_ONCE * 2 // 3
    assert tally.runs > tally.ran


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_default_pipeline_changes_no_more_than_roundings(batch: int) -> None:
    tally = Tally()
    for seed in range(batch * GRAPHS_AT_ONCE, (batch + 1) * GRAPHS_AT_ONCE):
        check(seed, "default", tally, smooth=True)
    assert tally.ran > GRAPHS_AT_ONCE * 2 // 3
    assert tally.runs > tally.ran


# --- the check has teeth ----------------------------------------------------------------------------------------------

x, w, b, c = values("x w b c")
SOURCE = "wrong on purpose"


def wrong_transpose() -> None:
    @rule(any_call("Transpose"), source=SOURCE, keeps_type=True)
    def wrong_transpose(m: Match, op: Builder) -> ir.Value | None:
        """Looks at no permutation.

        before:  x -> Transpose -> y
        after:   x
        """
        return m.root.inputs[0]


def wrong_zero() -> None:
    @rule(op.Add(x, 0.0), source=SOURCE)
    def wrong_zero(m: Match, op: Builder) -> ir.Value:
        """Forgets that -0.0 + 0.0 is 0.0.

        before:  x -> Add(0.0) -> y
        after:   x
        """
        return m.x.value


def wrong_group() -> None:
    @rule(
        op.Conv(op.Mul(x, c), w, b.optional()).any_attributes(),
        requires=[constant("w", "c")],
        exactness=Exactness.ROUNDING,
        source=SOURCE,
        benefit=9,
    )
    def wrong_group(m: Match, op: Builder) -> ir.Value | None:
        """Takes every output channel for one of the first group.

        before:  x -> Mul(c) -> Conv(w) -> y
        after:   x -> Conv(w * c) -> y
        """
        scale = m.c.array.reshape(-1)[: m.w.array.shape[1]]
        inputs = [m.x, op.constant(m.w.array * scale.reshape(1, -1, *[1] * (m.w.array.ndim - 2))), m.b]
        return op.node("Conv", inputs, attributes=m.Conv.attributes)[0]


def wrong_random() -> None:
    @register
    @dataclass(frozen=True)
    class WrongRandom(Pass):
        """Takes two draws for one.

        before:  a = Bernoulli(x); b = Bernoulli(x)
        after:   a = Bernoulli(x)
        """

        name: ClassVar[str] = "wrong-random"

        def run(self, model: ir.Model, context: PassContext) -> None:
            seen: dict[object, ir.Node] = {}
            for node in model.graph:
                if node.op_type in random_models.RANDOM:
                    first = seen.setdefault((node.op_type, *node.inputs), node)
                    if first is not node and context.log.try_rewrite(self.name, "", "two", "one"):
                        context.rewriter.replace(node, first.outputs)


@pytest.mark.parametrize(
    ("plant", "pipeline", "smooth"),
    [
        (wrong_transpose, "exact", False),
        (wrong_zero, "exact", False),
        (wrong_group, "default", True),
        (wrong_random, "exact,wrong-random", False),
    ],
)
def test_a_wrong_rule_is_caught(plant: Callable[[], None], pipeline: str, smooth: bool) -> None:
    with REGISTRY.scope(), pytest.raises(AssertionError):
        plant()
        for seed in range(400):
            check(seed, pipeline, Tally(), smooth=smooth)
