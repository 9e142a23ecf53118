"""Attention and rotary embedding in the forms that exporters leave, run as the standard's operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, Result, ir, optimize
from optimize_graph.runtime import SessionOptions, open_session

HEADS = """
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split)  kh = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  raw = MatMul(qh, kh)  scores = Mul(raw, scale)
"""
MERGE = "m = MatMul(p, vh)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)"
CONSTANTS = "int64[4] split = {0, 0, 4, 8}, int64[3] merge = {0, 0, 32}, float scale = {0.35355338}, float zero = {0}"


def model(body: str, inputs: str = "", opset: int = 17, constants: str = CONSTANTS) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]>\n'
        f"g (float[b,s,32] q, float[b,s,32] k, float[b,s,32] v{inputs}) => (float[b,s,32] y) <{constants}> {{ {body} }}"
    )


def run(proto: onnx.ModelProto, **options: object) -> Result:
    return optimize(proto, options=Options(strict=True, check_each_pass=True, **options))  # type: ignore[arg-type]


def operators(result: Result) -> Counter[str]:
    return Counter(node.op_type for node in ir.nodes(result.model))


def assert_verified(result: Result) -> None:
    assert result.verification is not None and result.verification.ok


PLAIN = model(HEADS + "p = Softmax<axis = -1>(scores)" + MERGE)
MASKED = model(HEADS + "sum = Add(scores, mask)  p = Softmax<axis = -1>(sum)" + MERGE, ", float[b,1,s,s] mask")
BROADCAST = model(HEADS + "sum = Add(scores, mask)  p = Softmax<axis = -1>(sum)" + MERGE, ", float[b,1,1,s] mask")
GUARDED = model(
    HEADS
    + "sum = Add(scores, mask)  soft = Softmax<axis = -1>(sum)  nan = IsNaN(soft)  p = Where(nan, zero, soft)"
    + MERGE,
    ", float[b,1,s,s] mask",
)


BIASED = model(
    HEADS + "sum = Add(scores, bias)  both = Add(sum, mask)  p = Softmax<axis = -1>(both)" + MERGE,
    ", float[1,4,s,s] bias, float[b,1,1,s] mask",
)


# Before the kernel, the rows of a mask of which nothing is known are changed where none of their keys is left.
FOR_KERNEL = {"ReduceMax": 1, "Mul": 1, "Sub": 1}


@pytest.mark.parametrize(
    ("proto", "for_kernel"),
    [(PLAIN, {}), (MASKED, FOR_KERNEL), (GUARDED, {"Mul": 1})],
    ids=["plain", "masked", "guarded"],
)
def test_attention_over_split_heads_becomes_one_operator(proto: onnx.ModelProto, for_kernel: dict[str, int]) -> None:
    result = run(proto)
    assert operators(result) == {"Attention": 1, **for_kernel}
    assert result.model.opset_imports[""] == 23
    assert_verified(result)


def test_a_mask_that_is_broadcast_over_queries_is_expanded_for_the_kernel() -> None:
    result = run(BROADCAST)
    assert operators(result) == {**FOR_KERNEL, "Shape": 1, "Concat": 1, "Expand": 1, "Attention": 1}
    assert_verified(result)


def test_a_bias_and_a_mask_are_added_before() -> None:
    result = run(BIASED)
    assert operators(result) == {"Attention": 1, "Add": 1, **FOR_KERNEL}
    assert_verified(result)


def test_a_bias_that_does_not_broadcast_over_the_scores_is_refused() -> None:
    proto = model(
        HEADS + "sum = Add(scores, bias)  both = Add(sum, mask)  p = Softmax<axis = -1>(both)" + MERGE,
        ", float[1,4,s,1] bias, float[b,1,1,s] mask",
    )
    result = run(proto, verify=False)
    assert operators(result)["Attention"] == 0
    assert "a mask that broadcasts over the scores" in {each.condition for each in result.refusals}


def test_a_row_that_is_masked_wholly_gives_zeros_as_the_guard_does() -> None:
    result = run(GUARDED)
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=(2, 3, 32)).astype(np.float32) for name in "qkv"}
    mask = np.zeros((2, 1, 3, 3), np.float32)
    mask[0, 0, 1] = -np.inf
    options = SessionOptions(optimize=False)
    want = open_session(GUARDED.SerializeToString(), options).run({**feeds, "mask": mask})["y"]
    got = open_session(ir.to_bytes(result.model), options).run({**feeds, "mask": mask})["y"]
    assert not np.asarray(want)[0, 1].any()
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [{"target": "onnx"}, {"min_ort": "1.20"}, {"opset": 17}, {"disable": ("fuse-attention",)}],
    ids=["standard operators", "an old runtime", "the opset that was asked for", "disabled"],
)
def test_the_opset_is_raised_only_where_that_is_allowed(options: dict[str, object]) -> None:
    result = run(MASKED, **options)
    assert "Attention" not in operators(result)
    assert result.model.opset_imports[""] == 17


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [
        ("Softmax<axis = -1>", "Softmax<axis = 2>", "softmax over the keys"),
        ("merge = {0, 0, 32}", "merge = {0, 32, -1}", "heads that part the last dim and fit each other"),
        ("scale = {0.35355338}", "scale = {-0.35355338}", "one positive scale"),
        ("zero = {0}", "zero = {1}", "a guard that puts zeros"),
        ("float[b,1,s,s] mask", "float[1,s,s] mask", "a mask that broadcasts over the scores"),
    ],
)
def test_a_near_miss_is_refused_for_its_reason(old: str, new: str, condition: str) -> None:
    body = (
        HEADS
        + "sum = Add(scores, mask)  soft = Softmax<axis = -1>(sum)  nan = IsNaN(soft)  p = Where(nan, zero, soft)"
        + MERGE
    )
    proto = model(
        body.replace(old, new), ", float[b,1,s,s] mask".replace(old, new), constants=CONSTANTS.replace(old, new)
    )
    if "merge" in old:
        proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, ["b", "t", "u"]))
    result = run(proto, verify=False)
    assert "Attention" not in operators(result)
    assert condition in {each.condition for each in result.refusals}


def test_doubles_have_no_kernel() -> None:
    text = onnx.printer.to_text(PLAIN).replace("float[", "double[").replace("float scale", "double scale")
    result = run(onnx.parser.parse_model(text.replace("float zero", "double zero")), verify=False)
    assert "Attention" not in operators(result)
    assert "float32, on CUDA also 16 bits" in {each.condition for each in result.refusals}


GROUPED = """
  qs = Reshape(q, qsplit)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split)   kh = Transpose<perm = [0, 2, 1, 3]>(ks)  kp = Concat<axis = 2>(pk, kh)
  vs = Reshape(v, split)   vh = Transpose<perm = [0, 2, 1, 3]>(vs)  vp = Concat<axis = -2>(pv, vh)
  ka = Unsqueeze(kp, two)  ke = Expand(ka, sizes)  kr = Reshape(ke, target)
  va = Unsqueeze(vp, two)  ve = Expand(va, sizes)  vr = Reshape(ve, target)
  kt = Transpose<perm = [0, 1, 3, 2]>(kr)
  raw = MatMul(qh, kt)  scores = Mul(raw, scale)  p = Softmax(scores)
  m = MatMul(p, vr)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)
"""


def grouped(extra_outputs: str, tail: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>\n'
        "g (float[b,s,32] q, float[b,s,16] k, float[b,s,16] v, float[b,2,past,8] pk, float[b,2,past,8] pv) => "
        f"(float[b,s,32] y{extra_outputs}) <int64[4] qsplit = {{0, 0, 4, 8}}, int64[4] split = {{0, 0, 2, 8}}, "
        "int64[1] two = {2}, int64[3] merge = {0, 0, 32}, int64[1] four = {4}, int64[1] eight = {8}, "
        "float scale = {0.3}> {"
        "  batch = Shape<start = 0, end = 1>(q)  s = Shape<start = 1, end = 2>(q)  past = Shape<start = 2, end = 3>(pk)"
        "  all = Add(s, past)  sizes = Concat<axis = 0>(batch, two, two, all, eight)"
        f"  target = Concat<axis = 0>(batch, four, all, eight) {GROUPED} {tail} }}"
    )


def test_grouped_queries_with_a_cache_use_the_operators_own_cache() -> None:
    result = run(grouped(", float[b,2,all,8] kp, float[b,2,all,8] vp"))
    assert operators(result) == {"Attention": 1}
    assert [value.name for value in result.model.graph.outputs] == ["y", "kp", "vp"]
    assert_verified(result)


def test_a_cache_that_another_node_reads_is_refused() -> None:
    result = run(grouped(", float[b,2,all,8] z", "z = Neg(kp)"))
    assert "Attention" not in operators(result)
    assert "a cache of keys and values that nobody else reads" in {each.condition for each in result.refusals}


ROTARY = """
  twice = Concat<axis = -1>(angles, angles)
  c = Cos(twice)  cos = Unsqueeze(c, one)  s = Sin(twice)  sin = Unsqueeze(s, one)
  split = Reshape(x, dims)  h = Transpose<perm = [0, 2, 1, 3]>(split)
  first = Slice(h, zero, half, three)  second = Slice(h, half, end, three)
  n = Neg(second)  turned = Concat<axis = -1>(n, first)
  a = Mul(h, cos)  b = Mul(turned, sin)  y = Add(a, b)
"""


def rotary(batch: str = "b", start: int = 4) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>\n'
        f"g (float[b,s,32] x, float[{batch},s,4] angles) => (float[b,4,s,8] y) <int64[4] dims = {{0, 0, 4, 8}}, "
        f"int64[1] one = {{1}}, int64[1] zero = {{0}}, int64[1] half = {{{start}}}, int64[1] three = {{3}}, "
        f"int64[1] end = {{9223372036854775807}}> {{ {ROTARY} }}"
    )


@pytest.mark.parametrize("batch", ["b", "1"])
def test_rotate_half_becomes_rotary_embedding_before_the_heads_are_split(batch: str) -> None:
    result = run(rotary(batch))
    assert operators(result)["RotaryEmbedding"] == 1
    assert operators(result)["Slice"] == 0
    assert_verified(result)


def test_parts_that_are_no_halves_are_refused() -> None:
    result = run(rotary(start=2), verify=False)
    assert operators(result)["RotaryEmbedding"] == 0


def fixed_rotary(batch: str = "b", table: np.ndarray | None = None) -> onnx.ModelProto:
    """Rotary embedding over 3 positions with cosines and sines that were computed ahead."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>\n'
        f"g (float[{batch},3,32] x) => (float[{batch},4,3,8] y) <int64[4] dims = {{0, 0, 4, 8}}, "
        "int64[1] zero = {0}, int64[1] half = {4}, int64[1] three = {3}, int64[1] end = {9223372036854775807}> { "
        "s = Reshape(x, dims)  t = Transpose<perm = [0, 2, 1, 3]>(s)  first = Slice(t, zero, half, three) "
        "second = Slice(t, half, end, three)  n = Neg(second)  r = Concat<axis = -1>(n, first) "
        "a = Mul(t, cos)  b = Mul(r, sin)  y = Add(a, b) }"
    )
    angles = np.tile(np.random.default_rng(0).uniform(0, 3, (1, 1, 3, 4)), 2)
    cos = (0.5 * np.cos(angles)).astype(np.float32) if table is None else table  # scaled, as queries are
    proto.graph.initializer.append(onnx.numpy_helper.from_array(cos, "cos"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.sin(angles).astype(np.float32), "sin"))
    return proto


@pytest.mark.parametrize("batch", ["b", "2"])
def test_cosines_that_were_computed_ahead_become_the_operators_tables(batch: str) -> None:
    result = run(fixed_rotary(batch))
    assert operators(result)["RotaryEmbedding"] == 1 and operators(result)["Slice"] == 0
    assert_verified(result)


@pytest.mark.parametrize(
    "table",
    [
        np.arange(24, dtype=np.float32).reshape(1, 1, 3, 8),  # halves that differ
        np.ones((1, 4, 3, 8), np.float32),  # a table for each head
        np.ones((1, 1, 1, 8), np.float32),  # one row for all positions
    ],
)
def test_tables_that_are_no_angles_of_positions_are_refused(table: np.ndarray) -> None:
    result = run(fixed_rotary(table=table), verify=False)
    assert operators(result)["RotaryEmbedding"] == 0
