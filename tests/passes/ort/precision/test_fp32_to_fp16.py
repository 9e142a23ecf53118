"""Single-precision models computed in half precision for target ort-cuda, and how that is verified."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, Result, ir, optimize
from optimize_graph.passes import Pipeline, Settings, Target, VerifyEach
from optimize_graph.runtime import Criteria, FeedSet, verify

HALF, SINGLE, BOOL = ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.BOOL


def parsed(text: str, opset: int = 18) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    random = np.random.default_rng(0)
    made = {name for node in proto.graph.node for name in node.output}
    for value in [each for each in proto.graph.value_info if each.name not in made]:
        content = random.normal(size=[dim.dim_value for dim in value.type.tensor_type.shape.dim]).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, value.name))
        proto.graph.value_info.remove(value)
    onnx.checker.check_model(proto)
    return proto


def converted(proto: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(proto)
    settings = Settings(Target("ort-cuda"), fp16=True)
    Pipeline.parse("convert-to-fp16,canonicalize,dce").run(model, [VerifyEach()], settings=settings)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def optimized(proto: onnx.ModelProto, **options: object) -> Result:
    return optimize(proto, options=Options(target="ort-cuda", fp16=True, strict=True, **options))  # type: ignore[arg-type]


def types(model: ir.Model) -> dict[str, ir.DataType | None]:
    """The type of the first result by operator; that of the last where there are several."""
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    return {node.op_type: ir.declared_dtype(node.outputs[0]) for node in ir.nodes(ir.from_proto(inferred))}


def test_products_are_float16_and_the_interface_is_float32() -> None:
    proto = parsed("g (float[2,4] x) => (float[2,3] y) <float[4,3] w> { p = MatMul(x, w)  y = Relu(p) }")
    model = converted(proto)
    assert types(model) == {"MatMul": HALF, "Relu": HALF, "Cast": SINGLE}
    assert [ir.declared_dtype(value) for value in (*model.graph.inputs, *model.graph.outputs)] == [SINGLE, SINGLE]
    assert {ir.declared_dtype(value) for value in model.graph.initializers.values()} == {HALF}


@pytest.mark.parametrize(
    ("text", "singles"),
    [
        # a normalization that is spelled out, up to its division
        (
            """g (float[2,4] x) => (float[2,4] y)
              <float[4,4] w, float two = {2}, int64[1] last = {-1}, float e = {0.001}> {
              p = MatMul(x, w)  s = Pow(p, two)  m = ReduceMean(s, last)  v = Add(m, e)  r = Sqrt(v)
              d = Div(p, r)  y = Relu(d) }""",
            {"Pow", "ReduceMean", "Add", "Sqrt", "Div"},
        ),
        # constants out of range, and what is computed with them
        (
            """g (float[2,4] x) => (float[2,4] y) <float[4,4] w, float big = {100000}> {
              p = MatMul(x, w)  a = Mul(p, big)  n = Neg(a)  t = Tanh(n)  y = Relu(t) }""",
            {"Mul", "Neg", "Tanh"},
        ),
        # an epsilon that half has few digits for
        (
            """g (float[2,4] x) => (float[2,4] y) <float[4,4] w, float e = {0.000001}> {
              p = MatMul(x, w)  a = Add(p, e)  y = Relu(a) }""",
            {"Add"},
        ),
        # positions become angles
        (
            """g (int64[4] i, float[2,4] x) => (float[2,4] y) <float[4,4] w, float f = {0.5}> {
              p = MatMul(x, w)  c = Cast<to = 1>(i)  m = Mul(c, f)  s = Sin(m)  y = Add(p, s) }""",
            {"Mul", "Sin"},
        ),
        # no kernel for half, or none that onnxconverter-common trusts
        (
            """g (float[2,4] x) => (float[2,2] y, int64[2,2] i) <float[4,4] w, int64[1] k = {2}> {
              p = MatMul(x, w)  y, i = TopK(p, k) }""",
            {"TopK"},
        ),
    ],
    ids=["norm", "range", "digits", "positions", "top-k"],
)
def test_values_outside_float16_stay_float32(text: str, singles: set[str]) -> None:
    found = types(converted(parsed(text)))
    assert {name for name, dtype in found.items() if dtype == SINGLE} - {"Cast"} == singles
    assert found["MatMul"] == HALF


def test_bodies_of_control_flow_read_what_they_read_before() -> None:
    proto = parsed(
        """g (float[2,4] x, bool c) => (float[2,4] y) <float[4,4] w> { p = MatMul(x, w)  q = If(c) <
             then_branch = t () => (float[2,4] a) { a = Neg(p) },
             else_branch = e () => (float[2,4] b) { b = Exp(p) }>  y = MatMul(q, w) }"""
    )
    model = converted(proto)
    kinds = {node.op_type: ir.declared_dtype(node.outputs[0]) for node in ir.nodes(model)}
    assert (kinds["Neg"], kinds["Exp"]) == (SINGLE, SINGLE)
    result = optimized(proto)
    assert result.verification is not None and result.verification.ok


def test_a_mask_beyond_the_range_is_clipped_and_leaves_attention_half() -> None:
    proto = parsed(
        """g (float[1,2,8,8] q, bool[1,1,8,8] keep) => (float[1,2,8,8] y) <float zero = {0}, float off = {-3.4e38}> {
             mask = Where(keep, zero, off)  y = Attention(q, q, q, mask) }""",
        opset=23,
    )
    model = converted(proto)
    found = types(model)
    assert (found["Attention"], found["Where"], found["Clip"]) == (HALF, SINGLE, SINGLE)


def test_a_shape_is_read_from_half() -> None:
    proto = parsed(
        "g (float[n,4] x) => (float[n,4] y, int64[2] d) <float[4,4] w> { y = MatMul(x, w)  z = Relu(y)  d = Shape(z) }"
    )
    assert sum(node.op_type == "Cast" for node in ir.nodes(converted(proto))) == 2


def test_a_model_without_floats_is_left_alone() -> None:
    proto = parsed("g (int64[2] x) => (int64[2] y) { y = Neg(x) }")
    assert [node.op_type for node in ir.nodes(converted(proto))] == ["Neg"]


def test_integers_that_index_a_table_do_not_keep_it_single() -> None:
    proto = parsed(
        """g (int32[4] i) => (float[4,2] y) <float[9,4] table, float[4,2] w> {
             j = Cast<to = 7>(i)  e = Gather(table, j)  y = MatMul(e, w) }"""
    )
    found = types(converted(proto))
    assert (found["Gather"], found["MatMul"]) == (HALF, HALF)


def test_a_quantized_model_is_left_alone() -> None:
    proto = parsed(
        "g (float[2,4] x) => (float[2,4] y) { q, s, z = DynamicQuantizeLinear(x)  y = DequantizeLinear(q, s, z) }"
    )
    result = optimized(proto)
    assert not any(rewrite.rule == "convert-to-fp16" for rewrite in result.rewrites)
    assert "q is DynamicQuantizeLinear" in {each.because for each in result.missed}


def test_the_tolerance_is_what_rounding_to_float16_changes() -> None:
    proto = parsed("g (float[2,64] x) => (float[2,8] y) <float[64,8] w> { p = MatMul(x, w)  y = Tanh(p) }")
    result = optimized(proto)
    assert result.exactness.name == "APPROXIMATE"
    assert result.verification is not None and result.verification.ok
    assert 2**-11 <= result.verification.floor < 0.05
    assert any("rounding inputs and weights to float16" in note for note in result.verification.notes)
    assert any("only provider cuda shows overflows" in note for note in result.verification.notes)


def test_a_wrong_result_fails_the_comparison_in_half() -> None:
    right = parsed("g (float[2,64] x) => (float[2,8] y) <float[64,8] w> { y = MatMul(x, w) }")
    wrong = parsed(
        "g (float[2,64] x) => (float[2,8] y) <float[64,8] w, float s = {1.05}> { p = MatMul(x, w)  y = Mul(p, s) }"
    )
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)}
    sets = [FeedSet(feeds, "random")]
    both = (right.SerializeToString(), wrong.SerializeToString())
    assert not verify(*both, sets, criteria=Criteria(in_fp16=True)).ok
    assert verify(both[0], both[0], sets, criteria=Criteria(in_fp16=True)).ok


def test_only_the_target_for_cuda_computes_in_half() -> None:
    with pytest.raises(ir.PipelineError, match="for ONNX Runtime's CUDA provider, not ort-cpu"):
        optimize(parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }"), options=Options(fp16=True))
