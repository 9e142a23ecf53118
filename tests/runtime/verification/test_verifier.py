"""Verification: a wrong result is caught, a right one passes, and what was not covered is said."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import Criteria, FeedSet, Reference, SessionOptions, Verification, feed_sets, verify
from optimize_graph.runtime.verification.model_traits import is_quantized
from optimize_graph.runtime.verification.result_check import ResultCheck


def proto(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return parsed


RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((8, 8)).astype(np.float32)
NET = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w) y = Tanh(a) }"


def checked(original: onnx.ModelProto, result: onnx.ModelProto, **options: Any) -> Verification:
    sets = feed_sets(ir.from_proto(original), count=2)
    limit = options.pop("time_limit_s", None)
    both = original.SerializeToString(), result.SerializeToString()
    return verify(*both, sets, criteria=Criteria(**options), time_limit_s=limit)


def test_results_are_compared_without_products_that_are_rounded_to_tf32() -> None:
    reference = Reference(proto(NET, w=W).SerializeToString(), options=SessionOptions(provider="cuda"))
    assert not reference.plain.tf32 and not reference.deployed.tf32
    assert reference.deployed.provider == "cuda"


@pytest.mark.parametrize("exact", [True, False])
def test_a_model_agrees_with_itself(exact: bool) -> None:
    found = checked(proto(NET, w=W), proto(NET, w=W), exact=exact)
    assert found.ok and found.error == 0 and len(found.inputs) == 2 and found.floor > 0
    assert ("bit for bit" in found.summary()) is exact
    assert json.loads(json.dumps(found.to_json()))["ok"] is True


@pytest.mark.parametrize("exact", [True, False])
def test_a_result_that_computes_something_else_is_caught_and_the_element_named(exact: bool) -> None:
    wrong = proto(NET, w=W + np.float32(1e-3) * (np.arange(8) == 3))
    found = checked(proto(NET, w=W), wrong, exact=exact)
    assert not found.ok
    assert found.worst is not None and found.worst.output == "y" and found.worst.index[1] == 3
    assert "differs" in found.summary() and "\n" not in found.summary()


def test_rounding_passes_where_only_rounding_is_promised_and_fails_where_equality_is() -> None:
    two = "g (float[N,8] x) => (float[N,8] y) { a = MatMul(x, w) b = Mul(a, s) y = Tanh(b) }"
    original = proto(two, w=W, s=np.array(0.7, np.float32))
    folded = proto(NET, w=W * np.float32(0.7))
    assert checked(original, folded).ok
    assert not checked(original, folded, exact=True).ok


def test_an_exact_result_may_round_otherwise_where_onnxruntime_fuses_what_it_did_not_before() -> None:
    gelu = """g (float[64] x) => (float[64] y) <float root = {1.41421356}, float one = {1}, float half = {0.5}> {
        d = Div(x, root)  e = Erf(d)  barrier  a = Add(b, one)  m = Mul(x, a)  y = Mul(m, half) }"""
    blocked, free = gelu.replace("barrier", "b = Max(e)"), gelu.replace("barrier", "b = Identity(e)")
    verification = checked(proto(blocked), proto(free), exact=True)
    assert verification.ok and verification.exact
    assert verification.error > 0  # or nothing was fused, and this tests nothing
    assert not verification.notes


def test_another_name_type_or_order_of_the_interface_is_caught() -> None:
    original = proto("g (float[2] x) => (float[2] a, float[2] b) { a = Relu(x) b = Neg(x) }")
    swapped = proto("g (float[2] x) => (float[2] b, float[2] a) { a = Relu(x) b = Neg(x) }")
    renamed = proto("g (float[2] z) => (float[2] a, float[2] b) { a = Relu(z) b = Neg(z) }")
    retyped = proto("g (float[2] x) => (float[2] a, double[2] b) { a = Relu(x) c = Neg(x) b = Cast<to = 11>(c) }")
    for result in (swapped, renamed, retyped):
        found = checked(original, result)
        assert not found.ok and "instead of" in found.problem


def test_a_result_that_does_not_load_or_run_is_not_ok() -> None:
    original = proto("g (float[N,6] x) => (float[M] y) { s = Constant<value_ints = [-1]>() y = Reshape(x, s) }")
    broken = proto("g (float[N,6] x) => (float[M] y) { s = Constant<value_ints = [6]>() y = Reshape(x, s) }")
    refused = proto("g (float[N,6] x) => (float[M] y) { y = Unknown(x) }")
    assert "could not run" in checked(original, broken).problem
    assert "refuses" in checked(original, refused).problem


def test_an_original_that_does_not_run_is_an_error() -> None:
    original = proto("g (float[2] x) => (float[2] y) { y = Unknown(x) }")
    with pytest.raises(ir.ModelError, match="onnxruntime-refuses-model"):
        checked(original, original)


def test_the_time_limit_leaves_one_set_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ResultCheck.problem_on

    def slow(self: ResultCheck, feeds: dict[str, np.ndarray]) -> str:
        problem = whole(self, feeds)
        time.sleep(2.0)
        return problem

    monkeypatch.setattr(ResultCheck, "problem_on", slow)
    found = checked(proto(NET, w=W), proto(NET, w=W), time_limit_s=2)
    assert found.ok and len(found.inputs) == 1
    assert "time limit of 2 s reached after 1 of 2 input sets" in found.summary()


ENDLESS = """g (float[2] x) => (float[2] y) {
    n = Constant<value = int64 {1000000000}>() t = Constant<value = bool {1}>()
    y = Loop(n, t, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] u) { d = Identity(c) u = Neg(s) }>
}"""


def test_a_run_that_does_not_end_is_stopped_at_the_limit() -> None:
    start = time.monotonic()
    with pytest.raises(ir.ModelError, match=r"one run of the model takes longer than the 0\.[34] s.*time-limit"):
        checked(proto(ENDLESS), proto(ENDLESS), time_limit_s=0.4)
    assert time.monotonic() - start < 60  # without a limit it takes hours


def test_without_inputs_nothing_is_verified() -> None:
    original = proto(NET, w=W).SerializeToString()
    assert not verify(original, original, []).ok


def test_models_on_disk_are_verified_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(proto(NET, w=W).SerializeToString())
    assert verify(path, path, [FeedSet({"x": np.ones((1, 8), np.float32)}, "ones")]).inputs == ("ones",)


NOISE = "g (float[4] x) => (float[4] y, float[4] r) { r = RandomNormalLike(x) y = Relu(x) }"


def test_what_is_random_in_the_original_is_compared_by_type_only_and_the_rest_as_ever() -> None:
    moved = "g (float[4] x) => (float[4] y, float[4] r) { y = Relu(x) a = Identity(x) r = RandomNormalLike(a) }"
    found = checked(proto(NOISE), proto(moved))
    assert found.ok and any("r: random" in note for note in found.notes)
    wrong = moved.replace("Relu", "Abs")
    assert not checked(proto(NOISE), proto(wrong)).ok
    wider = (
        "g (float[4] x) => (float[4] y, float[N] r) { y = Relu(x) a = RandomNormalLike(x) r = Concat<axis=0>(a, a) }"
    )
    assert checked(proto(NOISE), proto(NOISE), exact=True).ok
    assert checked(proto(NOISE), proto(wider)).ok  # the shape of what is random is random


def test_seeded_random_values_are_compared() -> None:
    seeded = "g (float[4] x) => (float[4] y) { r = RandomNormalLike<seed = 1.0>(x) y = Add(x, r) }"
    assert checked(proto(seeded), proto(seeded), exact=True).ok
    assert not checked(proto(seeded), proto(seeded.replace("1.0", "2.0"))).ok


def test_integer_models_get_their_floor_from_moved_weights() -> None:
    text = """g (int64[N] ids) => (float[N,8] y) {
        e = Gather(w, ids) t = Constant<value_float = 1000.0>() y = Sub(e, t) }"""
    cancelling = proto(text, w=W + np.float32(1000))
    found = checked(cancelling, cancelling)
    assert found.ok
    assert found.floor > 1e-5  # an ulp of 1000, of which the few eps of the output's scale know nothing


def test_weights_that_are_only_stored_in_integers_quantize_too() -> None:
    stored = proto(
        """g (float[N,8] x) => (float[N,8] y) {
        s = Constant<value_float = 0.05>() d = DequantizeLinear(w, s) y = MatMul(x, d) }""",
        w=np.eye(8, dtype=np.int8),
    )
    assert is_quantized(ir.from_proto(stored))
    assert not is_quantized(ir.from_proto(proto(NET, w=W)))


# From opset 21 on, ONNX Runtime's optimizer moves int8 quantization across a Transpose with a zero point of uint8, and
# refuses what it has written.
MOVED = """g (float[2,8] x) => (float[8,2] y) {
    s = Constant<value_float = 0.05>() z = Constant<value = int8 {0}>()
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Transpose(d) }"""


def test_a_quantized_result_must_run_with_optimizations_on_where_the_original_does() -> None:
    newer = proto(MOVED)
    older = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {MOVED}')
    found = checked(older, newer)
    assert not found.ok and "refuses the model" in found.problem
    assert checked(older, older).ok
    found = checked(newer, newer)
    assert found.ok and "where the original fails" in found.summary()


def test_quantized_models_are_compared_with_optimizations_off() -> None:
    text = """g (float[N,8] x) => (float[N,8] y) {
        s = Constant<value_float = 0.05>() z = Constant<value = int8 {0}>()
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }"""
    found = checked(proto(text, w=W), proto(text, w=W))
    assert found.ok and any("quantized" in note for note in found.notes)


def test_given_tolerances_decide_instead_of_the_floor() -> None:
    near = proto(NET, w=W + np.float32(1e-3))
    assert not checked(proto(NET, w=W), near).ok
    assert checked(proto(NET, w=W), near, atol=0.1).ok
    assert not checked(proto(NET, w=W), proto(NET, w=W * np.float32(1.0001)), rtol=1e-9).ok
