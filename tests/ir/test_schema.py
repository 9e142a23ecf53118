"""Opset-aware access: the same question at different opsets."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir


def node(body: str, opset: int, inputs: str = "float[1,2] x", inits: str = "") -> ir.Node:
    text = f'<ir_version: 8, opset_import: ["": {opset}, "com.acme": 1]> g ({inputs}) => (y) {inits} {{ y = {body} }}'
    return ir.from_proto(onnx.parser.parse_model(text)).graph[0]


def test_clip_has_bounds_as_attributes_and_later_as_inputs() -> None:
    old = node("Clip <max = 6.0> (x)", 6)
    assert ir.parameter(old, "max") == 6
    assert ir.parameter(old, "min") == np.finfo(np.float32).min  # its default
    new = node("Clip (x, , hi)", 11, inits="<float hi = {6}>")
    assert ir.parameter(new, "max") == 6
    assert ir.parameter(new, "min") is None


def test_squeeze_has_axes_as_an_attribute_and_later_as_an_input() -> None:
    assert np.array_equal(ir.parameter(node("Squeeze <axes = [0]> (x)", 11), "axes"), [0])
    assert np.array_equal(ir.parameter(node("Squeeze (x, k)", 13, inits="<int64[1] k = {0}>"), "axes"), [0])
    assert ir.parameter(node("Squeeze (x)", 11), "axes") is None
    assert ir.parameter(node("Squeeze (x)", 13), "axes") is None


def test_a_parameter_that_is_computed_or_overridable_is_unknown() -> None:
    assert ir.parameter(node("Squeeze (x, k)", 13, "float[1,2] x, int64[1] k"), "axes") is ir.UNKNOWN
    given = node("Squeeze (x, k)", 13, "float[1,2] x, int64[1] k", "<int64[1] k = {0}>")
    assert ir.parameter(given, "axes") is ir.UNKNOWN
    assert not ir.UNKNOWN


def test_a_parameter_of_an_unknown_operator_is_unknown() -> None:
    assert ir.parameter(node("com.acme.Squeeze (x)", 13), "axes") is ir.UNKNOWN
    assert ir.parameter(node("NoSuchThing (x)", 13), "axes") is ir.UNKNOWN


def test_attributes_have_the_defaults_of_their_opset() -> None:
    assert ir.attribute(node("Softmax (x)", 11), "axis") == 1
    assert ir.attribute(node("Softmax (x)", 13), "axis") == -1
    assert ir.attribute(node("Softmax <axis = 0> (x)", 13), "axis") == 0
    assert ir.attribute(node("Softmax (x)", 13), "absent") is None
    assert ir.attribute(node("Cast <to = 1> (x)", 13), "to") == 1
    assert ir.attribute(node("Resize (x)", 18), "mode") == "nearest"  # text, not bytes


def test_all_attributes_are_the_given_ones_and_the_defaults() -> None:
    gemm = node("Gemm <alpha = 2.0> (x, x)", 13)
    assert ir.attributes(gemm) == {"alpha": 2.0, "beta": 1.0, "transA": 0, "transB": 0}


def test_a_reference_to_a_parameter_of_the_function_is_unknown() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float x) => (float y) { y = f.one <k = 1.0> (x) }
    <domain: "f", opset_import: ["": 21]> one <k> (v) => (r) { r = Elu <alpha: float = @k> (v) }"""
    (function,) = ir.from_proto(onnx.parser.parse_model(text)).functions.values()
    assert ir.attribute(function.graph[0], "alpha") is ir.UNKNOWN
    assert ir.parameter(function.graph[0], "alpha") is ir.UNKNOWN


def test_inputs_are_found_by_the_name_in_the_schema() -> None:
    clip = node("Clip (x, , hi)", 11, inits="<float hi = {6}>")
    assert ir.input_index(clip, "max") == 2
    assert ir.input_index(clip, "absent") is None
    assert ir.named_input(clip, "min") is None
    assert ir.named_input(clip, "max").name == "hi"
    assert ir.named_input(node("Clip (x)", 11), "max") is None


def test_schemas_follow_the_version_and_unknown_ones_are_none() -> None:
    assert ir.schema("Clip", 6).since_version == 6
    assert ir.schema("Clip", 17).since_version == 13
    assert ir.schema("Clip", 0) is None
    assert ir.schema("Gelu", 17) is None
    assert ir.schema("Clip", 17, "com.acme") is None


def test_nodes_of_bodies_and_functions_are_stamped_with_what_holds_there() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float x, bool c) => (float y) {
      y = If (c) <then_branch = t () => (p) { p = f.one (x) }, else_branch = e () => (q) { q = Neg (x) }> }
    <domain: "f", opset_import: ["": 18]> one (v) => (r) { r = Abs (v) }"""
    stamped = {each.op_type: each.version for each in ir.nodes(ir.from_proto(onnx.parser.parse_model(text)))}
    assert stamped == {"If": 21, "one": 1, "Neg": 21, "Abs": 18}


@pytest.mark.parametrize(("body", "index", "optional"), [("Dropout (x)", 1, True), ("Dropout (x)", 0, False)])
def test_outputs_that_may_be_left_out_are_known(body: str, index: int, optional: bool) -> None:
    assert ir.is_optional_output(node(body, 13), index) is optional
    assert ir.is_optional_output(node("Split (x)", 13), 1) is False
