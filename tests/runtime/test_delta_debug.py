"""Cutting a model down to the smallest part that shows something."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from optimize_graph import ir
from optimize_graph.runtime import Piece, reduce_model

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
CHAIN = """g (float[3] x) => (float[3] y, float[3] z) <float[3] w = {1, 2, 3}> {
    a = Exp(x)  b = Add(a, w)  c = Neg(b)  d = Sqrt(b)  e = Mul(c, d)  y = Tanh(e)  z = Abs(a) }"""
X = np.array([0.5, -1.0, 2.0], np.float32)


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


def operators(piece: Piece) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(piece.model).graph.node]


def holds(*wanted: str):  # type: ignore[no-untyped-def]
    return lambda piece: set(wanted) <= set(operators(piece))


@pytest.mark.parametrize("around", ["", "c", "z"])
@pytest.mark.parametrize("wanted", [("Neg",), ("Neg", "Sqrt"), ("Exp", "Tanh"), ("Abs",)])
def test_a_piece_is_what_shows_it_and_nothing_else(wanted: tuple[str, ...], around: str) -> None:
    piece = reduce_model(model_of(CHAIN), {"x": X}, holds(*wanted), around=around)
    assert piece is not None
    assert set(operators(piece)) == set(wanted)
    assert piece.nodes == len(wanted)


def test_a_piece_computes_on_its_inputs_what_the_whole_computes_there() -> None:
    piece = reduce_model(model_of(CHAIN), {"x": X}, holds("Add", "Neg"))
    assert piece is not None
    onnx.checker.check_model(onnx.load_from_string(piece.model), full_check=True)
    (found,) = onnxruntime.InferenceSession(piece.model).run(None, piece.feeds)
    assert set(piece.feeds) == {"a"}
    assert np.allclose(found, -(np.exp(X) + np.array([1, 2, 3], np.float32)))


def test_constants_stay_constants() -> None:
    piece = reduce_model(model_of(CHAIN), {"x": X}, holds("Add"))
    assert piece is not None
    (weight,) = onnx.load_from_string(piece.model).graph.initializer
    assert onnx.numpy_helper.to_array(weight).tolist() == [1, 2, 3]


def test_what_nothing_shows_has_no_piece() -> None:
    assert reduce_model(model_of(CHAIN), {"x": X}, lambda piece: False, around="c") is None


def test_without_time_the_first_piece_is_given_back() -> None:
    piece = reduce_model(model_of(CHAIN), {"x": X}, holds("Neg"), seconds=0.0)
    assert piece is not None
    assert piece.nodes == 7


def test_a_node_with_bodies_takes_along_what_they_read() -> None:
    text = """g (bool k, float[3] x) => (float[3] y) { a = Exp(x)  b = Neg(x)
        i = If(k) <then_branch = t () => (float[3] u) { u = Abs(a) }, else_branch = e () => (float[3] v) { v = Sin(b) }>
        y = Tanh(i) }"""
    feeds = {"k": np.array(True), "x": X}
    for around in ("", "u"):
        piece = reduce_model(model_of(text), feeds, holds("If"), around=around)
        assert piece is not None
        assert operators(piece) == ["If"]
        assert set(piece.feeds) == {"k", "a", "b"}
        assert np.allclose(onnxruntime.InferenceSession(piece.model).run(None, piece.feeds)[0], np.exp(X))


def test_overridable_initializers_become_inputs_with_their_content() -> None:
    text = "g (float[3] x, float[3] w = {1, 2, 3}) => (float[3] y) { a = Exp(x)  b = Add(a, w)  y = Neg(b) }"
    piece = reduce_model(model_of(text), {"x": X}, holds("Add"))
    assert piece is not None
    assert piece.feeds["w"].tolist() == [1, 2, 3]


def test_functions_come_along_with_their_calls() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[3] x) => (float[3] y) { a = Exp(x)  b = own.twice(a)  y = Neg(b) }
        <domain: "own", opset_import: ["" : 21]> twice (p) => (q) { q = Add(p, p) }"""
    )
    piece = reduce_model(ir.from_proto(model), {"x": X}, holds("twice"))
    assert piece is not None
    assert np.allclose(onnxruntime.InferenceSession(piece.model).run(None, piece.feeds)[0], 2 * np.exp(X))
