"""Bounds of tensors are rounded to their element type, in which sums overflow."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.float_range import Range, float_range
from optimize_graph.passes.analyses.manager import AnalysisManager
from optimize_graph.runtime import SessionOptions, open_session

LOW = "<float zero = {0}, float one = {1}, float two = {2}, float low = {-3.4028235e38}, float five = {5}>"
LOWEST = float(np.finfo(np.float32).min)


def shapes_of(model: ir.Model) -> Shapes:
    return AnalysisManager(model).get(Shapes)


CASES = {
    "m = Where(b, zero, low)  y = Sub(m, five)": Range(LOWEST, -5.0),
    "m = Where(b, zero, low)  n = Where(b, zero, low)  y = Add(m, n)": Range(LOWEST, 0.0, negative_infinity=True),
    "m = Where(b, zero, low)  y = Sum(m, m, five)": Range(LOWEST, 5.0, negative_infinity=True),
    "f = Cast<to = 1>(b)  h = Sub(one, f)  y = Mul(h, low)": Range(LOWEST, 0.0),
    "f = Cast<to = 1>(b)  h = Sub(two, f)  y = Mul(h, low)": Range(LOWEST, LOWEST, negative_infinity=True),
    "m = Where(b, five, low)  n = Neg(m)  y = Div(n, two)": Range(-2.5, -LOWEST / 2),
    "f = Cast<to = 1>(b)  y = Max(f, two)": Range(2.0, 2.0),
    "m = Where(b, five, low)  y = Div(m, zero)": None,
    "y = Exp(x)": None,
}


@pytest.mark.parametrize("body", CASES)
def test_bounds_hold_for_what_is_computed_and_overflow_is_an_infinity(body: str) -> None:
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]>\ng (bool[2] b, float[2] x) => (float[2] y) {LOW} {{ {body} }}'
    )
    model = ir.from_proto(proto)
    found = float_range(model.graph.outputs[0], shapes_of(model))
    assert found == CASES[body]
    if found is not None:
        feeds = {"b": np.array([True, False]), "x": np.zeros(2, np.float32)}
        computed = np.asarray(open_session(proto.SerializeToString(), SessionOptions(optimize=False)).run(feeds)["y"])
        finite = computed[np.isfinite(computed)]
        assert np.all((found.low <= finite) & (finite <= found.high))
        assert found.negative_infinity or not np.any(np.isneginf(computed))


def test_a_dtype_of_less_range_overflows_sooner() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 21]>\ng (bool[2] b) => (TYPE[2] y) <TYPE zero = {0}, TYPE low = {BITS}> '
        "{ m = Where(b, zero, low)  n = Add(m, m)  y = Add(n, m) }"
    )
    half = ir.from_proto(onnx.parser.parse_model(text.replace("TYPE", "float16").replace("BITS", "63253")))
    full = ir.from_proto(onnx.parser.parse_model(text.replace("TYPE", "float").replace("BITS", "-29000")))
    bounds = [float_range(each.graph.outputs[0], shapes_of(each)) for each in (half, full)]
    assert [each is not None and each.negative_infinity for each in bounds] == [True, False]
