"""What is built for target ort-cuda has CUDA kernels, and no operator of a model loses its own."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import onnx
import onnx.parser
import pytest
from optimize_graph import Options, Result, ir, optimize
from optimize_graph.passes.targets.cuda import AttentionCall, computes_in_half, kernels_lost
from optimize_graph.passes.targets.cuda_kernels import GAPS, KERNELS

ROOT = Path(__file__).parents[2]
HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT

ATTENTION = """
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(q, split)  kh = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(q, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  p = MatMul(qh, kh)  d = Mul(p, c)  w = Softmax(d)
  m = MatMul(w, vh)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)
"""
CONSTANTS = "int64[4] split = {0, 0, 2, 8}, int64[3] merge = {0, 0, 16}, float c = {0.35}"


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def optimized(proto: onnx.ModelProto, **options: object) -> Result:
    given = {"target": "ort-cuda", "strict": True, "check_each_pass": True, **options}
    return optimize(proto, options=Options(**given))  # type: ignore[arg-type]


def operators(result: Result) -> Counter[str]:
    return Counter(node.op_type for node in ir.nodes(result.model))


ALONE = parsed(f"g (float[b,s,16] q) => (float[b,s,16] y) <{CONSTANTS}> {{ {ATTENTION} }}")
BESIDE_POOLING = parsed(
    f"g (float[b,s,16] q, float[1,2,4,4] x) => (float[b,s,16] y, float[1,2,4,4] z) <{CONSTANTS}> "
    f"{{ {ATTENTION} z = MaxPool<kernel_shape = [1, 1]>(x) }}"
)


def test_every_operator_that_rules_build_has_a_kernel_at_every_opset_they_may_meet() -> None:
    specification = importlib.util.spec_from_file_location("cuda_kernels", ROOT / "benchmarks" / "cuda_kernels.py")
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    built = script.built_operators()
    assert ("", "Attention") in built and ("com.microsoft", "SkipLayerNormalization") in built
    missing = []
    for domain, op_type in sorted(built):
        kernels = KERNELS.get((domain, op_type), {})
        for opset in range(13, 24):
            defined = 1 if domain else getattr(ir.schema(op_type, opset), "since_version", None)
            if defined is not None and defined not in kernels:
                missing.append((domain, op_type, opset))
    assert not missing


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("proto", [ALONE, BESIDE_POOLING], ids=["alone", "beside pooling"])
def test_what_a_run_builds_has_a_kernel_for_its_type(proto: onnx.ModelProto, fp16: bool) -> None:
    result = optimized(proto, fp16=fp16)
    names = {HALF: "f16", SINGLE: "f32", ir.DataType.INT64: "int64"}
    made = [node for node in ir.nodes(result.model) if "optimize_graph.rule" in node.metadata_props]
    assert made
    for node in made:
        version = 1 if node.domain else getattr(ir.schema_of(node), "since_version", 0)
        value = node.inputs[0]
        assert value is not None
        dtype = ir.declared_dtype(value)
        assert dtype is None or names[dtype] in KERNELS[node.domain, node.op_type][version].split()


def test_the_opset_is_raised_where_every_operator_keeps_its_kernel() -> None:
    result = optimized(ALONE)
    assert operators(result) == {"Attention": 1}
    assert result.model.opset_imports[""] == 23


def test_the_opset_stays_where_an_operator_would_lose_its_kernel() -> None:
    result = optimized(BESIDE_POOLING)
    assert operators(result) == {"MultiHeadAttention": 1, "MaxPool": 1}
    assert result.model.opset_imports[""] == 17
    assert result.verification is not None and result.verification.ok
    assert "none for MaxPool" in {each.because for each in result.refusals}


def test_the_opset_that_was_asked_for_gets_the_operator_of_onnxruntime() -> None:
    result = optimized(ALONE, opset=18)
    assert operators(result) == {"MultiHeadAttention": 1}
    assert result.model.opset_imports == {"": 18, "com.microsoft": 1}


def test_the_processor_gets_attention_of_the_standard_beside_pooling_too() -> None:
    assert operators(optimized(BESIDE_POOLING, target="ort-cpu"))["Attention"] == 1


@pytest.mark.parametrize("op_type", ["MaxPool", "InstanceNormalization", "Elu", "Selu", "ThresholdedRelu"])
def test_the_operators_of_opset_22_without_kernels_are_known(op_type: str) -> None:
    assert 22 in GAPS[op_type]


def test_a_kernel_is_lost_at_the_opset_that_defines_its_operator_anew() -> None:
    model = ir.from_proto(parsed("g (float[2] x) => (float[2] z) { y = Elu(x)  z = Relu(y) }"))
    assert [kernels_lost(model, opset) for opset in (17, 21, 22, 23)] == [[], [], ["Elu"], ["Elu"]]


POOLING = "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { p = MaxPool<kernel_shape = [1, 1]>(x)  y = %s(p) }"


def test_an_opset_without_kernels_is_lowered_to_the_last_that_has_them() -> None:
    result = optimized(parsed(POOLING % "Elu", opset=22))
    assert result.model.opset_imports[""] == 21
    assert result.verification is not None and result.verification.ok


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (POOLING % "Swish", {}),  # an operator of opset 24
        (POOLING.replace("float[", "bfloat16[") % "Elu", {"verify": False}),
        (POOLING % "Elu", {"opset": 24}),
        (POOLING % "Elu", {"target": "ort-cpu"}),
        ("g (float[2] x) => (float[2] y) { y = Exp(x) }", {}),
    ],
    ids=["newer operator", "bfloat16", "asked for", "another target", "nothing lost"],
)
def test_an_opset_stays_where_lowering_is_not_possible_or_not_wanted(text: str, options: dict[str, object]) -> None:
    assert optimized(parsed(text, opset=24), **options).model.opset_imports[""] == 24


@pytest.mark.parametrize(
    ("call", "attention", "contrib"),
    [
        (AttentionCall(SINGLE, 64, 64), True, True),
        (AttentionCall(SINGLE, 64, 64, queries=128), True, False),
        (AttentionCall(HALF, 64, 64, queries=128), True, True),
        (AttentionCall(SINGLE, 64, 64, queries=512), True, True),
        (AttentionCall(SINGLE, 36, 36), False, False),
        (AttentionCall(SINGLE, 64, 128), True, False),
        (AttentionCall(HALF, 64, 64, masked=True, keys=127), False, False),
        (AttentionCall(HALF, 64, 64, masked=True, keys=128), True, True),
        (AttentionCall(HALF, 64, 64, masked=True), True, True),
        (AttentionCall(SINGLE, 64, 64, grouped=True), False, False),
        (AttentionCall(HALF, 64, 64, grouped=True), True, False),
        (AttentionCall(HALF, 64, 64, grouped=True, masked=True), False, False),
    ],
)
def test_which_calls_are_fused(call: AttentionCall, attention: bool, contrib: bool) -> None:
    assert (not call.why_not_fused()) == attention
    assert (not call.why_not_fused_as_contrib()) == contrib


def test_float16_kernels_are_known_by_version() -> None:
    model = ir.from_proto(
        parsed("g (float[2,2] x) => (float[2,2] z, int64[n,2] i) { z = MatMul(x, x)  i = NonMaxSuppression(x, x) }")
    )
    assert [computes_in_half(node) for node in ir.nodes(model)] == [True, False]
