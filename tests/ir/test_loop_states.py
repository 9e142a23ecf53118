"""The states of loops: read, and taken away where they are only handed on."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import SessionOptions, open_session

LOOP = """<ir_version: 8, opset_import: ["": 17]> g (float[3] x, float[3] z, int64 n) => (float[3] y, float[m,3] all) {
  a, y, b, all = Loop(n, , x, z, x) <body = body (int64 i, bool c, float[3] s, float[3] v, float[3] t) =>
    (bool d, float[3] s2, float[3] w, float[3] t, float[3] u) {
    d = Identity(c)  s2 = Identity(s)  w = Mul(v, x)  u = Neg(w) }> }"""
SCAN = """<ir_version: 8, opset_import: ["": 17]>
  g (float[3] x, float[3] z, float[5,3] q) => (float[3] y, float[m,3] all) {
  a, y, all = Scan(x, z, q) <num_scan_inputs = 1, body = body (float[3] s, float[3] v, float[3] e) =>
    (float[3] s, float[3] w, float[3] u) { w = Mul(v, e)  u = Neg(w) }> }"""


def loop_in(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type in ("Loop", "Scan"))


def test_states_have_a_start_a_value_in_the_iteration_an_end_and_a_result() -> None:
    states = list(ir.loop_states(loop_in(ir.from_proto(onnx.parser.parse_model(LOOP)))))
    names = [[each.name for each in (s.start, s.value, s.end, s.result) if each is not None] for s in states]
    assert names == [["x", "s", "s2", "a"], ["z", "v", "w", "y"], ["x", "t", "t", "b"]]
    scan = list(ir.loop_states(loop_in(ir.from_proto(onnx.parser.parse_model(SCAN)))))
    assert [state.result.name for state in scan] == ["a", "y"]


@pytest.mark.parametrize(("text", "dropped"), [(LOOP, {0, 2}), (LOOP, {2}), (SCAN, {0})])
def test_a_loop_without_some_states_gives_the_rest(text: str, dropped: set[int]) -> None:
    proto = onnx.parser.parse_model(text)
    model = ir.from_proto(proto)
    old = loop_in(model)
    count, states = len(old.outputs), len(list(ir.loop_states(old)))
    new = ir.drop_loop_states(ir.Rewriter(model), old, dropped)
    assert new is loop_in(model)
    assert len(new.outputs) == count - len(dropped) and len(list(ir.loop_states(new))) == states - len(dropped)
    ir.verify(model)
    made = ir.to_proto(model)
    onnx.checker.check_model(made)
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=3).astype(np.float32) for name in "xz"}
    feeds |= {"n": np.array(2)} if text is LOOP else {"q": random.normal(size=(5, 3)).astype(np.float32)}
    wanted = open_session(proto.SerializeToString(), SessionOptions()).run(feeds)
    given = open_session(made.SerializeToString(), SessionOptions()).run(feeds)
    for name, value in wanted.items():
        assert np.array_equal(np.asarray(value), np.asarray(given[name])), name
