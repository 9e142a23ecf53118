"""Rules that emit operators which ONNX Runtime lacks: verified by the meaning that their author hands in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, operator_function, operator_reference, optimize
from optimize_graph.ir.standard.custom_operators import forget_operator
from optimize_graph.passes import REGISTRY, Builder, Exactness, Match, op, rule, values
from optimize_graph.passes.pipeline.phase import Phase
from optimize_graph.runtime import SessionOptions, open_session

x, y = values("x y")
MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,8] x, float[N,8] b) => (float[N,8] z, float[N,8] n) {
    m = Mul(x, x)  s = Add(m, b)  t = Tanh(s)  u = Mul(t, t)  z = Add(u, x)  n = Neg(z) }"""
BODY = """<opset_import: ["": 21], domain: "acme"> SquareAdd (x, y) => (z) { m = Mul(x, x)  z = Add(m, y) }"""


@pytest.fixture
def square_add() -> Iterator[None]:
    """A rule of a plugin that emits a vendor's operator."""

    with REGISTRY.scope():

        @rule(
            op.Add(op.Mul(x, x), y),
            source="acme's manual",
            exactness=Exactness.ROUNDING,
            name="acme-square-add",
            phase=Phase.SIMPLIFY,
        )
        def acme_square_add(m: Match, op: Builder) -> ir.Value:
            """Acme's accelerator squares and adds at once.

            before:  z = Add(Mul(x, x), y)
            after:   z = acme.SquareAdd(x, y)
            """
            return op.SquareAdd(m.x, m.y, domain="acme", version=1)

        yield
    forget_operator("acme", "SquareAdd")


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_an_operator_without_a_meaning_is_left_out_because_it_does_not_load(square_add: None) -> None:
    result = optimize(onnx.parser.parse_model(MODEL))
    assert operators(result.model).count("SquareAdd") == 0
    assert "random" not in result.isolated[0].why
    assert "ONNX Runtime refuses the model" in result.isolated[0].why


def test_a_function_body_verifies_what_a_rule_emits(square_add: None) -> None:
    operator_function(BODY)
    result = optimize(onnx.parser.parse_model(MODEL))
    assert result.verification is not None and result.verification.ok
    assert operators(result.model).count("SquareAdd") == 2 and not result.isolated
    assert not result.model.functions  # the meaning is no part of what is delivered


def test_a_python_reference_verifies_what_a_rule_emits(square_add: None, tmp_path: Path) -> None:
    calls = []

    @operator_reference("acme", "SquareAdd")
    def reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        calls.append(x.shape)
        return x * x + y

    result = optimize(onnx.parser.parse_model(MODEL), tmp_path / "out.onnx")
    assert result.verification is not None and result.verification.ok
    assert operators(result.model).count("SquareAdd") == 2 and not result.isolated
    assert calls


@pytest.mark.parametrize("as_function", [True, False])
def test_a_meaning_that_the_rule_contradicts_isolates_the_rule(square_add: None, as_function: bool) -> None:
    if as_function:
        operator_function(BODY.replace("Mul(x, x)", "Abs(x)"))
    else:
        operator_reference("acme", "SquareAdd")(lambda x, y: abs(x) + y)
    result = optimize(onnx.parser.parse_model(MODEL))
    assert operators(result.model).count("SquareAdd") == 0
    assert {each.rule for each in result.isolated} == {"acme-square-add"}


def test_a_reference_that_draws_numbers_is_seen_by_running_twice(square_add: None) -> None:
    random = np.random.default_rng()
    operator_reference("acme", "SquareAdd")(lambda x, y: x * x + y + random.normal(size=x.shape).astype(x.dtype) * 1e-7)
    result = optimize(onnx.parser.parse_model(MODEL), options=Options(rtol=0.0, atol=1e-5))
    assert result.verification is not None and result.verification.ok  # within the tolerance that was asked for
    operator_reference("acme", "SquareAdd")(lambda x, y: x * x + y + random.normal(size=x.shape).astype(x.dtype))
    result = optimize(onnx.parser.parse_model(MODEL))
    assert operators(result.model).count("SquareAdd") == 0


def test_a_model_that_calls_an_operator_with_a_meaning_is_verified_as_any_other(square_add: None) -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[N,8] x) => (float[N,8] z) { i = Identity(x)  a = acme.Gate<low = 0.5>(i, )  z = Neg(a) }""")

    @operator_reference("acme", "Gate")
    def gate(x: np.ndarray, bias: np.ndarray | None = None, *, low: float) -> np.ndarray:
        assert bias is None
        return np.maximum(x, np.float32(low))

    try:
        result = optimize(model)
    finally:
        forget_operator("acme", "Gate")
    assert result.verification is not None and result.verification.ok and result.verification.exact
    assert operators(result.model) == ["Gate", "Neg"]


def test_stages_run_in_order_with_weights_and_bodies_that_capture() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[3] x, bool c) => (float[3] y, float[3] w) <float[3] w = {1, 2, 3}> {
            a = Add(x, w)  b = acme.Twice(a)
            i = If(c) <then_branch = t () => (float[3] p) { p = Neg(b) }, else_branch = e () => (float[3] q) {
                q = Identity(x) }>
            d, f = acme.Both(i, b)  y = Add(d, f) }""")
    operator_reference("acme", "Twice")(lambda a: a * 2)
    operator_reference("acme", "Both")(lambda a, b: (a + b, a - b))
    try:
        session = open_session(model.SerializeToString(), SessionOptions(optimize=False))
        one = np.ones(3, np.float32)
        found = session.run({"x": one, "c": np.array(False)})
    finally:
        forget_operator("acme", "Twice")
        forget_operator("acme", "Both")
    assert np.array_equal(found["y"], 2 * one) and np.array_equal(found["w"], [1, 2, 3])


def test_meanings_of_standard_operators_and_calls_inside_bodies_are_refused() -> None:
    with pytest.raises(ir.PipelineError, match="has a meaning of its own"):
        operator_reference("", "Relu")
    with pytest.raises(ir.PipelineError, match="does not parse"):
        operator_function("nonsense")
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21, "acme": 1]>
        g (float[3] x, bool c) => (float[3] y) {
            y = If(c) <then_branch = t () => (float[3] p) { p = acme.Twice(x) },
                       else_branch = e () => (float[3] q) { q = Neg(x) }> }""")
    operator_reference("acme", "Twice")(lambda a: a * 2)
    try:
        with pytest.raises(ir.PipelineError, match="called inside a body"):
            open_session(model.SerializeToString())
    finally:
        forget_operator("acme", "Twice")
