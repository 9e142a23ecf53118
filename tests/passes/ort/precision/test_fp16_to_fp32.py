"""Half-precision models computed in single precision, and stored in half again where that loses nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

HALF = onnx.TensorProto.FLOAT16


def parsed(text: str, opset: int = 18) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    onnx.checker.check_model(proto)
    return proto


def converted(proto: onnx.ModelProto, pipeline: str = "upcast-fp16,canonicalize,dce") -> onnx.ModelProto:
    model = ir.from_proto(proto)
    Pipeline.parse(pipeline).run(model, [VerifyEach()])
    result = ir.to_proto(model)
    onnx.checker.check_model(result, full_check=True)
    return result


def computed(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    feeds = make_feeds(ir.from_proto(proto), seed=0)
    return dict(open_session(proto.SerializeToString(), SessionOptions(optimize=False, prepacking=False)).run(feeds))


@pytest.mark.parametrize(
    "text",
    [
        "g (float16[n,4] x) => (float16[n,4] y) { a = Exp(x)  y = Relu(a) }",
        "g (float16[2,4] x, float16[4] w) => (float16[2,4] y) <float16[4] w = {1, 2, 3, 4}> { y = Add(x, w) }",
        "g (float[2,4] x) => (float16[2,4] y, float16[2,4] z) { y = Cast<to = 10>(x)  z = Sqrt(y) }",
        "g (float16[2,4] x) => (float16[2,4] y, float16[4] w) <float16[4] w = {1, 2, 3, 4}> { y = Add(x, w) }",
        "g (int64[2] s) => (float16[a,b] y) { c = ConstantOfShape<value = float16[1] {2}>(s)  y = Neg(c) }",
        """g (float16[2] x, bool c) => (float16[2] y) { y = If(c) <
             then_branch = t () => (float16[2] p) { p = Neg(x) },
             else_branch = e () => (float16[2] q) { q = Exp(x) }> }""",
        """g (float16[2] x) => (float16[2] y) <int64 m = {3}, bool go = {1}> { y = Loop(m, go, x) <
             body = b (int64 i, bool c, float16[2] v) => (bool d, float16[2] w) { d = Identity(c)  w = Sin(v) }> }""",
    ],
)
def test_inside_all_is_single_and_outside_all_is_half(text: str) -> None:
    before = parsed(text)
    after = converted(before)
    assert [each.type for each in after.graph.output] == [each.type for each in before.graph.output]
    assert [each.type for each in after.graph.input] == [each.type for each in before.graph.input]
    for node in after.graph.node:
        if node.op_type == "Cast":
            continue
        kinds = {each.name: each.type.tensor_type.elem_type for each in after.graph.value_info}
        assert HALF not in [kinds.get(name) for name in node.output]
    want, got = computed(before), computed(after)
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_allclose(got[name], value, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("g (float16[2] x) => (float16[2] y) { y = com.microsoft.QuickGelu(x) }", "QuickGelu"),
        (
            "g (float16[2] x) => (float16[2] y) <int64 i = {0}> { s = SequenceConstruct(x)  y = SequenceAt(s, i) }",
            "no tensor",
        ),
    ],
)
def test_what_is_not_understood_wholly_is_left_wholly(text: str, because: str) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]> {text}')
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    report = Pipeline.parse("upcast-fp16").run(model, [VerifyEach()])
    assert not report.rewrites
    assert because in report.missed[0].because


def test_a_float32_model_is_left_alone() -> None:
    model = ir.from_proto(parsed("g (float[2] x) => (float[2] y) { y = Exp(x) }"))
    assert not Pipeline.parse("upcast-fp16").run(model, [VerifyEach()]).rewrites


def weighted(content: np.ndarray) -> onnx.ModelProto:
    text = "g (float[2,256] x) => (float[2,m] y) { y = MatMul(x, w) }"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {text}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(content, "w"))
    return proto


def test_constants_that_float16_holds_are_stored_as_float16() -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float16).astype(np.float32)
    before = weighted(weights)
    after = converted(before, "store-weights-fp16")
    assert [each.data_type for each in after.graph.initializer] == [HALF]
    np.testing.assert_array_equal(computed(before)["y"], computed(after)["y"])
    again = ir.from_proto(after)
    assert not Pipeline.parse("default").run(again, []).log.by_rule()["constant-fold"]


@pytest.mark.parametrize("element", [np.float32(0.1), np.float32(1e6), np.float32(1e-9)])
def test_constants_that_are_not_stay(element: np.float32) -> None:
    content = np.ones((256, 256), np.float32)
    content[3, 5] = element
    assert [node.op_type for node in converted(weighted(content), "store-weights-fp16").graph.node] == ["MatMul"]


def test_the_option_is_for_cpus() -> None:
    proto = parsed("g (float16[2] x) => (float16[2] y) { y = Exp(x) }")
    with pytest.raises(ir.PipelineError, match="for ONNX Runtime's CPU provider, not onnx"):
        optimize(proto, options=Options(upcast_fp16=True, target="onnx"))


def test_the_option_computes_in_single_precision_and_verifies() -> None:
    proto = parsed("g (float16[n,4] x) => (float16[n,4] y) { a = Exp(x)  b = Sigmoid(a)  y = Mul(a, b) }")
    result = optimize(proto, options=Options(upcast_fp16=True))
    assert result.verification is not None and result.verification.ok
    assert [node.op_type for node in result.model.graph].count("Cast") == 2
