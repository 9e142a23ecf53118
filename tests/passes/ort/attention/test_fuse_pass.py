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
from support.attention_models import BIASED, BROADCAST, CONSTANTS, GUARDED, HEADS, MASKED, MERGE, PLAIN, model, rotary


def run(proto: onnx.ModelProto, **options: object) -> Result:
    return optimize(proto, options=Options(strict=True, verify_each=True, **options))  # type: ignore[arg-type]


def operators(result: Result) -> Counter[str]:
    return Counter(node.op_type for node in ir.nodes(result.model))


def assert_verified(result: Result) -> None:
    assert result.verification is not None and result.verification.ok


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
    assert "an attention block" in {each.condition for each in result.missed}


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


LOST = {
    "RandomNormal": "z = RandomNormal<shape = [2, 3]>()",
    "RandomUniform": "z = RandomUniform<shape = [2, 3]>()",
    "RandomNormalLike": "z = RandomNormalLike(q)",
    "RandomUniformLike": "z = RandomUniformLike(q)",
    "Multinomial": "flat = Flatten(q)  z = Multinomial(flat)",
    "RoiAlign": "maps = Unsqueeze(q, first)  z = RoiAlign(maps, boxes, none)",
    "MaxRoiPool": "maps = Unsqueeze(q, first)  z = MaxRoiPool<pooled_shape = [1, 1]>(maps, rois)",
    "GlobalLpPool": "maps = Unsqueeze(q, first)  z = GlobalLpPool(maps)",
}
"""Operators without a kernel at opset 22 and above, in 1.31 and 1.32."""
LOST_CONSTANTS = (
    f"{CONSTANTS}, int64[1] first = {{0}}, float[1,4] boxes = {{0, 0, 2, 2}}, "
    "int64[1] none = {0}, float[1,5] rois = {0, 0, 0, 2, 2}"
)
ATTENTION_BODY = HEADS + "sum = Add(scores, mask)  p = Softmax<axis = -1>(sum)" + MERGE


def beside(body: str) -> onnx.ModelProto:
    """Attention, and `body`, which gives a second output z."""
    other = model(ATTENTION_BODY + body, ", float[b,1,s,s] mask, bool c", constants=LOST_CONSTANTS)
    other.graph.output.append(onnx.helper.make_empty_tensor_value_info("z"))
    other.graph.output[-1].type.tensor_type.elem_type = (
        onnx.TensorProto.INT32 if "Multinomial" in body else onnx.TensorProto.FLOAT
    )
    return other


def assert_loads_and_keeps_its_opset(result: Result) -> None:
    assert result.model.opset_imports[""] == 17
    assert operators(result)["MultiHeadAttention"] == 1
    open_session(ir.to_bytes(result.model), SessionOptions(optimize=False))
    open_session(ir.to_bytes(result.model), SessionOptions())


@pytest.mark.parametrize("op_type", LOST)
def test_the_opset_stays_where_an_operator_has_no_kernel_at_the_new_one(op_type: str) -> None:
    result = run(beside(LOST[op_type]), verify=False)
    assert_loads_and_keeps_its_opset(result)
    assert f"none for {op_type}" in {each.because for each in result.missed}


def test_an_operator_in_a_branch_keeps_its_kernel_too() -> None:
    branches = """z = If(c)<then_branch = t () => (float[2,3] a) { a = RandomNormal<shape = [2, 3]>() },
                             else_branch = e () => (float[2,3] d) { d = RandomUniform<shape = [2, 3]>() }>"""
    result = run(beside(branches), verify=False)
    assert_loads_and_keeps_its_opset(result)
    assert "none for RandomNormal, RandomUniform" in {each.because for each in result.missed}


def test_an_operator_in_a_function_keeps_its_kernel_too() -> None:
    proto = beside("z = local.Noise(q)")
    proto.opset_import.add(domain="local", version=1)
    proto.functions.append(
        onnx.parser.parse_function(
            '<domain: "local", opset_import: ["": 17]> Noise (a) => (b) { b = RandomNormalLike(a) }'
        )
    )
    assert_loads_and_keeps_its_opset(run(proto, verify=False, disable=("inline-functions",)))


def test_an_operator_with_a_kernel_at_both_opsets_does_not_hold_the_opset() -> None:
    result = run(beside("maps = Unsqueeze(q, first)  z = AveragePool<kernel_shape = [1, 1]>(maps)"), verify=False)
    assert result.model.opset_imports[""] == 23
    assert operators(result)["Attention"] == 1


QUANTIZED_CONSTANTS = (
    f"{CONSTANTS}, int64[2] flat = {{-1, 16}}, int64[1] first = {{0}}, int64[1] two = {{2}}, "
    "float step = {0.1}, int8 i8 = {3}, int8 z8 = {0}, uint8 u8 = {0}, int32 i32 = {0}, "
    "float[32] steps = {%s}, int8[32] zeros = {%s}" % (", ".join(["0.1"] * 32), ", ".join(["0"] * 32))
)
CHANGES = {
    "Transpose": "t2 = Transpose<perm = [2, 0, 1]>(d)",
    "Reshape": "t2 = Reshape(d, flat)",
    "Unsqueeze": "t2 = Unsqueeze(d, first)",
    "Slice": "t2 = Slice(d, first, two)",
    "MaxPool": "t2 = MaxPool<kernel_shape = [1]>(d)",
    "Identity, Transpose": "i = Identity(d)  t2 = Transpose<perm = [2, 0, 1]>(i)",
    "Transpose, Transpose": "i = Transpose<perm = [2, 0, 1]>(d)  t2 = Transpose<perm = [2, 0, 1]>(i)",
}


def quantized(dtype: str, dequantize: str, change: str) -> onnx.ModelProto:
    proto = model(
        f"{ATTENTION_BODY}  d = {dequantize}  {change}  z = Neg(t2)",
        f", float[b,1,s,s] mask, {dtype}[4,8,32] x8",
        opset=20,
        constants=QUANTIZED_CONSTANTS,
    )
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info("z"))
    proto.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return proto


def opens(proto: onnx.ModelProto | ir.Model, *, optimized: bool = True) -> bool:
    content = ir.to_bytes(proto) if isinstance(proto, ir.Model) else proto.SerializeToString()
    try:
        open_session(content, SessionOptions(optimize=optimized))
    except ir.ModelError:
        return False
    return True


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("dtype", "dequantize"),
    [("int8", "DequantizeLinear(x8, step, i8)"), ("int32", "DequantizeLinear(x8, step)")],
    ids=["int8", "int32"],
)
def test_the_opset_stays_where_onnxruntime_would_break_a_quantized_model(
    dtype: str, dequantize: str, change: str
) -> None:
    proto = quantized(dtype, dequantize, CHANGES[change])
    raised = ir.convert_opset(ir.from_proto(proto), 23)
    assert opens(raised, optimized=False) and not opens(raised), "the fault of ONNX Runtime is gone: drop the guard"
    result = run(proto, verify=False)
    assert (result.model.opset_imports[""], operators(result)["MultiHeadAttention"]) == (20, 1)
    assert opens(result.model)
    assert "quantization that ONNX Runtime optimizes soundly from opset 21 on" in {
        each.condition for each in result.missed
    }


@pytest.mark.parametrize(
    ("dtype", "dequantize", "change"),
    [
        ("uint8", "DequantizeLinear(x8, step, u8)", CHANGES["Transpose"]),
        ("uint8", "DequantizeLinear(x8, step)", CHANGES["Reshape"]),
        ("int8", "DequantizeLinear(x8, step)", CHANGES["Transpose"]),
        ("int8", "DequantizeLinear(x8, step, z8)", CHANGES["Transpose"]),
        ("int8", "DequantizeLinear(x8, step, i8)", "t2 = Relu(d)"),
        ("int8", "DequantizeLinear<axis = 2>(x8, steps, zeros)", "t2 = Abs(d)"),
    ],
)
def test_sound_quantized_models_are_raised(dtype: str, dequantize: str, change: str) -> None:
    result = run(quantized(dtype, dequantize, change), verify=False)
    assert (result.model.opset_imports[""], operators(result)["Attention"]) == (23, 1)
    assert opens(result.model)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Softmax<axis = -1>", "Softmax<axis = 2>", "softmax over axis 2 of FLOAT[b, 4, s, s]"),
        ("scale = {0.35355338}", "scale = {-0.35355338}", "Mul of 'scores' is neither scale nor mask"),
    ],
)
def test_a_near_miss_is_refused_for_its_reason(old: str, new: str, reason: str) -> None:
    body = (
        HEADS
        + "sum = Add(scores, mask)  soft = Softmax<axis = -1>(sum)  nan = IsNaN(soft)  p = Where(nan, zero, soft)"
        + MERGE
    )
    proto = model(
        body.replace(old, new), ", float[b,1,s,s] mask".replace(old, new), constants=CONSTANTS.replace(old, new)
    )
    result = run(proto, verify=False)
    assert "Attention" not in operators(result)
    assert reason in {each.because for each in result.missed}


def test_doubles_have_no_kernel() -> None:
    text = onnx.printer.to_text(PLAIN).replace("float[", "double[").replace("float scale", "double scale")
    result = run(onnx.parser.parse_model(text.replace("float zero", "double zero")), verify=False)
    assert "Attention" not in operators(result)
    assert "float32, on CUDA also float16 or bfloat16" in {each.condition for each in result.missed}


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


def test_a_cache_that_another_node_uses_is_concatenated_outside() -> None:
    result = run(grouped(", float[b,2,all,8] z", "z = Neg(kp)"))
    assert (operators(result)["Attention"], operators(result)["Concat"]) == (1, 2)
    assert_verified(result)


@pytest.mark.parametrize("batch", ["b", "1"])
def test_rotate_half_becomes_rotary_embedding_before_the_heads_are_split(batch: str) -> None:
    result = run(rotary(batch))
    assert operators(result)["RotaryEmbedding"] == 1
    assert operators(result)["Slice"] == 0
    assert_verified(result)


def test_pieces_of_unequal_sizes_are_not_rotated() -> None:
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
        np.arange(24, dtype=np.float32).reshape(1, 1, 3, 8),  # the two pieces differ
        np.ones((1, 4, 3, 8), np.float32),  # a table for each head
        np.ones((1, 1, 1, 8), np.float32),  # one row for all positions
    ],
)
def test_tables_that_are_no_angles_of_positions_are_refused(table: np.ndarray) -> None:
    result = run(fixed_rotary(table=table), verify=False)
    assert operators(result)["RotaryEmbedding"] == 0
