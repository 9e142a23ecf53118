"""A norm is one operator, whatever spells its square, mean, root, reciprocal and scale."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import Pipeline
from optimize_graph.testing.differential import session_of

SQUARES = (
    "p = Mul(d, d)  v = ReduceMean(p, axes)",
    "p = Pow(d, two)  u = ReduceSum(p, axes)  v = Div(u, size)",
    "u = ReduceSumSquare(d, axes)  v = Mul(share, u)",
    "p = Mul(d, d)  v = MatMul(p, column)",
    "p = Pow(d, two)  u = ReduceMean<keepdims = 0>(p, axes)  v = Unsqueeze(u, axes)",
)
ROOTS = (
    "e = Add(v, eps)  s = Sqrt(e)  n = Div({}, s)",
    "e = Add(eps, v)  s = Sqrt(e)  r = Reciprocal(s)  n = Mul(r, {})",
    "e = Add(v, eps)  r = Pow(e, power)  n = Mul({}, r)",
    "e = Add(v, eps)  i = Reciprocal(e)  r = Sqrt(i)  n = Mul({}, r)",
    "e = Add(v, eps)  s = Pow(e, half)  r = Div(one, s)  n = Mul({}, r)",
)
SCALES = (("d", ""), ("d", "z = Mul(n, w)"), ("c", "c = Mul(w, d)"), ("d", "o = Add(w, one)  z = Mul(o, n)"))
CENTERED = (
    "d = Identity(x)",
    "m = ReduceMean(x, axes)  d = Sub(x, m)",
    "t = ReduceSum(x, axes)  m = Div(t, size)  d = Sub(x, m)",
)
CONSTANTS = (
    "float two = {2}, float size = {4}, float share = {0.25}, float[4,1] column = {0.25, 0.25, 0.25, 0.25}, "
    "float eps = {0.00001}, float power = {-0.5}, float half = {0.5}, float one = {1}, int64[1] axes = {-1}, "
    "float[4] w = {0.5, 1.5, -2, 3}"
)


@pytest.mark.parametrize("square", SQUARES)
def test_a_norm_is_found_in_every_spelling(square: str) -> None:
    for center, root, (operand, scaled) in product(CENTERED, ROOTS, SCALES):
        before, after = (scaled, "") if operand == "c" else ("", scaled)
        steps = "  ".join((center, square, before, root.format(operand), after))
        last = "z" if after else "n"
        text = f"""<ir_version: 10, opset_import: ["": 23]>
            g (float[2,3,4] x) => (float[2,3,4] y) <{CONSTANTS}> {{ {steps}  y = Identity({last}) }}"""
        proto = onnx.parser.parse_model(text)
        model = ir.from_proto(proto)
        Pipeline.parse("canonicalize,recognize,dce").run(model)
        operators = {node.op_type for node in model.graph} - {"Add", "Identity"}  # (1 + w) is not folded here
        assert operators == {"LayerNormalization" if "Sub" in center else "RMSNormalization"}, text
        x = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
        wanted, got = (session_of(each).run(None, x)[0] for each in (proto.SerializeToString(), ir.to_bytes(model)))
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def at(opset: int, center: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""<ir_version: 7, opset_import: ["": {opset}]>
        g (float[2,3,4] x) => (float[2,3,4] y) <float two = {{2}}, float eps = {{0.00001}}> {{
          {center}  p = Pow(d, two)  v = ReduceMean<axes = [-1]>(p)  e = Add(v, eps)  s = Sqrt(e)  y = Div(d, s) }}""")


@pytest.mark.parametrize(
    ("opset", "center", "operator"),
    [
        (13, "m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)", "LayerNormalization"),
        (17, "d = Relu(x)", "RMSNormalization"),
    ],
)
def test_the_opset_is_raised_for_a_norm_where_that_is_allowed(opset: int, center: str, operator: str) -> None:
    proto = at(opset, center)
    result = optimize(proto, options=Options(strict=True))
    assert result.verification is not None and result.verification.ok
    assert operator in {node.op_type for node in result.model.graph}
    assert result.model.opset_imports[""] == 23
    for refused in (Options(target="onnx"), Options(opset=opset), Options(min_ort="1.20")):
        kept = optimize(proto, options=refused).model
        assert kept.opset_imports[""] == opset
        assert operator not in {node.op_type for node in kept.graph}
