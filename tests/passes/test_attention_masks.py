"""Attention as one operator computes what its expanded form does for rows that a mask hides wholly."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes.engine.pass_ import Settings
from optimize_graph.passes.engine.pipeline import Pipeline
from optimize_graph.runtime.session import SessionOptions, open_session

LOWEST = float(np.finfo(np.float32).min)
INF = float("inf")
MODEL = """<ir_version: 10, opset_import: ["": 23]>
g (float[2,3,8] q, float[2,3,8] k, float[2,3,8] v, INPUTS) => (float[2,3,8] y)
<int64[4] split = {2,3,2,4}, int64[3] merge = {2,3,8}> {
  qs = Reshape(q, split)  qh = Transpose<perm = [0,2,1,3]>(qs)
  ks = Reshape(k, split)  kt = Transpose<perm = [0,2,3,1]>(ks)
  vs = Reshape(v, split)  vh = Transpose<perm = [0,2,1,3]>(vs)
  s = MatMul(qh, kt)  BODY  p = Softmax<axis = -1>(z)
  o = MatMul(p, vh)  t = Transpose<perm = [0,2,1,3]>(o)  y = Reshape(t, merge)
}"""
ONE = ("float[2,1,3,3] m", "z = Add(s, m)")
TWO = ("float[2,1,3,3] m, float[1,2,3,3] b", "sb = Add(s, b)  z = Add(sb, m)")
BROADCAST = ("float[2,1,1,3] m", "z = Add(s, m)")
ROWS = {
    "lowest": [LOWEST] * 3,
    "lowest and -inf": [LOWEST, -INF, LOWEST],
    "neighbour of lowest": [float(np.nextafter(np.float32(LOWEST), np.float32(0)))] * 3,
    "-1e9": [-1e9] * 3,
    "-1e4": [-1e4] * 3,
    "padded left": [LOWEST, LOWEST, 0.0],
    "infinite left": [-INF, -INF, 0.0],
    "nothing masked": [0.0] * 3,
}


@pytest.mark.parametrize("form", [ONE, TWO, BROADCAST], ids=["mask", "bias and mask", "mask of one row"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_of_the_mask_weighs_values_as_the_expanded_form(form: tuple[str, str], row: list[float]) -> None:
    before = onnx.parser.parse_model(MODEL.replace("INPUTS", form[0]).replace("BODY", form[1]))
    model = ir.from_proto(before)
    Pipeline.parse("rewrite{rules=attention-over-split-heads},dce").run(model, [], settings=Settings(target="ort-cpu"))
    after = ir.to_proto(model)
    assert "Attention" in {node.op_type for node in after.graph.node}
    random = np.random.default_rng(0)
    feeds = {
        value.name: random.standard_normal([dim.dim_value for dim in value.type.tensor_type.shape.dim]).astype("f")
        for value in before.graph.input
    }
    feeds["m"] = np.zeros_like(feeds["m"])
    feeds["m"][1, 0, 0] = row
    want, got = (
        np.asarray(open_session(each.SerializeToString(), SessionOptions(optimize=False)).run(feeds)["y"])
        for each in (before, after)
    )
    # Scores beside -1e4 keep few bits: adding the mask to the bias first rounds them otherwise.
    allowed = 4e-3 if row == ROWS["-1e4"] and "b" in feeds else 1e-6
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=allowed)
