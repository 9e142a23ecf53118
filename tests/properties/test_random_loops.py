"""Loops that are recurrent networks, or nearly: equal results, equal interface, nothing left to do the second time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from optimize_graph.passes import Exactness
from optimize_graph.testing.differential import assert_same_interface, compare, optimized, outputs_of, session_of
from support.random_loops import LoopGenerator, feeds_of

pytestmark = pytest.mark.slow

BATCHES = 4
LOOPS_AT_ONCE = 70
TWICE = 4  # every so many loops: whether a second run has nothing to do takes as long as the rest
PIPELINES = (
    "recognize-rnn,dce",
    "fixpoint(hoist-loop-invariants,simplify-loop-states,dce),hoist-loop-matmul,dce",
    "fixpoint(simplify-loop-states,cse,dce)",
    "default",
)
RECURRENT = ("RNN", "GRU", "LSTM")


def check(seed: int, tally: Counter[str]) -> None:
    """Raise AssertionError when an optimized model differs from the model of this seed."""
    model = LoopGenerator(seed).make()
    try:
        before = session_of(model.SerializeToString())
    except Exception:  # a slip that does not fit: nothing to compare with
        return
    random = np.random.default_rng(seed)
    cases = []
    for length, batch in ((3, 2), (1, 1), (0, 2)):  # of an empty batch, ONNX Runtime's own Gemm ends the process
        feeds = feeds_of(model, {"s": length, "b": batch}, int(random.integers(3)), random)
        if (wanted := outputs_of(before, feeds)) is not None:
            cases.append((feeds, wanted))
    if not cases:
        return
    tally["ran"] += 1
    for pipeline in PIPELINES:
        report, result = optimized(model, pipeline)
        produced = onnx.load_from_string(result)
        onnx.checker.check_model(produced)
        assert_same_interface(model, produced)
        if seed % TWICE == 0:
            again, same = optimized(produced, pipeline)
            assert not again.rewrites, [str(each) for each in again.rewrites[:3]]
            assert same == result
        after = session_of(result)
        operators = {node.op_type for node in produced.graph.node}
        for feeds, wanted in cases:
            if not feeds["xs"].size:
                if "GRU" in operators:  # ends the process
                    continue
                # Of what a Loop that does not run would stack, ONNX Runtime knows no dims.
                found = after.run(None, feeds)
                wanted = [
                    other if each.size == other.size == 0 else each for each, other in zip(wanted, found, strict=True)
                ]
            compare(model, feeds, wanted, after, exact=report.log.exactness is Exactness.EXACT)
        tally.update([*report.log.by_rule(), *operators.intersection(RECURRENT)])
        tally.update({"refused"} if any("recurrences" in each.rule for each in report.missed) else ())


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_loop_gives_what_it_gave(batch: int) -> None:
    tally: Counter[str] = Counter()
    for seed in range(batch * LOOPS_AT_ONCE, (batch + 1) * LOOPS_AT_ONCE):
        try:
            check(seed, tally)
        except Exception as error:
            raise AssertionError(f"loop {seed}: {error}") from error
    assert tally["ran"] > LOOPS_AT_ONCE // 2
    assert all(
        tally[each] for each in (*RECURRENT, "hoist-loop-invariants", "hoist-loop-matmul", "simplify-loop-states")
    ), tally
