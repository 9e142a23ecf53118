"""Equal initializers are stored once: by type, dims and bits, in the outermost scope that has one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach


def model_of(*arrays: np.ndarray, inputs: tuple[str, ...] = ()) -> ir.Model:
    """Reads every array, c0, c1, …, in an operator that takes any type; `inputs` are overridable."""
    info = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(each, f"c{i}") for i, each in enumerate(arrays)]
    nodes = [helper.make_node("Shape", [tensor.name], [f"y{i}"]) for i, tensor in enumerate(tensors)]
    overridable = [info(each.name, each.data_type, each.dims) for each in tensors if each.name in inputs]
    outputs = [info(f"y{i}", onnx.TensorProto.INT64, ["r"]) for i in range(len(arrays))]
    graph = helper.make_graph(nodes, "g", overridable, outputs, tensors)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def stored(model: ir.Model, pipeline: str = "dedup-initializers") -> list[str]:
    Pipeline.parse(pipeline).run(model, [VerifyEach()])
    return [value.name or "" for graph in ir.graphs(model) for value in graph.initializers.values()]


@pytest.mark.parametrize(
    "content",
    [
        np.array([1.0, np.nan, np.inf], np.float32),
        np.array([1.0, 2.0], np.float16),
        np.array([1.0, 2.0], ml_dtypes.bfloat16),
        np.array([[1, 2]], np.int8),
        np.array(["a", "bc"], dtype=object),
        np.zeros((0, 3), np.float32),
    ],
)
def test_equal_bits_are_stored_once(content: np.ndarray) -> None:
    assert stored(model_of(content, content.copy(), content.copy())) == ["c0"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([0.0], np.float32), np.array([-0.0], np.float32)),
        (np.array([1, 2], np.int32), np.array([1, 2], np.int64)),
        (np.array([1.0, 2.0], np.float16), np.array([1.0, 2.0], ml_dtypes.bfloat16)),
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)),
        (np.zeros((4,), np.float32), np.zeros((4,), np.int32)),
        (np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object)),
        (np.array(["ab", "c"], dtype=object), np.array(["a", "bc"], dtype=object)),
    ],
)
def test_other_bits_types_or_dims_are_kept(one: np.ndarray, other: np.ndarray) -> None:
    assert stored(model_of(one, other)) == ["c0", "c1"]


def test_what_the_caller_may_override_or_reads_is_kept() -> None:
    ones = np.ones(3, np.float32)
    assert stored(model_of(ones, ones, inputs=("c0",))) == ["c0", "c1"]
    assert stored(model_of(ones, ones, ones, inputs=("c1",))) == ["c0", "c1"]


SCOPES = """<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, bool c) => (float[2] y) %s {
  y = If(c) <then_branch = t () => (p) <float[2] v = {1, 2}> { p = Add(x, v) },
             else_branch = e () => (q) <float[2] u = {1, 2}> { q = Mul(x, u) }> }"""


def test_a_body_uses_the_initializer_of_the_graph_around_it() -> None:
    text = SCOPES.replace("%s", "<float[2] w = {1, 2}>").replace("{\n  y = If", "{ a = Add(x, w)\n  y = If")
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert stored(model) == ["w"]


def test_bodies_beside_each_other_share_nothing() -> None:
    model = ir.from_proto(onnx.parser.parse_model(SCOPES.replace("%s", "")))
    assert stored(model) == ["v", "u"]


def test_a_transposed_twin_becomes_a_transpose() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    model = model_of(weight, np.ascontiguousarray(weight.T))
    assert stored(model, "dedup-initializers{transposed_bytes=1000}") == ["c0"]
    assert [node.op_type for node in model.graph] == ["Transpose", "Shape", "Shape"]


def test_a_twin_that_differs_in_one_bit_or_is_small_is_kept() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 30)).astype(np.float32)
    other = np.ascontiguousarray(weight.T)
    assert stored(model_of(weight, other)) == ["c0", "c1"]
    other[7, 9] = -other[7, 9]
    assert stored(model_of(weight, other), "dedup-initializers{transposed_bytes=1000}") == ["c0", "c1"]


def test_a_symmetric_matrix_is_no_twin_of_itself() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 30)).astype(np.float32)
    assert stored(model_of(weight + weight.T), "dedup-initializers{transposed_bytes=1000}") == ["c0"]


@pytest.mark.parametrize("dtype", [np.complex128, np.bool_, np.int8, ml_dtypes.bfloat16, np.float64])
def test_twins_of_every_element_type_are_found(dtype: type) -> None:
    weight = np.random.default_rng(0).integers(0, 2, (20, 30)).astype(dtype)
    assert stored(model_of(weight, np.ascontiguousarray(weight.T)), "dedup-initializers{transposed_bytes=100}") == [
        "c0"
    ]


@pytest.mark.parametrize(
    ("opset", "attribute", "more"), [(9, "", ", mean, var, m, v"), (14, "<training_mode = 1>", ", mean, var")]
)
def test_statistics_that_training_overwrites_are_kept_apart(opset: int, attribute: str, more: str) -> None:
    """ONNX Runtime writes the new mean over the initializer, which another user would see."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g (float[N,1,3] x) => (float[N,1,3] y, float[N,1,3] z)
    <float[1] s = {{2}}, float[1] b = {{3}}, float[1] m0 = {{0.5}}, float[1] v0 = {{1}}, float[1] c = {{0.5}}> {{
      y{more} = BatchNormalization{attribute} (x, s, b, m0, v0)
      z = Add(x, c)
    }}"""
    assert stored(ir.from_proto(onnx.parser.parse_model(text))) == ["s", "b", "m0", "v0", "c"]
