"""An initial state of zeros is left out of a recurrent network; any other stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

WEIGHTS = "float[1,12,2] w, float[1,12,3] r"


def optimized(body: str, constants: str) -> tuple[onnx.ModelProto, ir.Model]:
    text = f"g (float[s,b,2] x, {WEIGHTS}, int64[3] d) => (float[s,1,b,3] y, float[1,b,3] h) <{constants}> {{ {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("drop-zero-initial-state,dce").run(model, [VerifyEach()])
    return proto, model


def lstm(model: ir.Model) -> ir.Node:
    return next(node for node in ir.nodes(model) if node.op_type == "LSTM")


def test_states_of_zeros_go_with_what_made_them() -> None:
    before, model = optimized(
        "bs = Shape<start = 1, end = 2>(x)  s = Concat<axis = 0>(two, bs, three)  z = ConstantOfShape(s)"
        "  h0, c0 = Split<axis = 0>(z)  y, h = LSTM<hidden_size = 3>(x, w, r, , , h0, c0)",
        "int64[1] two = {2}, int64[1] three = {3}",
    )
    assert [node.op_type for node in ir.nodes(model)] == ["LSTM"]
    assert len(lstm(model).inputs) == 3
    feeds = make_feeds(ir.from_proto(before), seed=0)
    feeds["d"] = np.array([1, 1, 3])
    wanted = open_session(before.SerializeToString(), SessionOptions(optimize=False)).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), SessionOptions(optimize=False)).run(feeds)
    assert all(np.asarray(wanted[name]).tobytes() == np.asarray(given[name]).tobytes() for name in ("y", "h"))


def test_one_of_two_states_may_stay() -> None:
    _, model = optimized(
        "z = Expand(zero, d)  o = Expand(one, d)  y, h = LSTM<hidden_size = 3>(x, w, r, , , z, o)",
        "float zero = {0.0}, float one = {1.0}",
    )
    states = lstm(model).inputs[5:]
    assert states[0] is None
    assert states[1] is not None


@pytest.mark.parametrize("number", ["-0.0", "1.0"])
def test_a_state_of_other_numbers_stays(number: str) -> None:
    _, model = optimized("z = Expand(k, d)  y, h = LSTM<hidden_size = 3>(x, w, r, , , z, z)", f"float k = {{{number}}}")
    assert len(lstm(model).inputs) == 7


def test_a_state_that_the_caller_gives_stays() -> None:
    text = (
        f"g (float[s,b,2] x, {WEIGHTS}, float[1,b,3] z) => (float[s,1,b,3] y) "
        "{ y = LSTM<hidden_size = 3>(x, w, r, , , z, z) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'))
    assert not Pipeline.parse("drop-zero-initial-state").run(model).log.rewrites
