"""A sequence is multiplied at once, where a loop would multiply each of its elements by the same matrix."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

STEP = "d = Identity(go)  x = Gather(xs, turn)  p = MatMul(x, w)  m = Mul(p, h)  h2 = Sin(m)"


def projected(step: str = STEP, count: str = "steps", *, more: str = "", results: str = "h2") -> list[list[str]]:
    """The operators of the model and of the body, after both models have given the same up to rounding."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g (float[s,b,2] xs, float[b,3] h0, int64 turns, float[2,3] given) => (float[b,3] hn)
      <float[2,3] w = {{1, 2, 3, 4, 5, 6}}, float[1,3] c = {{1, -1, 0}}, float[2,2] q = {{1, 2, 3, 4}}> {{
        size = Shape<start = 0, end = 1>(xs)  steps = Squeeze(size)  {more}
        hn = Loop({count}, , h0) <body = body (int64 turn, bool go, float[b,3] h) => (bool d, float[b,3] {results})
          <float[2,3] v = {{1, 1, 2, 2, 3, 3}}> {{ {step} }}> }}"""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("hoist-loop-matmul,dce").run(model, [VerifyEach()])
    assert not Pipeline.parse("hoist-loop-matmul").run(model, [VerifyEach()]).rewrites
    options = SessionOptions(optimize=False)
    wanted = open_session(proto.SerializeToString(), options)
    found = open_session(ir.to_proto(model).SerializeToString(), options)
    random = np.random.default_rng(0)
    for steps in (4, 1, 0):
        shapes = {"xs": (steps, 2, 2), "h0": (2, 3), "given": (2, 3)}
        feeds = {name: random.normal(size=size).astype(np.float32) for name, size in shapes.items()}
        every = {**feeds, "turns": np.array(steps)}
        for name, value in wanted.run(every).items():
            np.testing.assert_allclose(np.asarray(found.run(every)[name]), np.asarray(value), rtol=1e-5, atol=1e-6)
    return [[node.op_type for node in graph] for graph in ir.graphs(model)]


@pytest.mark.parametrize("weight", ["w", "v", "given"])
def test_the_product_leaves_the_loop(weight: str) -> None:
    outside, inside = projected(STEP.replace("w)", f"{weight})"))
    assert "MatMul" in outside and "MatMul" not in inside
    assert inside.count("Gather") == 1


def test_what_a_gemm_adds_is_added_in_the_loop() -> None:
    outside, inside = projected(STEP.replace("MatMul(x, w)", "Gemm(x, w, c)"))
    assert "MatMul" in outside and "Gemm" not in inside and "Add" in inside
    outside, inside = projected(STEP.replace("MatMul(x, w)", "Gemm(x, w, h)"))
    assert "MatMul" in outside and "Add" in inside
    outside, inside = projected(STEP.replace("MatMul(x, w)", 'Gemm(x, w, "")'))
    assert "MatMul" in outside and "Add" not in inside


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (STEP, "turns"),  # elements that no turn takes would be multiplied for nothing
        (STEP.replace("MatMul(x, w)", "Gemm<alpha = 2.0>(x, w)"), "steps"),
        (STEP.replace("p = MatMul(x, w)", "k = Mul(x, x)  p = MatMul(k, w)"), "steps"),
        (
            STEP.replace("p = MatMul(x, w)", "k = Add(w, h)  p = MatMul(x, k)").replace("Add(w, h)", "Add(w, w)"),
            "steps",
        ),
        (STEP.replace("p = MatMul(x, w)", "k = MatMul(q, x)  p = MatMul(k, w)"), "steps"),
    ],
)
def test_other_products_stay(step: str, count: str) -> None:
    outside, _ = projected(step, count)
    assert "MatMul" not in outside


def test_it_follows_the_recurrences_that_it_would_hide() -> None:
    text = REGISTRY.presets["default"]
    assert text.index("recognize-rnn") < text.index("hoist-loop-matmul")
