"""Scopes: what is walked, in which order, and what crosses borders."""

from __future__ import annotations

import onnx.parser
import onnx_ir as oir
from optimize_graph import ir

MODEL = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
main (float[2] x, bool c) => (float[2] y) {
  a = Neg (x)
  b = If (c) <then_branch = outer_then () => (p) { p = Abs (a) },
              else_branch = outer_else () => (q) {
                q = If (c) <then_branch = inner_then () => (r) { r = Exp (a) },
                            else_branch = inner_else () => (s) { s = Sin (x) }> }>
  y = f.one (b)
}
<domain: "f", opset_import: ["": 21]> one (v) => (r) {
  k = Constant <value = bool {1}> ()
  r = If (k) <then_branch = function_then () => (p) { p = Cos (v) },
              else_branch = function_else () => (q) { q = Tan (v) }>
}"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(MODEL))


def test_graphs_come_outer_before_inner_and_functions_last() -> None:
    names = [graph.name or "function" for graph in ir.graphs(model())]
    assert names[:5] == ["main", "outer_then", "outer_else", "inner_then", "inner_else"]
    assert names[-2:] == ["function_then", "function_else"]
    assert len(names) == 8


def test_nodes_are_those_of_every_graph() -> None:
    assert [node.op_type for node in ir.nodes(model())] == (
        ["Neg", "If", "one", "Abs", "If", "Exp", "Sin", "Constant", "If", "Cos", "Tan"]
    )


def test_nodes_within_are_those_of_the_bodies_at_any_depth() -> None:
    parsed = model()
    assert sorted(node.op_type for node in ir.nodes_within(parsed.graph[1])) == ["Abs", "Exp", "If", "Sin"]
    assert list(ir.nodes_within(parsed.graph[0])) == []


def test_a_value_that_a_body_reads_is_captured() -> None:
    parsed = model()
    assert ir.is_captured(parsed.graph[0].outputs[0])
    assert ir.is_captured(parsed.graph.inputs[0])
    assert not ir.is_captured(parsed.graph[1].outputs[0])


def test_only_the_body_of_a_function_is_in_a_function() -> None:
    parsed = model()
    (function,) = parsed.functions.values()
    assert ir.in_function(function.graph, parsed)
    assert not ir.in_function(parsed.graph, parsed)


def test_walking_survives_edits_of_the_graph_that_is_walked() -> None:
    parsed = model()
    rewriter = ir.Rewriter(parsed)
    seen = []
    for node in ir.nodes(parsed):
        seen.append(node.op_type)
        if node.op_type == "Abs":
            rewriter.replace(node, [node.inputs[0]])
    assert seen.count("Abs") == 1
    assert ir.verify(parsed) == []


def test_depth_of_nesting_is_no_problem() -> None:
    graph = oir.Graph([], [], nodes=[])
    for _ in range(2000):
        holder = oir.Node("", "Inner", [], [oir.AttrGraph("body", graph)], num_outputs=1)
        graph = oir.Graph([], [], nodes=[holder])
    deep = oir.Model(graph, ir_version=8)
    assert sum(1 for _ in ir.graphs(deep)) == 2001
    assert sum(1 for _ in ir.nodes_within(graph[0])) == 1999
