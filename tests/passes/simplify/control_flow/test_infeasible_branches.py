"""An If goes where one of its branches leads to an operator that cannot run, and only there."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

SQUEEZE_OR_NOT = """
  sizes = Shape(x)  last = Gather(sizes, two)  single = Equal(last, one)
  a = If(single) <
    then_branch = g1 () => (float[n,t] s) { s = Squeeze(x, axis) },
    else_branch = g2 () => (float[n,t,u] i) { i = Identity(x) }>
"""
WEIGHTS = "int64 two = {2}, int64 one = {1}, int64[1] axis = {2}, float[2,3] w = {1,2,3,4,5,6}, float[3] b = {0,0,0}"


def optimized(body: str, output: str = "float[n,3] y", ifs: str = SQUEEZE_OR_NOT) -> tuple[bytes, ir.Model, list[str]]:
    graph = f"g (float[n,2,t] x, bool c) => ({output}) <{WEIGHTS}> {{ {ifs} {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("drop-infeasible-branches,dce").run(model, [VerifyEach()])
    return proto.SerializeToString(), model, [node.op_type for node in model.graph]


def test_the_branch_that_gemm_cannot_take_is_dropped() -> None:
    before, model, operators = optimized("y = Gemm(a, w, b)")
    assert operators == ["Squeeze", "Gemm"]
    x = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    feeds = {"x": x, "c": np.array(True)}
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(before, options).run(feeds)["y"]
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)["y"]
    np.testing.assert_array_equal(wanted, given)


def test_what_failed_before_still_fails() -> None:
    before, model, _ = optimized("y = Gemm(a, w, b)")
    feeds = {"x": np.zeros((4, 2, 5), dtype=np.float32), "c": np.array(True)}
    for content in (before, ir.to_proto(model).SerializeToString()):
        with pytest.raises(Exception, match=r"Gemm|Squeeze"):
            open_session(content, SessionOptions(optimize=False)).run(feeds)


def test_it_is_found_behind_further_operators() -> None:
    _, _, operators = optimized("r = Relu(a)  e = Exp(r)  y = Gemm(e, w, b)")
    assert "If" not in operators


def test_an_operator_that_takes_both_keeps_the_if() -> None:
    _, _, operators = optimized("y = Relu(a)", "float y")
    assert "If" in operators


def test_an_operator_without_users_proves_nothing() -> None:
    """ONNX Runtime may leave it out."""
    _, model, _ = optimized("d = Gemm(a, w, b)  y = Relu(a)", "float y")
    assert "If" in [node.op_type for node in model.graph]


def test_an_operator_that_may_not_be_reached_proves_nothing() -> None:
    inner = """y = If(c) < then_branch = g3 () => (float p) { p = Gemm(a, w, b) },
                           else_branch = g4 () => (float q) { q = Relu(a) }>"""
    _, _, operators = optimized(inner, "float y")
    assert operators.count("If") == 2


def test_where_neither_branch_can_run_nothing_is_chosen() -> None:
    ifs = SQUEEZE_OR_NOT.replace("s = Squeeze(x, axis)", "s = Unsqueeze(x, axis)")
    _, _, operators = optimized("y = Gemm(a, w, b)", ifs=ifs)
    assert "If" in operators
