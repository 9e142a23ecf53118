"""What `verify` finds, each by a model that is wrong in that one way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx.parser
import onnx_ir as oir
import pytest
from optimize_graph import ir

MODEL = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (float[N] x, bool c) => (float[N] y) <float[1] w = {1}> {
  a = Add (x, w)
  b = If (c) <then_branch = t () => (float[N] p) { p = Neg (a) }, else_branch = e () => (float[N] q) { q = Abs (x) }>
  y = f.twice (b)
}
<domain: "f", opset_import: ["": 21]>
twice (v) => (r) { r = Add (v, v) }"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(MODEL))


def node(of: ir.Model, op_type: str) -> ir.Node:
    return next(each for each in ir.nodes(of) if each.op_type == op_type)


def test_nothing_is_found_in_a_well_formed_model() -> None:
    assert ir.verify(model()) == []


def read_before_computed(of: ir.Model) -> None:
    add = node(of, "Add")
    of.graph.remove(add)
    of.graph.append(add)


def cycle(of: ir.Model) -> None:
    node(of, "Add").replace_input_with(1, of.graph.outputs[0])


def read_after_the_body_that_reads_it(of: ir.Model) -> None:
    abs_, twice = node(of, "Abs"), node(of, "twice")
    abs_.replace_input_with(0, twice.outputs[0])


def from_a_sibling_scope(of: ir.Model) -> None:
    node(of, "Abs").replace_input_with(0, node(of, "Neg").outputs[0])


def function_reads_the_main_graph(of: ir.Model) -> None:
    node(of, "Add")
    (function,) = of.functions.values()
    function.graph[0].replace_input_with(0, of.graph.inputs[0])


def nobody_computes_it(of: ir.Model) -> None:
    node(of, "Add").replace_input_with(0, ir.Value(name="ghost"))


def shadowed(of: ir.Model) -> None:
    node(of, "Neg").outputs[0].name = "a"


def same_name_twice(of: ir.Model) -> None:
    node(of, "Add").outputs[0].name = "x"


def nameless(of: ir.Model) -> None:
    node(of, "Add").outputs[0].name = ""


def empty_initializer(of: ir.Model) -> None:
    of.graph.initializers["w"].const_value = None


def wrongly_typed_initializer(of: ir.Model) -> None:
    of.graph.initializers["w"].const_value = ir.tensor(np.array([1], np.int64))


def undefined_output(of: ir.Model) -> None:
    of.graph.outputs[0] = ir.Value(name="y2")


def domain_not_imported(of: ir.Model) -> None:
    del of.opset_imports["f"]


def written_for_another_opset(of: ir.Model) -> None:
    node(of, "Neg").version = 12


def operator_of_a_newer_opset(of: ir.Model) -> None:
    add = node(of, "Add")
    add.op_type, add.version = "Swish", 21


def too_many_inputs(of: ir.Model) -> None:
    neg = node(of, "Neg")
    neg.resize_inputs(2)
    neg.replace_input_with(1, of.graph.inputs[0])


def required_input_left_out(of: ir.Model) -> None:
    node(of, "Add").replace_input_with(0, None)


def too_many_outputs(of: ir.Model) -> None:
    node(of, "Neg").resize_outputs(2)


def required_attribute_missing(of: ir.Model) -> None:
    del node(of, "If").attributes["else_branch"]


def unknown_attribute(of: ir.Model) -> None:
    node(of, "Neg").attributes.add(ir.Attr("alpha", ir.AttributeType.FLOAT, 1.0))


def wrong_attribute_type(of: ir.Model) -> None:
    neg = node(of, "Neg")
    neg.op_type = "LeakyRelu"
    neg.attributes.add(ir.Attr("alpha", ir.AttributeType.INT, 1))


def forgotten_reader(of: ir.Model) -> None:
    ir.new_node("Neg", [of.graph.inputs[0]], version=21)  # made, never inserted


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (read_before_computed, "order"),
        (cycle, "order"),
        (read_after_the_body_that_reads_it, "order"),
        (from_a_sibling_scope, "input-undefined"),
        (function_reads_the_main_graph, "input-undefined"),
        (nobody_computes_it, "input-undefined"),
        (shadowed, "name-shadowed"),
        (same_name_twice, "duplicate-name"),
        (nameless, "name-missing"),
        (empty_initializer, "initializer-empty"),
        (wrongly_typed_initializer, "initializer-type"),
        (undefined_output, "output-undefined"),
        (domain_not_imported, "domain-not-imported"),
        (written_for_another_opset, "opset-differs"),
        (operator_of_a_newer_opset, "operator-unknown"),
        (too_many_inputs, "arity"),
        (required_input_left_out, "arity"),
        (too_many_outputs, "arity"),
        (required_attribute_missing, "attribute-missing"),
        (unknown_attribute, "attribute-unknown"),
        (wrong_attribute_type, "attribute-type"),
        (forgotten_reader, "chain-broken"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_each_harm_is_found(harm: Callable[[ir.Model], None], code: str) -> None:
    harmed = model()
    harm(harmed)
    assert code in {found.code for found in ir.verify(harmed)}


def test_the_body_of_a_function_has_no_initializers() -> None:
    harmed = model()
    (function,) = harmed.functions.values()
    function.graph.initializers.add(ir.pending_constant(np.ones(1, np.float32), name="k"))
    assert [found.code for found in ir.verify(harmed)] == ["function-initializer"]


def test_operators_that_the_standard_does_not_know_are_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    g (float x) => (float y) { a = com.acme.Any <k = 1> (x, x, x)  y = ImageScaler (a) }"""
    assert ir.verify(ir.from_proto(onnx.parser.parse_model(text))) == []


def test_a_finding_says_where() -> None:
    harmed = model()
    too_many_outputs(harmed)
    (found,) = ir.verify(harmed)
    assert "(Neg)" in found.where.node
    assert found.where.graph == "t"


def test_depth_of_nesting_is_no_problem_in_memory() -> None:
    """Two thousand graphs inside each other: deeper than Python's stack would go."""
    graph = oir.Graph([], [], nodes=[])
    for _ in range(2000):
        holder = oir.Node("", "Inner", [], [oir.AttrGraph("body", graph)], num_outputs=1)
        graph = oir.Graph([], [], nodes=[holder])
    deep = oir.Model(graph, ir_version=8)
    deep.opset_imports[""] = 17
    assert ir.verify(deep) == []
