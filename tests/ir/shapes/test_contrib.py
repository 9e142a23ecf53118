"""Types and dims of com.microsoft operators agree with what ONNX Runtime computes, at several sizes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from optimize_graph import ir
from optimize_graph.ir.shapes.contrib import OPERATORS
from optimize_graph.ir.shapes.evaluate import evaluate
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager

Q = "uint8[N,C,H,W] x, float s, uint8 z"
CASES = [
    ("float[N,C] x, float[C] b", "y = BiasGelu(x, b)"),
    ("float[N,C] x, float[C] b", "y = FastGelu(x, b)"),
    ("float[N,C] x", "y = FastGelu(x)"),
    ("float[N,C] x", "y = Gelu(x)"),
    ("float[N,C] x", "y = QuickGelu <alpha = 1.5> (x)"),
    ("float[N,3,3] x", "y = Inverse(x)"),
    ("float[N,C,C] x", "y = Trilu <upper = 0> (x)"),
    ("uint8[N,C] x, float s, uint8 z", "y = QLinearLeakyRelu <alpha = 0.5> (x, s, z, s, z)"),
    ("uint8[N,C] x, float s, uint8 z", "y = QLinearSigmoid(x, s, z, s, z)"),
    ("uint8[N,C] x, float s, uint8 z", "y = QLinearSoftmax <axis = -1, opset = 13> (x, s, z, s, z)"),
    ("uint8[N,C] x, float s, uint8 z", "y = DequantizeLinear(x, s, z)"),
    ("uint16[N,C] x, float s, uint16 z", "y = DequantizeLinear(x, s, z)"),
    ("float[N,C] x, float s, int8 z", "y = QuantizeLinear(x, s, z)"),
    ("float[N,C] x, float s, uint16 z", "y = QuantizeLinear(x, s, z)"),
    ("float[N,C,4] x, float[N,C,4] r, float[4] k", "y, , , t = SkipLayerNormalization(x, r, k, k, k)"),
    ("float[N,C,4] x, float[N,C,4] r, float[4] k", "y, , , t = SkipSimplifiedLayerNormalization(x, r, k)"),
    ("uint8[N,C] x, uint8[C] w, float s, uint8 z", "y = QLinearAdd(x, s, z, w, s, z, s, z)"),
    ("int8[N,1] x, int8[C] w, float s, int8 z", "y = QLinearMul(x, s, z, w, s, z, s, z)"),
    ("bool[C] c, uint8[N,1] x, uint8[N,C] w, float s, uint8 z", "y = QLinearWhere(c, x, s, z, w, s, z, s, z)"),
    ("uint8[N,C] x, uint8[N,2] w, float s, uint8 z", "y = QLinearConcat <axis = -1> (s, z, x, s, z, w, s, z)"),
    (Q, "y = QLinearGlobalAveragePool <channels_last = 0> (x, s, z, s, z)"),
    (Q, "y = QLinearGlobalAveragePool <channels_last = 1> (x, s, z, s, z)"),
    (Q, "y = QLinearAveragePool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 0]> (x, s, z, s, z)"),
    (Q, "y = QLinearAveragePool <kernel_shape = [2, 2], channels_last = 1> (x, s, z, s, z)"),
    (
        "uint8[N,2,H,W] x, uint8[5,2,3,3] w, float s, uint8 z",
        "y = QLinearConv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, s, z, w, s, z, s, z)",
    ),
    (
        "uint8[N,H,W,2] x, uint8[5,2,3,3] w, float s, uint8 z",
        "y = QLinearConv <kernel_shape = [3, 3], strides = [2, 2], channels_last = 1> (x, s, z, w, s, z, s, z)",
    ),
    ("uint8[N,H,W,2] x", "y = NhwcMaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    (
        "float[N,2,H,W] x, float[5,2,3,3] w, float[5] b",
        'y = FusedConv <activation = "Relu", auto_pad = "SAME_UPPER"> (x, w, b)',
    ),
    ("float[N,2,H,W] x, float[2,3,3,3] w, int64[4] p", "y = ConvTransposeWithDynamicPads(x, w, p)"),
    ("float[N,C,H,W] x, float[N,5,6,2] g", "y = GridSample(x, g)"),
    ("float[2,C,8,8] x, float[R,4] r, int32[R] i", "y = CropAndResize(x, r, i, size)"),
    ("float[N,C] x, int8[C,5] w, float s, int8 z", "y = DynamicQuantizeMatMul(x, w, s, z)"),
    ("uint8[N,C] x, uint8[C,5] w, float s, uint8 z", "y = MatMulIntegerToFloat(x, w, s, s, z, z)"),
    ("int16[N,C] x, int16[C,5] w", "y = MatMulInteger16(x, w)"),
    ("float[B,N,C] x, float[B,5,C] w", "y = FusedMatMul <transB = 1> (x, w)"),
    ("float[B,C,N] x, float[C,B,5] w", "y = FusedMatMul <transA = 1, transBatchB = 1> (x, w)"),
    ("float[C] x, float[B,C,5] w", "y = FusedMatMul <transA = 1> (x, w)"),
    ("float[B,N,C] x, float[B,C,5] w", "y = TransposeMatMul <alpha = 2.0> (x, w)"),
    ("float[C,N] x, float[C,5] w, float[5] b", 'y = FusedGemm <activation = "Relu", transA = 1> (x, w, b)'),
    ("uint8[N,C] x, uint8[5,C] w, float s, uint8 z", "y = QGemm <transB = 1> (x, s, z, w, s, z)"),
    ("uint8[N,C] x, uint8[C,5] w, float s, uint8 z", 'y = QGemm(x, s, z, w, s, z, "", s, z)'),
    (
        "float[N,C,32] x, uint8[5,2,8] w, float[10] s",
        "y = MatMulNBits <K = 32, N = 5, bits = 4, block_size = 16> (x, w, s)",
    ),
    (
        "float[N,32] x, uint8[80] w, float[10] s",
        "y = MatMulBnb4 <K = 32, N = 5, block_size = 16, quant_type = 0> (x, w, s)",
    ),
    (
        "uint8[7,16] x, int64[N,C] i, float[7,2] s",
        "y = GatherBlockQuantized <gather_axis = 0, quantize_axis = 1, block_size = 16, bits = 4> (x, i, s)",
    ),
    ("float[N,C] x", "y = ExpandDims(x, minus)"),
    ("float[N,C] x, float v", "y = Pad(x, pads, v)"),
    ("float[2,2,C] x, int64[R,2] i", "y = GatherND(x, i)"),
    ("float[N] x", "y, i, c = Unique(x)"),
    ("float[N,C] x, float[R,C] w", 'y = CDist <metric = "euclidean"> (x, w)'),
    ("int32[N,C] x", "y = MurmurHash3(x)"),
    ("float[R,C,2] x", "k = Shape(x)  a, b, e = Split <axis = 0> (k)  n = Squeeze(b)  y = Range(zero, n, one)"),
    (
        "float[B,S,12] x, float[12,12] w, float[12] b",
        "y, t = Attention <num_heads = 2> (x, w, b)",
    ),
    (
        "float[B,S,12] x, float[12,12] w, float[12] b, float[2,B,2,P,2] p",
        "y, t = Attention <num_heads = 2, unidirectional = 1> (x, w, b, '', p)",
    ),
    (
        "float[B,S,12] x, float[12,14] w, float[14] b",
        "y = Attention <num_heads = 2, qkv_hidden_sizes = [4, 4, 6]> (x, w, b)",
    ),
    (
        "uint8[B,S,12] x, uint8[12,12] w, float[12] b, float s, uint8 z",
        "y = QAttention <num_heads = 2> (x, w, b, s, s, '', z, z)",
    ),
    ("float[B,S,8] q, float[B,K,8] k, float[B,K,8] v", "y, a, b = MultiHeadAttention <num_heads = 2> (q, k, v)"),
    (
        "float[B,S,8] q, float[B,S,8] k, float[B,S,8] v, float[B,2,P,4] p",
        "y, a, b = MultiHeadAttention <num_heads = 2> (q, k, v, '', '', '', p, p)",
    ),
    ("float[B,S,8] q, float[B,2,K,4] k, float[B,2,K,4] v", "y = MultiHeadAttention <num_heads = 2> (q, k, v)"),
    (
        "float[1,S,16] q, float[1,S,8] k, int32[1] n, int32 m",
        "y, a, b = GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (q, k, k, '', '', last, total)",
    ),
    (
        "float[1,S,32] q",
        "y, a, b = GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (q, '', '', '', '', last, total)",
    ),
    ("float[B,S,16] x, int64[B,S] i, float[9,4] c", "y = RotaryEmbedding <num_heads = 2> (x, i, c, c)"),
    (
        "int32[B,S] i, float[7,4] w, float[9,4] p, float[4] k, int32[B,S] m",
        "y, t, e = EmbedLayerNormalization(i, '', w, p, '', k, k, m)",
    ),
    ("float[32,2] x", "y = RelativePositionBias <max_distance = 128> (x, five, five)"),
    ("float[B,S,8] q, float[8] b, float[1,2,S,S] r, float[4,8] w, float[8] k, float[1,2,1,1] e",
     "y = GatedRelativePositionBias <num_heads = 2> (q, b, r, w, k, e)"),
    (
        "float[S,B,3] x, int8[1,3,16] w, int8[1,4,16] r, float[1] s, int8[1] z",
        "y, h, c = DynamicQuantizeLSTM <hidden_size = 4> (x, w, r, '', '', '', '', '', s, z, s, z)",
    ),
    ("float[N,C] x, float[N,C] w", "y = BiasSoftmax <axis = 1, is_inner_broadcast = 0> (x, w)"),
]  # fmt: skip

NOT_ON_A_CPU = frozenset(
    "BiasAdd BiasDropout BiasSoftmax BiasSplitGelu ComplexMul ComplexMulConj FusedMatMulActivation "
    "GatedRelativePositionBias GroupNorm IsAllFinite MulInteger NhwcFusedConv QLinearReduceMean ReduceSumInteger "
    "RelativePositionBias Rfft SkipGroupNorm TorchEmbedding QEmbedLayerNormalization MaxpoolWithMask".split()
)
"""Operators that ONNX Runtime has no kernel for there, or none without more of a model than a case has."""

CONSTANTS = """<int32[1] minus = {-1}, int64[4] pads = {1, 0, 2, 3}, int64 five = {5}, int32[2] size = {3, 4},
    int64 zero = {0}, int64 one = {1}, int32[1] last = {5}, int32 total = {6}>"""
SIZES = [
    {"N": 2, "C": 3, "H": 6, "W": 7, "B": 2, "S": 6, "K": 4, "P": 3, "R": 2},
    {"N": 1, "C": 5, "H": 5, "W": 3, "B": 1, "S": 6, "K": 1, "P": 1, "R": 1},
]


def model_of(inputs: str, body: str) -> onnx.ModelProto:
    names = [name.strip() for line in body.split("  ") for name in line.split(" = ")[0].split(",") if name.strip()]
    calls = "".join(f"{each}  " for each in body.replace("''", '""').split("  "))
    for call in calls.split("  "):
        operator = call.split(" = ", 1)[-1].split("(")[0].split("<")[0].strip()
        if operator in OPERATORS:
            calls = calls.replace(f"= {operator}", f"= com.microsoft.{operator}", 1)
    calls = calls.replace(", ,", ', "",').replace(", ,", ', "",')
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]> g ({inputs}) => () {CONSTANTS} {{ {calls} }}'
    )
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return proto


def feeds_of(proto: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    random, feeds = np.random.default_rng(3), {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        drawn = random.uniform(0.1, 1.0, shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        feeds[value.name] = np.asarray(drawn).astype(dtype)
    return feeds


@pytest.mark.parametrize("sizes", SIZES, ids=["several", "ones"])
@pytest.mark.parametrize(("inputs", "body"), CASES, ids=[f"{body} {inputs}" for inputs, body in CASES])
def test_facts_about_results_hold_in_onnx_runtime(inputs: str, body: str, sizes: dict[str, int]) -> None:
    proto = model_of(inputs, body)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    operator = next(node.op_type for node in reversed(proto.graph.node) if node.domain)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        assert operator in NOT_ON_A_CPU, operator
        pytest.skip(f"ONNX Runtime has no kernel for {operator} on a CPU")
    results = session.run(None, feeds_of(proto, sizes))
    model = ir.from_proto(proto)
    ir.stamp_versions(model)
    shapes = AnalysisManager(model).get(Shapes)
    for value, found in zip(model.graph.outputs, results, strict=True):
        fact = shapes.fact(value)
        assert fact.dtype is not None and fact.dtype.numpy() == found.dtype, value.name
        assert fact.dims is not None and len(fact.dims) == found.ndim, value.name
        known = [evaluate(dim, sizes) for dim in fact.dims]
        assert [size if size is not None else have for size, have in zip(known, found.shape, strict=True)] == [
            *found.shape
        ], f"{value.name}: {shapes.show(value)}"


def test_every_rule_has_a_case_or_no_kernel_to_compare_with() -> None:
    tried = {node.op_type for case in CASES for node in model_of(*case).graph.node if node.domain}
    assert tried | NOT_ON_A_CPU >= OPERATORS
