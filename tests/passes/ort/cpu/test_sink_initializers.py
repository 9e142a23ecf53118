"""A weight that one body reads alone is an initializer of that body."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from optimize_graph import ir
from optimize_graph.passes import Pipeline, Settings, Target, VerifyEach
from optimize_graph.runtime import open_session

LOOP = "y = Loop(n, , x) <body = body (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] u) { d = Identity(c) %s }>"


def sunk(step: str, after: str = "z = Identity(y)", *, target: str = "ort-cpu", more: str = "") -> list[list[str]]:
    """The names of the initializers of each graph, after both models have given the same."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g (float[2,3] x, int64 n, bool p{more}) => (float[2,3] z)
      <float[3,3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float[3] b = {{1, 2, 3}}> {{ {LOOP % step}  {after} }}"""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("sink-initializers").run(model, [VerifyEach()], settings=Settings(Target(target)))
    assert not Pipeline.parse("sink-initializers").run(model, settings=Settings(Target(target))).rewrites
    onnx.checker.check_model(ir.to_proto(model))
    feeds = {"x": np.ones((2, 3), dtype=np.float32), "n": np.array(2), "p": np.array(True)}
    wanted, given = (open_session(each.SerializeToString()).run(feeds) for each in (proto, ir.to_proto(model)))
    np.testing.assert_array_equal(np.asarray(given["z"]), np.asarray(wanted["z"]))
    return [sorted(graph.initializers) for graph in ir.graphs(model)]


def test_a_weight_that_one_body_reads_moves_into_it() -> None:
    assert sunk("m = MatMul(v, w)  u = Add(m, b)") == [["b"], ["w"]]


def test_what_no_kernel_repacks_stays() -> None:
    assert sunk("u = Mul(v, b)")[0] == ["b", "w"]


def test_a_weight_that_others_read_stays() -> None:
    assert sunk("u = MatMul(v, w)", "z = MatMul(y, w)")[0] == ["b", "w"]
    twice = """a = MatMul(v, w)  u = Identity(a)"""
    other = LOOP.replace("y = Loop(n, , x)", "z = Loop(n, , y)") % twice
    assert sunk("u = MatMul(v, w)", other)[0] == ["b", "w"]


def test_a_weight_that_the_caller_may_override_stays() -> None:
    assert sunk("u = MatMul(v, w)", more=", float[3,3] w")[0] == ["b", "w"]


def test_a_weight_moves_to_the_innermost_body_of_all_that_read_it() -> None:
    step = """u = If(p) <then_branch = t () => (float[2,3] r) { r = MatMul(v, w) },
      else_branch = e () => (float[2,3] s) { s = Neg(v) }>"""
    assert sunk(step) == [["b"], [], ["w"], []]
    assert sunk(step.replace("s = Neg(v)", "q = Neg(v)  s = MatMul(q, w)")) == [["b"], ["w"], [], []]


def test_other_runtimes_get_their_weights_where_they_were() -> None:
    assert sunk("u = MatMul(v, w)", target="onnx")[0] == ["b", "w"]
