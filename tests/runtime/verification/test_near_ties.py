"""Differences beyond the noise that are none: near-ties, and an original that is itself far from the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.ir.standard.reference_evaluator import evaluate, evaluate_in_double
from optimize_graph.runtime import FeedSet, Tolerance, Verification, check_result, verify
from optimize_graph.runtime.verification import reference
from optimize_graph.runtime.verification.float64_reference import truth
from optimize_graph.runtime.verification.near_ties import Choice, choices, near_ties

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


def test_a_choice_that_is_cast_to_what_cannot_hold_it_is_none() -> None:
    for kind in (9, 3):  # bool, int8
        casts = f"b = Cast<to = {kind}>(a)  y = Cast<to = 1>(b)"
        text = f"g (float[2, 300] x) => (float[2, 1] y) {{ a = ArgMax<axis = 1>(x)  {casts} }}"
        assert not choices(ir.from_proto(made(text)))


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
    assert not found.ok  # the original is off by more than roundings: neither is known to be right
    mild = CANCELS.replace("1e8", "3e4")
    found = compared(mild, mild.replace("a = Add(x, big)  b = Sub(a, big)", "b = Identity(x)"), x=x)
    assert found.ok


def test_what_the_evaluator_cannot_compute_has_no_truth() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "com.acme" : 1]> '
            "g (float[2] x) => (float[2] y) { y = com.acme.Mystery(x) }"
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


BESIDE = """g (float[256] x, float[256] z) => (float[257] y)
    <float big = {3e4}, float bump = {0}, int64[1] axis = {0}> {
    a = Add(x, big)  b = Sub(a, big)  s = ReduceSum<keepdims = 1>(b, axis)
    h = Add(z, bump)  e = Mul(z, h)  y = Concat<axis = 0>(s, e) }"""


def test_a_result_much_further_from_the_truth_than_the_original_is_wrong() -> None:
    random = np.random.default_rng(0)
    feeds = {
        "x": (random.normal(size=64).repeat(4) * 10).astype(np.float32),
        "z": random.normal(size=256).astype(np.float32),
    }
    assert not compared(BESIDE, BESIDE.replace("bump = {0}", "bump = {2e-3}"), **feeds).ok


def test_whole_numbers_are_not_forgiven_because_the_evaluator_has_others(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "g (float[3] x) => (float[3] y, int64[3] i) <float k = {0}> { y = Neg(x)  a = Add(x, k)  i = Cast<to = 7>(a) }"
    )
    x = np.array([0.5, 1.5, 2.5], np.float32)
    monkeypatch.setattr(reference, "truth", lambda *_, **__: {"y": -x, "i": np.array([10, 11, 12])})
    found = compared(text, text.replace("k = {0}", "k = {1}"), x=x)
    assert found.problem == "3 of 3 elements differ, first i[0]: 1 instead of 0 (off by 5.0e-01 of the output's scale)"


def test_a_model_with_external_data_has_a_second_look_too(tmp_path: Path) -> None:
    text = "g (float[3, 4] x) => (int64[3] y) { s = MatMul(x, w)  y = ArgMax<axis = 1, keepdims = 0>(s) }"
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    loaded, x = ir.load(path), np.full((3, 4), 0.25, np.float32)
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("select_last_index", 1))
    other = onnx.load(path)
    other.graph.node[-1].CopyFrom(model.graph.node[-1])
    original = reference.Reference(path, model=loaded)
    found = check_result(original, bytes(other.SerializeToString()), [FeedSet({"x": x}, "given")])
    assert found.ok and "y: 3 choices fell the other way between scores that agree" in found.notes


def test_weights_beside_the_model_have_a_truth(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEADER + "g (float[3, 4] x) => (float[3, 4] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    x = np.full((3, 4), 0.25, np.float32)
    true = truth(ir.load(path), {"x": x}, {"y": x})
    assert true is not None and np.array_equal(true["y"], x)


def test_what_lies_beside_a_model_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    model = ir.from_proto(made("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    x = np.ones(2, np.float32)
    assert truth(model, {"x": x}, {"y": -x}) is not None


def test_the_truth_has_no_more_time_than_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(reference, "truth", lambda *_, seconds: given.append(seconds))
    feeds = [FeedSet({"x": np.ones(2, np.float32)}, "given")]
    one, two = (made(f"g (float[2] x) => (float[2] y) {{ y = {name}(x) }}") for name in ("Neg", "Abs"))
    assert not verify(one, two, feeds, time_limit_s=5.0).ok
    assert len(given) == 1 and given[0] <= 5.0


@pytest.mark.filterwarnings("error")
def test_what_overflows_in_float32_alone_overflows_without_a_word() -> None:
    model = ir.from_proto(made("g (float[2] x) => (float[2] y) { y = Exp(x) }"))
    plain = np.array([np.inf, 1], np.float32)
    true = truth(model, {"x": np.array([100, 0], np.float32)}, {"y": plain})
    assert true is not None and np.array_equal(true["y"], plain)
