"""The door for mutation: names, interface, scopes, counts and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir

CHAIN = """<ir_version: 8, opset_import: ["": 17]>
g (float[N] x, float[N] x2) => (float[N] y) <float[1] w = {1}, float[N] a> {
  a = Add (x, w)
  b = Neg (a)
  y = Relu (b)
}"""
BRANCH = """<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, bool c) => (float[2] y) {
  a = Neg (x)
  b = If (c) <then_branch = t () => (p) { p = Abs (a) },
              else_branch = e () => (q) { q = If (c) <then_branch = u () => (r) { r = Exp (a) },
                                                      else_branch = v () => (s) { s = Sin (a) }> }>
  y = Relu (a)
}"""
FUNCTION = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (float[2] x) => (float[2] y) { y = f.one (x) }
<domain: "f", opset_import: ["": 18]> one (v) => (r) { r = Neg (v) }"""


@dataclass
class Heard:
    """Writes down what it is told."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def inserted(self, node: ir.Node) -> None:
        self.events.append(("inserted", node.op_type))

    def replaced(self, old: ir.Value, new: ir.Value) -> None:
        self.events.append(("replaced", new.name or ""))

    def erased(self, node: ir.Node) -> None:
        self.events.append(("erased", node.op_type))

    def modified(self, node: ir.Node) -> None:
        self.events.append(("modified", node.op_type))

    def released(self, value: ir.Value) -> None:
        self.events.append(("released", value.name or ""))


def opened(text: str) -> tuple[ir.Model, ir.Rewriter]:
    model = ir.from_proto(onnx.parser.parse_model(text))
    return model, ir.Rewriter(model)


def node(model: ir.Model, op_type: str) -> ir.Node:
    return next(each for each in ir.nodes(model) if each.op_type == op_type)


def interface(model: ir.Model) -> tuple[Sequence[str], Sequence[str]]:
    return (
        [f"{value.name}: {value.type}{value.shape}" for value in model.graph.inputs],
        [f"{value.name}: {value.type}{value.shape}" for value in model.graph.outputs],
    )


def well_formed(model: ir.Model) -> bool:
    assert ir.verify(model) == []
    return ir.verify(ir.from_proto(ir.to_bytes(model))) == []


# --- replacing what is a graph output ---------------------------------------------------------------------------------


def test_a_new_node_takes_over_the_name_and_type_of_the_output() -> None:
    model, rewriter = opened(CHAIN)
    before = interface(model)
    relu = node(model, "Relu")
    new = rewriter.insert(ir.new_node("Abs", relu.inputs, version=17), before=relu)
    rewriter.replace(relu, new.outputs)
    assert interface(model) == before
    assert model.graph.outputs[0].producer() is new
    assert well_formed(model)


def test_an_existing_node_takes_over_the_name_of_the_output() -> None:
    model, rewriter = opened(CHAIN)
    before = interface(model)
    rewriter.replace(node(model, "Relu"), node(model, "Neg").outputs)
    assert interface(model) == before
    assert [each.op_type for each in model.graph] == ["Add", "Neg"]
    assert well_formed(model)


def test_an_input_reaches_the_output_through_an_identity() -> None:
    model, rewriter = opened(CHAIN)
    before = interface(model)
    rewriter.replace(node(model, "Relu"), [model.graph.inputs[1]])
    assert interface(model) == before
    assert [each.op_type for each in model.graph] == ["Add", "Neg", "Identity"]
    assert well_formed(model)


def test_a_constant_reaches_the_output_through_an_identity() -> None:
    model, rewriter = opened(CHAIN)
    before = interface(model)
    relu = node(model, "Relu")
    rewriter.replace(relu, [rewriter.constant(np.ones(1, np.float32), near=relu)])
    assert interface(model) == before
    assert well_formed(model)


def test_one_value_for_two_outputs_is_one_output_and_one_identity() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y, float z) { y = Neg (x)  z = Neg (x) }'
    model, rewriter = opened(text)
    before = interface(model)
    first, second = model.graph
    rewriter.replace(second, first.outputs)
    assert interface(model) == before
    assert [each.op_type for each in model.graph] == ["Neg", "Identity"]
    assert well_formed(model)


def test_a_captured_value_reaches_the_output_of_a_branch_through_an_identity() -> None:
    model, rewriter = opened(BRANCH)
    rewriter.replace(node(model, "Abs"), [model.graph.inputs[0]])
    assert well_formed(model)
    (then_branch, _) = ir.subgraphs_of(node(model, "If"))
    assert [each.op_type for each in then_branch] == ["Identity"]


# --- replacing what is inside -----------------------------------------------------------------------------------------


def test_the_declared_type_of_an_inner_value_stays_with_its_name() -> None:
    model, rewriter = opened(CHAIN)
    add = node(model, "Add")
    new = rewriter.insert(ir.new_node("Sub", add.inputs, version=17), before=add)
    rewriter.replace(add, new.outputs)
    assert new.outputs[0].name == "a"
    assert [value.name for value in ir.to_proto(model).graph.value_info] == ["a"]


def test_captures_at_any_depth_follow_a_replacement() -> None:
    model, rewriter = opened(BRANCH)
    rewriter.replace(node(model, "Neg"), [model.graph.inputs[0]])
    for op_type in ("Abs", "Exp", "Sin", "Relu"):
        assert node(model, op_type).inputs[0] is model.graph.inputs[0]
    assert well_formed(model)


def test_an_output_that_is_read_needs_a_replacement() -> None:
    model, rewriter = opened(CHAIN)
    with pytest.raises(ValueError, match="no replacement"):
        rewriter.replace(node(model, "Neg"), [None])
    assert well_formed(model)


def test_an_output_without_users_needs_none() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) { y, mask = Dropout (x) }'
    model, rewriter = opened(text)
    rewriter.replace(model.graph[0], [model.graph.inputs[0], None])
    assert well_formed(model)


# --- names ------------------------------------------------------------------------------------------------------------


def test_fresh_names_are_unique_in_every_scope() -> None:
    _, rewriter = opened(BRANCH)
    assert rewriter.fresh_name("r") == "r_1"  # used two scopes down
    assert rewriter.fresh_name("r") == "r_2"
    assert rewriter.fresh_name("new") == "new"


def test_inserting_into_a_branch_never_shadows() -> None:
    model, rewriter = opened(BRANCH)
    exp = node(model, "Exp")
    wish = ir.new_node("Neg", exp.inputs, version=17)
    wish.outputs[0].name = "a"
    rewriter.set_input(exp, 0, rewriter.insert(wish, before=exp).outputs[0])
    assert wish.outputs[0].name == "a_1"
    assert well_formed(model)


def test_many_names_from_one_wish_do_not_take_quadratic_work() -> None:
    _, rewriter = opened(CHAIN)
    names = {rewriter.fresh_name("constant") for _ in range(100_000)}
    assert len(names) == 100_000


# --- erasing ----------------------------------------------------------------------------------------------------------


def test_erasing_what_is_read_is_refused() -> None:
    model, rewriter = opened(CHAIN)
    with pytest.raises(ValueError, match="users"):
        rewriter.erase(node(model, "Neg"))
    with pytest.raises(ValueError, match="users"):
        rewriter.erase(node(model, "Relu"))


def test_erasing_an_if_lets_go_of_what_its_bodies_captured() -> None:
    model, rewriter = opened(BRANCH)
    captured = node(model, "Neg").outputs[0]
    assert not ir.is_private(captured)
    rewriter.erase(node(model, "If"))
    assert ir.is_private(captured)
    assert well_formed(model)


def test_a_public_or_read_initializer_stays() -> None:
    model, rewriter = opened(CHAIN)
    weight = model.graph.initializers["w"]
    with pytest.raises(ValueError, match="has users"):
        rewriter.erase_initializer(weight)
    rewriter.replace(node(model, "Add"), [model.graph.inputs[0]])
    rewriter.erase_initializer(weight)
    assert not model.graph.initializers
    overridable = """<ir_version: 8, opset_import: ["": 17]>
    g (float w) => (float y) <float w = {1}> { y = Constant <value_float = 1.0> () }"""
    model, rewriter = opened(overridable)
    with pytest.raises(ValueError, match="public"):
        rewriter.erase_initializer(model.graph.initializers["w"])


def test_nodes_that_were_made_for_nothing_can_be_forgotten() -> None:
    model, _ = opened(CHAIN)
    spare = ir.new_node("Neg", [model.graph.inputs[0]], version=17)
    ir.discard([spare])
    assert ir.verify(model) == []


# --- constants --------------------------------------------------------------------------------------------------------


def test_constants_are_initializers_of_the_graph_that_reads_them() -> None:
    model, rewriter = opened(BRANCH)
    exp = node(model, "Exp")
    add = ir.new_node("Add", [exp.inputs[0], ir.pending_constant(np.ones(2, np.float32))], version=17)
    rewriter.set_input(exp, 0, rewriter.insert(add, before=exp).outputs[0])
    assert exp.graph is not None and list(exp.graph.initializers) == ["constant"]
    assert well_formed(model)


def test_constants_in_functions_are_constant_nodes() -> None:
    model, rewriter = opened(FUNCTION)
    neg = node(model, "Neg")
    add = ir.new_node("Add", [neg.inputs[0], ir.pending_constant(np.ones(2, np.float32))], version=18)
    rewriter.set_input(neg, 0, rewriter.insert(add, before=neg).outputs[0])
    (function,) = model.functions.values()
    assert [each.op_type for each in function.graph] == ["Constant", "Add", "Neg"]
    assert not function.graph.initializers
    assert well_formed(model)


# --- opsets, events, provenance ---------------------------------------------------------------------------------------


def test_a_new_node_without_a_version_gets_that_of_its_scope() -> None:
    model, rewriter = opened(FUNCTION)
    neg = node(model, "Neg")
    inner = rewriter.insert(ir.new_node("Abs", neg.inputs, version=None), before=neg)
    outer = rewriter.insert(ir.new_node("Abs", model.graph.inputs, version=None), before=model.graph[0])
    assert (inner.version, outer.version) == (18, 21)


def test_a_new_domain_is_imported_where_it_is_used() -> None:
    model, rewriter = opened(CHAIN)
    add = node(model, "Add")
    rewriter.insert(ir.new_node("Gelu", add.inputs[:1], domain="com.microsoft", version=1), before=add)
    assert model.opset_imports == {"": 17, "com.microsoft": 1}


def test_listeners_hear_every_change_and_changes_are_counted() -> None:
    model, rewriter = opened(CHAIN)
    heard = Heard()
    rewriter.subscribe(heard)
    neg = node(model, "Neg")
    new = rewriter.insert(ir.new_node("Abs", neg.inputs, version=17), before=neg)
    rewriter.replace(neg, new.outputs)
    assert heard.events[:3] == [("inserted", "Abs"), ("modified", "Relu"), ("replaced", "b")]
    assert ("erased", "Neg") in heard.events
    assert rewriter.changes == 3
    rewriter.unsubscribe(heard)
    rewriter.set_attribute(new, "__note", 1)
    assert len(heard.events) == 5
    assert rewriter.changes == 4


def test_nothing_is_counted_when_nothing_changes() -> None:
    model, rewriter = opened(CHAIN)
    rewriter.replace(node(model, "Neg"), node(model, "Neg").outputs)
    assert rewriter.changes == 0
    assert well_formed(model)


def test_provenance_is_kept_in_the_metadata_of_the_node() -> None:
    model, rewriter = opened(CHAIN)
    neg = node(model, "Neg")
    new = rewriter.insert(ir.new_node("Abs", neg.inputs, version=17, provenance="my-rule"), before=neg)
    rewriter.replace(neg, new.outputs)
    assert ir.to_proto(model).graph.node[1].metadata_props[0].value == "my-rule"


def test_trailing_inputs_that_are_left_out_are_dropped() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[1,2] x, int64[1] k) => (float[2] y) { y = Squeeze (x, k) }'
    model, rewriter = opened(text)
    rewriter.set_input(model.graph[0], 1, None)
    assert len(model.graph[0].inputs) == 1
    assert well_formed(model)


def test_outputs_are_trimmed_unless_read() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) { y, mask = Dropout (x) }'
    model, rewriter = opened(text)
    rewriter.trim_outputs(model.graph[0], 1)
    assert len(model.graph[0].outputs) == 1
    with pytest.raises(ValueError, match="users"):
        rewriter.trim_outputs(model.graph[0], 0)


# --- moving -----------------------------------------------------------------------------------------------------------


def test_a_branch_is_emptied_into_its_place() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[2] x, bool c) => (float[2] y) <float[1] k = {1}> {
      p = Neg (x)
      y0 = If (c) <then_branch = t () => (q) <float[1] k2 = {2}> { r = Add (p, k2)  q = Mul (r, r) },
                   else_branch = e () => (s) { s = Abs (x) }>
      y = Add (y0, k)
    }"""
    model, rewriter = opened(text)
    holder = node(model, "If")
    body = next(ir.subgraphs_of(holder))
    rewriter.replace(holder, rewriter.inline(body, [], before=holder))
    assert [each.op_type for each in model.graph] == ["Neg", "Add", "Mul", "Add"]
    assert well_formed(model)


def test_a_branch_that_gives_an_initializer_is_emptied_too() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[2] x, bool c) => (float[2] y) {
      y = If (c) <then_branch = t () => (k) <float[2] k = {2, 3}> { }, else_branch = e () => (s) { s = Abs (x) }>
    }"""
    model, rewriter = opened(text)
    holder = node(model, "If")
    rewriter.replace(holder, rewriter.inline(next(ir.subgraphs_of(holder)), [], before=holder))
    assert [each.op_type for each in model.graph] == ["Identity"]
    assert well_formed(model)
