"""Facts about values: constant, overridable, private, public, read."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir

MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, float[2] given, bool c) => (float[2] y, float[2] a) <float[2] given = {0, 0}, float[2] w = {1, 2}> {
  a = Add (x, w)
  once = Neg (a)
  twice = Mul (once, given)
  square = Mul (twice, twice)
  captured = Abs (square)
  b = If (c) <then_branch = t () => (p) { p = Exp (captured) }, else_branch = e () => (q) { q = Sin (x) }>
  unread = Relu (b)
  y = Identity (b)
}"""


@pytest.fixture
def values() -> dict[str, ir.Value]:
    graph = ir.from_proto(onnx.parser.parse_model(MODEL)).graph
    named = {value.name: value for node in graph for value in node.outputs}
    return {**named, **graph.initializers, **{value.name: value for value in graph.inputs}}


def test_an_initializer_is_constant_unless_the_caller_may_replace_it(values: dict[str, ir.Value]) -> None:
    assert ir.is_constant(values["w"])
    assert np.array_equal(ir.constant(values["w"]), [1, 2])
    assert ir.is_overridable(values["given"])
    assert not ir.is_constant(values["given"])
    assert ir.constant(values["given"]) is None
    assert ir.scalar(values["given"]) is None
    assert not ir.is_constant(values["x"])
    assert not ir.is_constant(None)


def test_a_private_value_has_one_user_in_the_same_graph_and_no_other(values: dict[str, ir.Value]) -> None:
    assert ir.is_private(values["once"])
    assert ir.is_private(values["twice"])  # one user that takes it twice
    assert not ir.is_private(values["a"])  # the caller reads it, too
    assert not ir.is_private(values["captured"])
    assert ir.is_captured(values["captured"])
    assert not ir.is_private(values["b"])
    assert not ir.is_private(values["unread"])


def test_read_and_public_are_not_the_same(values: dict[str, ir.Value]) -> None:
    assert ir.is_read(values["y"]) and ir.is_public(values["y"])
    assert ir.is_read(values["once"]) and not ir.is_public(values["once"])
    assert not ir.is_read(values["unread"])


@pytest.mark.parametrize(
    ("attribute", "content"),
    [
        ("value_float = 1.5", np.array(1.5, np.float32)),
        ("value_floats = [1.5, 2.5]", np.array([1.5, 2.5], np.float32)),
        ("value_int = 3", np.array(3, np.int64)),
        ("value_ints = [3, 4]", np.array([3, 4], np.int64)),
        ("value = int8[2] {1, -1}", np.array([1, -1], np.int8)),
    ],
)
def test_a_constant_node_gives_its_content_with_its_type(attribute: str, content: np.ndarray) -> None:
    text = f'<ir_version: 8, opset_import: ["": 17]> g () => (float y) {{ y = Constant <{attribute}> () }}'
    value = ir.from_proto(onnx.parser.parse_model(text)).graph.outputs[0]
    found = ir.constant(value)
    assert found is not None
    assert found.dtype == content.dtype
    assert np.array_equal(found, content)


def test_a_constant_that_a_function_parameter_decides_is_none() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g () => (float y) { y = f.one <k = 1.0> () }
    <domain: "f", opset_import: ["": 21]> one <k> () => (r) { r = Constant <value_float: float = @k> () }"""
    (function,) = ir.from_proto(onnx.parser.parse_model(text)).functions.values()
    assert not ir.is_constant(function.outputs[0])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_a_scalar_has_one_element_of_any_rank(shape: tuple[int, ...]) -> None:
    def of(content: np.ndarray) -> object:
        graph = ir.Graph([], [], nodes=[], initializers=[ir.pending_constant(content, name="w")])
        return ir.scalar(graph.initializers["w"])

    assert of(np.full(shape, 2.5, np.float32)) == 2.5
    assert of(np.full(shape, True)) is True
    assert of(np.full(shape, 7, np.int64)) == 7
    assert of(np.full(shape, 0.5).astype(ml_dtypes.bfloat16)) == 0.5
    assert of(np.full((*shape, 2), 1.0)) is None
    assert of(np.full((*shape, 0), 1.0)) is None
    assert of(np.full(shape, "text")) is None


def test_the_declared_type_is_that_of_the_content_where_there_is_one(values: dict[str, ir.Value]) -> None:
    assert ir.declared_dtype(values["w"]) == ir.DataType.FLOAT
    assert ir.declared_dtype(values["c"]) == ir.DataType.BOOL
    assert ir.declared_dtype(values["once"]) is None
