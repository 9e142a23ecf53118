"""The networkx view: edges, convexity, dominators."""

from __future__ import annotations

import subprocess
import sys

import onnx.parser
from optimize_graph import ir

DIAMOND = """<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, bool c) => (float[2] y, float[2] z) <float[2] w = {1, 2}> {
  a = Mul (x, w)
  l = Neg (a)
  r = Abs (a)
  j = Add (l, r)
  y = If (c) <then_branch = t () => (p) { p = Exp (j) }, else_branch = e () => (q) { q = Sub (j, a) }>
  z = Sqrt (x)
}"""


def parsed() -> tuple[ir.Graph, dict[str, ir.Node]]:
    graph = ir.from_proto(onnx.parser.parse_model(DIAMOND)).graph
    return graph, {node.op_type: node for node in graph}


def test_edges_carry_the_values_and_follow_captures() -> None:
    graph, node = parsed()
    view = ir.graph_view(graph)
    assert list(view.nodes) == list(graph)
    assert view.edges[node["Mul"], node["Neg"]]["values"] == (node["Mul"].outputs[0],)
    assert view.has_edge(node["Add"], node["If"])
    assert view.has_edge(node["Mul"], node["If"])
    assert view.number_of_edges() == 6


def test_sources_are_inputs_and_initializers_on_request() -> None:
    graph, node = parsed()
    view = ir.graph_view(graph, sources=True)
    assert view.has_edge(graph.initializers["w"], node["Mul"])
    assert view.has_edge(graph.inputs[0], node["Sqrt"])


def test_several_values_between_two_nodes_are_one_edge() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[4] x) => (float[2] y) { a, b = Split (x)  y = Add (b, a) }"""
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    split, add = graph
    values = ir.graph_view(graph).edges[split, add]["values"]
    assert [value.name for value in values] == ["b", "a"]


def test_a_set_with_a_path_out_and_back_is_not_convex() -> None:
    graph, node = parsed()
    view = ir.graph_view(graph)
    assert ir.is_convex(view, [node["Mul"], node["Neg"], node["Abs"], node["Add"]])
    assert ir.is_convex(view, [node["Mul"], node["Neg"]])
    assert ir.is_convex(view, [node["Neg"], node["Sqrt"]])
    assert not ir.is_convex(view, [node["Mul"], node["Neg"], node["Add"]])
    assert not ir.is_convex(view, [node["Neg"], node["If"]])
    assert ir.is_convex(view, [])


def test_dominators_are_what_every_path_goes_through() -> None:
    graph, node = parsed()
    view = ir.graph_view(graph)
    forward = ir.dominators(view)
    assert forward[node["Add"]] is node["Mul"]
    assert forward[node["If"]] is node["Mul"]
    assert forward[node["Mul"]] is None
    assert forward[node["Sqrt"]] is None
    assert ir.dominators(view, backwards=True)[node["Neg"]] is node["Add"]
    assert ir.dominators(view, backwards=True)[node["Mul"]] is node["If"]


def test_an_empty_graph_has_no_dominators() -> None:
    assert ir.dominators(ir.graph_view(ir.Graph([], [], nodes=[]))) == {}


def test_importing_ir_imports_neither_networkx_nor_the_surgeon() -> None:
    script = "import sys, optimize_graph.ir; print({'networkx', 'onnx_graphsurgeon', 'onnxruntime'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
