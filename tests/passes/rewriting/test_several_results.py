"""Patterns with an n-th output as an operand, rules that replace several outputs, and rules with several roots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Builder,
    Exactness,
    Match,
    PassFailure,
    Pipeline,
    VerifyEach,
    any_call,
    op,
    rewrite,
    roots,
    rule,
    values,
)
from optimize_graph.runtime import open_session

x, a, b, sizes = values("x a b sizes")
DOC = "A test.\n\nbefore:  y = A(x)\nafter:   y = B(x)"
SPLIT = "g (float[4] x) => ({outputs}) <int64[2] s = {{2, 2}}> {{ p, q = Split(x, s) {body} }}"
TWO = "g (float[2,3] x, float[3,4] a, float[3,4] b) => (float[2,4] p, float[2,4] q) { %s }"


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def define(pattern: Any, body: Any, **options: Any) -> None:
    body.__doc__ = DOC
    rule(pattern, source="a test", name="tried", **options)(body)


def run(text: str) -> tuple[list[str], list[str], ir.Model]:
    """The operators that are left, why the rule missed, and the model."""
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'))
    report = Pipeline.parse("rewrite{rules=tried}").run(model, [VerifyEach()])
    return [node.op_type for node in model.graph], [each.because for each in report.missed], model


def second_half(m: Match, op: Builder) -> ir.Value:
    return op.Slice(m.x, op.constant(np.array([2])), op.constant(np.array([4])))


def test_a_call_with_the_second_output_as_its_operand_matches_that_output_alone() -> None:
    define(op.Neg(op.Split(x, sizes).any_attributes().output(1)), second_half)
    assert run(SPLIT.format(outputs="float[2] y", body="y = Neg(p)"))[0] == ["Split", "Neg"]
    assert run(SPLIT.format(outputs="float[2] y", body="y = Neg(q)"))[0] == ["Slice"]


def test_another_output_with_users_is_a_reason_to_miss() -> None:
    define(op.Neg(op.Split(x, sizes).any_attributes().output(1)), second_half)
    operators, missed, _ = run(SPLIT.format(outputs="float[2] y, float[2] z", body="y = Neg(q) z = Abs(p)"))
    assert operators == ["Split", "Neg", "Abs"]
    assert missed == ["another output of p has users"]


def test_two_outputs_of_one_call_are_operands_of_one_pattern() -> None:
    pieces = op.Split(x, sizes).any_attributes()
    rewrite(
        "tried", "Not equal, for a test.", op.Concat(pieces.output(0), pieces.output(1), axis=0), x, source="a test"
    )
    text = SPLIT.format(outputs="float[4] y", body="c = Concat<axis = 0>(p, q) y = Abs(c)")
    assert run(text)[0] == ["Abs"]
    swapped = SPLIT.format(outputs="float[4] y", body="c = Concat<axis = 0>(q, p) y = Abs(c)")
    assert run(swapped)[0] == ["Split", "Concat", "Abs"]


def test_every_output_of_a_root_is_replaced() -> None:
    def both(m: Match, op: Builder) -> tuple[ir.Value, ir.Value]:
        source = m.root.inputs[0]
        return op.Slice(source, *map(op.constant, low)), op.Slice(source, *map(op.constant, high))

    low, high = ([np.array([0]), np.array([2])], [np.array([2]), np.array([4])])
    define(any_call("Split"), both, outputs=2)
    operators, _, model = run(SPLIT.format(outputs="float[2] y, float[2] z", body="y = Neg(p) z = Abs(q)"))
    assert sorted(operators) == ["Abs", "Neg", "Slice", "Slice"]
    outputs = open_session(ir.to_bytes(model)).run({"x": np.arange(4, dtype=np.float32)})
    assert [list(map(float, np.asarray(each))) for each in outputs.values()] == [[0.0, -1.0], [2.0, 3.0]]


def test_a_body_that_returns_too_few_values_is_faulty() -> None:
    define(any_call("Split"), lambda m, op: m.root.inputs[0], outputs=2)
    with pytest.raises(PassFailure, match="expected 2 values or None"):
        run(SPLIT.format(outputs="float[2] y, float[2] z", body="y = Neg(p) z = Abs(q)"))


def parallel(m: Match, op: Builder) -> tuple[ir.Value, ir.Value]:
    product = op.MatMul(m.x, op.Concat(m.a, m.b, axis=1))
    left, right = op.node("Split", [product, op.constant(np.array([4, 4]))], 2, attributes={"axis": 1})
    return left, right


PRODUCTS = roots(op.MatMul(x, a).named("left"), op.MatMul(x, b).named("right"))


def test_several_roots_are_replaced_together() -> None:
    define(PRODUCTS, parallel, exactness=Exactness.ROUNDING)
    operators, _, model = run(TWO % "p = MatMul(x, a)  q = MatMul(x, b)")
    assert operators == ["Concat", "MatMul", "Split"]
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=dims).astype(np.float32) for name, dims in DIMS.items()}
    outputs = open_session(ir.to_bytes(model)).run(feeds)
    for name, weight in (("p", "a"), ("q", "b")):
        np.testing.assert_allclose(np.asarray(outputs[name]), feeds["x"] @ feeds[weight], rtol=1e-5, atol=1e-6)


DIMS = {"x": (2, 3), "a": (3, 4), "b": (3, 4)}


def test_roots_without_a_common_operand_do_not_match() -> None:
    define(PRODUCTS, parallel, exactness=Exactness.ROUNDING)
    assert run(TWO % "p = MatMul(x, a)  r = Neg(x)  q = MatMul(r, b)")[0] == ["MatMul", "Neg", "MatMul"]


def test_an_operand_that_is_computed_after_the_first_root_is_a_reason_to_miss() -> None:
    define(PRODUCTS, parallel, exactness=Exactness.ROUNDING)
    operators, missed, _ = run(
        "g (float[2,2] x, float[2,2] a) => (float[2,2] p, float[2,2] q) "
        "{ p = MatMul(x, a)  w = Neg(p)  q = MatMul(x, w) }"
    )
    assert operators == ["MatMul", "Neg", "MatMul"]
    assert missed and all("is computed after" in each for each in missed)


def test_roots_of_one_name_are_refused() -> None:
    with pytest.raises(ir.PipelineError, match="has the same name"):
        define(roots(op.MatMul(x, a), op.MatMul(x, b)), parallel)
