"""Differences beyond the noise that are none: near-ties, and an original that is itself far from the truth."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.ir.reference import evaluate, evaluate_in_double
from optimize_graph.runtime import FeedSet, Tolerance, Verification, verify
from optimize_graph.runtime.ties import Choice, choices, near_ties
from optimize_graph.runtime.truth import truth

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def made(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(HEADER + text).SerializeToString())


def compared(one: str, two: str, **feeds: np.ndarray) -> Verification:
    return verify(made(one), made(two), [FeedSet(feeds, "given")])


# --- near-ties --------------------------------------------------------------------------------------------------------

SCORES = np.array([[0.5, 0.1, 0.3], [0.25, 0.75, 0.2]], np.float32)
GRAPH = """g (float[2, 3] x) => (float[2, 3] s, int64[2] y) <float[2, 3] bump = {{{bump}}}, float half = {{0.5}}> {{
    h = Mul(x, half)  s = Add(h, bump)  y = ArgMax<axis = 1, keepdims = 0>(s) }}"""
NONE = "0, 0, 0, 0, 0, 0"


def test_a_choice_between_scores_that_agree_may_fall_the_other_way() -> None:
    tied = np.array([[0.5, 0.5, 0.3], [0.25, 0.75, 0.2]], np.float32)
    found = compared(GRAPH.format(bump=NONE), GRAPH.format(bump="0, 1e-7, 0, 0, 0, 0"), x=tied)
    assert found.ok
    assert "y: 1 choices fell the other way between scores that agree" in found.notes


def test_a_choice_of_a_worse_score_is_wrong() -> None:
    found = compared(GRAPH.format(bump=NONE), GRAPH.format(bump=NONE).replace("ArgMax", "ArgMin"), x=SCORES)
    assert not found.ok
    assert found.problem.startswith("2 of 2 elements differ, first y[0]")


def test_a_choice_that_is_cast_and_reshaped_is_still_a_choice() -> None:
    text = """g (float[2, 3] x) => (int32[2] y, int64[2, 2] i, float[2, 2] v)
        <int64[1] two = {2}, int64[1] axis = {1}> {
        a = ArgMax<axis = 1>(x)  b = Squeeze(a, axis)  y = Cast<to = 6>(b)
        v, i = TopK<axis = 1>(x, two) }"""
    model = ir.from_proto(made(text))
    assert [(each.output, each.scores.name, each.axis, each.count) for each in choices(model)] == [
        ("y", "x", 1, 1),
        ("i", "x", 1, 2),
    ]


@pytest.mark.parametrize(
    ("want", "got", "flips"),
    [
        ([[0, 2], [1, 0]], [[0, 2], [1, 0]], 0),
        ([[0, 2], [1, 0]], [[0, 2], [0, 1]], None),  # 0.75 and 0.25 are no tie
        ([[0, 2], [1, 0]], [[0, 0], [1, 0]], None),  # the same twice
        ([[0, 2], [1, 0]], [[0, 9], [1, 0]], None),  # out of range
        ([[0, 2], [1, 0]], [[0, 2], [1, 2]], 1),  # 0.25 and 0.2 are one within 0.06
    ],
)
def test_the_scores_of_what_was_chosen_decide(want: list, got: list, flips: int | None) -> None:  # type: ignore[type-arg]
    choice = Choice("i", ir.from_proto(made("g (float[1] x) => (float[1] y) { y = Relu(x) }")).graph.inputs[0], 1, 2)
    assert near_ties(choice, np.array(want), np.array(got), SCORES, Tolerance(atol=0.06)) == flips


@pytest.mark.parametrize(
    ("want", "got", "flips"),
    [
        (0, 1, None),  # NaN wins over 1 in both or in none
        (0, 2, 1),
        (3, 1, None),  # 1 is no infinity, however wide the noise of one is
        (3, 4, 1),
        (5, 1, None),
        (5, 6, 1),
    ],
)
def test_scores_that_are_no_numbers_agree_with_their_like_alone(want: int, got: int, flips: int | None) -> None:
    choice = Choice("i", ir.from_proto(made("g (float[1] x) => (float[1] y) { y = Relu(x) }")).graph.inputs[0], 1, 1)
    scores = np.array([[np.nan, 1, np.nan, np.inf, np.inf, -np.inf, -np.inf]], np.float32)
    assert near_ties(choice, np.array([[want]]), np.array([[got]]), scores, Tolerance(0.1, 0.1)) == flips


# --- the truth --------------------------------------------------------------------------------------------------------

CANCELS = """g (float[256] x) => (float[1] y) <float big = {1e8}, int64[1] axis = {0}> {
    a = Add(x, big)  b = Sub(a, big)  y = ReduceSum<keepdims = 1>(b, axis) }"""


def test_float64_is_what_a_model_means() -> None:
    data = made("g (float[3] x) => (float[3] y) <float third = {0.333333343}> { a = Mul(x, third)  y = Exp(a) }")
    x = np.array([1, 2, 3], np.float32)
    wide = evaluate_in_double(data, {"x": x})["y"]
    assert wide.dtype == np.float64
    assert np.array_equal(wide, np.exp(x.astype(np.float64) * float(np.float32(0.333333343))))
    assert evaluate(data, {"x": x})["y"].dtype == np.float32


@pytest.mark.parametrize(
    "body",
    [
        "{ c = Constant<value_float = 0.5>() y = Mul(x, c) }",
        "{ c = Constant<value_floats = [0.5]>() y = Mul(x, c) }",
        "{ h = Cast<to = 1>(x) y = Exp(h) }",
        "<int64[1] n = {3}> { c = ConstantOfShape<value = float[1] {0.25}>(n) y = Add(x, c) }",
        "<bool k = {1}> { y = If(k) <then_branch = t () => (float[3] u) {"
        " c = Constant<value_float = 0.5>() u = Mul(x, c) }, else_branch = e () => (float[3] v) { v = Neg(x) }> }",
    ],
)
def test_every_place_where_float32_is_named_becomes_float64(body: str) -> None:
    data = made(f"g (float[3] x) => (float[3] y) {body}")
    x = np.array([0.1, 0.2, 0.3], np.float32)
    wide, plain = evaluate_in_double(data, {"x": x})["y"], evaluate(data, {"x": x})["y"]
    assert (wide.dtype, plain.dtype) == (np.float64, np.float32)
    assert np.allclose(wide, plain)


def test_a_result_as_near_to_the_truth_as_the_original_is_right() -> None:
    random = np.random.default_rng(0)
    x = (random.normal(size=256) * 100).astype(np.float32)
    found = compared(CANCELS, CANCELS.replace("a = Add(x, big)  b = Sub(a, big)", "b = Identity(x)"), x=x)
    assert not found.ok  # the original is off by more than roundings: nobody can say who is right
    mild = CANCELS.replace("1e8", "3e4")
    found = compared(mild, mild.replace("a = Add(x, big)  b = Sub(a, big)", "b = Identity(x)"), x=x)
    assert found.ok


def test_what_the_evaluator_cannot_compute_has_no_truth() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "com.nobody" : 1]> '
            "g (float[2] x) => (float[2] y) { y = com.nobody.Mystery(x) }"
        )
    )
    x = np.ones(2, np.float32)
    assert truth(model, {"x": x}, {"y": x}) is None


def test_an_evaluator_that_disagrees_in_float32_is_not_trusted() -> None:
    model = ir.from_proto(made("g (float[2] x) => (float[2] y) { y = Exp(x) }"))
    x = np.ones(2, np.float32)
    right = np.exp(x)
    found = truth(model, {"x": x}, {"y": right})
    assert found is not None and np.array_equal(found["y"], np.exp(np.ones(2)).astype(np.float32))
    assert truth(model, {"x": x}, {"y": right * np.float32(1.01)}) is None
