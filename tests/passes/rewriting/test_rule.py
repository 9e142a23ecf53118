"""Rules of one expression on either side, and conditions that compute what a body needs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Builder,
    Exactness,
    Match,
    Phase,
    Pipeline,
    let,
    op,
    require,
    rewrite,
    rule,
    values,
)

x, y, bias = values("x y bias")
MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x, float[2,3] y) => (float[2,3] z) { s = Sub(x, y)  n = Neg(s)  z = Abs(n) }"""


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def run(name: str, text: str = MODEL) -> tuple[str, list[str]]:
    """The operators that are left, and why the rule missed."""
    model = ir.from_proto(onnx.parser.parse_model(text))
    report = Pipeline.parse(f"rewrite{{rules={name}}}").run(model)
    return " ".join(node.op_type for node in model.graph), [each.because for each in report.missed]


def test_the_replacement_is_built_from_the_names_of_the_pattern() -> None:
    rewrite("swap", "Swap operands.", op.Neg(op.Sub(x, y)), op.Sub(y, x), source="a test", exactness=Exactness.ROUNDING)
    assert run("swap") == ("Sub Abs", [])
    assert REGISTRY.rules["swap"].doc == "Swap operands.\n\nbefore:  y = Neg(Sub(x, y))\nafter:   y = Sub(y, x)"
    assert REGISTRY.rules["swap"].phase is Phase.SIMPLIFY


def test_a_call_of_the_pattern_in_the_replacement_is_the_value_that_it_matched() -> None:
    inner = op.Neg(x).named("inner").shared()
    rewrite("cancel", "Abs ignores the sign.", op.Abs(inner), op.Relu(inner), source="a test")
    assert run("cancel") == ("Sub Neg Relu", [])


def test_attributes_of_a_built_call_are_its_own() -> None:
    rewrite("leaky", "Not equal, for a test.", op.Abs(x), op.LeakyRelu(x, alpha=0.5), source="a test")
    model = ir.from_proto(onnx.parser.parse_model(MODEL))
    Pipeline.parse("rewrite{rules=leaky}").run(model)
    assert [ir.attribute(node, "alpha") for node in model.graph if node.op_type == "LeakyRelu"] == [0.5]


def test_a_variable_of_the_replacement_that_the_pattern_does_not_bind_is_refused() -> None:
    with pytest.raises(ir.PipelineError, match="the pattern has no 'bias'"):
        rewrite("wrong", "Wrong.", op.Abs(x), op.Add(x, bias), source="a test")


def test_what_a_condition_computes_is_computed_once_and_read_by_later_conditions_and_the_body() -> None:
    calls: list[int] = []

    def shape(m: Match) -> tuple[int, ...] | str:
        calls.append(1)
        return m.x.static or "no known dims"

    dims = let("known dims", shape)

    @rule(op.Abs(x), requires=[dims, require("a matrix", lambda m: len(m[dims]) == 2)], source="a test")
    def absolute(m: Match, op: Builder) -> ir.Value:
        """A test.

        before:  y = Abs(x)
        after:   y = Relu(x)
        """
        assert m[dims] == (2, 3) and m[x].dims == (2, 3)
        return op.Relu(m.x)

    assert run("absolute") == ("Sub Neg Relu", [])
    assert len(calls) == 1
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n] x) => (float[n] z) { z = Abs(x) }'
    assert run("absolute", text) == ("Abs", ["no known dims"])


def test_where_nothing_is_computed_and_no_reason_is_given_a_general_one_is_said() -> None:
    nothing = let("something", lambda m: None)

    @rule(op.Abs(x), requires=[nothing], source="a test")
    def absolute(m: Match, op: Builder) -> ir.Value:
        """A test.

        before:  y = Abs(x)
        after:   y = Relu(x)
        """
        return op.Relu(m.x)

    assert run("absolute") == ("Sub Neg Abs", ["it does not hold here"])


def test_the_right_side_takes_numbers_and_what_a_condition_computed() -> None:
    scale = let("a scale", lambda m: [0.5, 0.25, 1.0] if m.x.rank == 2 else "another rank")
    slope = let("a slope", lambda m: 0.25 if m.x.rank else None)
    after = op.LeakyRelu(op.Mul(op.Add(x, 1.0), scale), alpha=slope)
    before = op.Neg(op.Sub(x, y))
    made = rewrite("computed", "Compute.", before, after, when=[scale, slope], source="a test", keeps_type=True)
    assert "after:   y = LeakyRelu<alpha = %computed>(Mul(Add(x, 1.0), %computed))" in made.doc
    assert run("computed") == ("Add Mul LeakyRelu Abs", [])
    with pytest.raises(ir.PipelineError, match="'a slope' is not in `when`"):
        rewrite("unlisted", "Compute.", before, after, when=[scale], source="a test")
