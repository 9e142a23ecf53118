"""What a rule or pass declares by name is checked when it is registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Builder,
    Exactness,
    Match,
    Pass,
    Phase,
    op,
    register,
    rule,
    values,
    variadic,
)
from optimize_graph.passes.rewriting import constraints as c
from optimize_graph.passes.rewriting.check_rule import pattern_faults, unbound_names
from optimize_graph.passes.rewriting.match import Condition

x, y, weight, bias = values("x y weight bias")
GEMM = op.Gemm(x, weight, bias.optional()).any_attributes()


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def declare(pattern: Any = GEMM, *, body: Any = None, **options: Any) -> None:
    def returns_x(m: Match, op: Builder) -> ir.Value:
        return m.x.value

    body = body or returns_x
    body.__doc__ = "before: a\nafter: b"
    rule(pattern, **{"source": "a test", "name": "declared", **options})(body)


@pytest.mark.parametrize(
    ("condition", "wrong", "nearest"),
    [
        (c.constant("wieght"), "wieght", "weight"),
        (c.floating("x", "biass"), "biass", "bias"),
        (c.finite("weights"), "weights", "weight"),
        (c.rank_known("wight"), "wight", "weight"),
        (c.same_type_and_shape("x", "baias"), "baias", "bias"),
        (c.attribute("Gem", "transA", 1), "Gem", "Gemm"),
        (c.constant(values("wait")[0]), "wait", ""),
    ],
    ids=lambda each: each.text if isinstance(each, Condition) else None,
)
def test_a_condition_on_a_name_that_the_pattern_does_not_bind_is_refused(
    condition: Any, wrong: str, nearest: str
) -> None:
    with pytest.raises(ir.PipelineError) as caught:
        declare(requires=[condition])
    assert f"the pattern has no {wrong!r}" in str(caught.value)
    if nearest:
        assert f"did you mean {nearest!r}?" in str(caught.value)


def test_names_of_one_branch_and_of_the_rest_of_the_inputs_are_bound() -> None:
    pattern = op.Add(x, bias) | op.Sum(x, variadic("others"))
    declare(pattern, requires=[c.constant("bias", "others"), c.floating("others"), c.constant("Sum")])


def test_a_condition_on_the_rest_of_the_inputs_is_about_each_of_them() -> None:
    import onnx.parser
    from optimize_graph.passes import Pipeline

    declare(op.Sum(x, variadic("others")), requires=[c.constant("others")], keeps_type=True)
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[2] x, float[2] v) => (float[2] y) <float[2] w = {1, 2}> { y = Sum(x, w, v) }"""
    report = Pipeline.parse("rewrite{rules=declared}").run(ir.from_proto(onnx.parser.parse_model(text)))
    assert [each.because for each in report.missed] == ["others1 = 'v' is computed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"phase": "canonicalise"},
            "phase is 'canonicalise', expected a member of Phase; did you mean 'canonicalize'?",
        ),
        ({"phase": 3}, "phase is 3, expected a member of Phase"),
        ({"exactness": "exact"}, "exactness is 'exact', expected a member of Exactness"),
        ({"benefit": "high"}, "benefit is 'high', expected an integer"),
        ({"source": ""}, "it names no source"),
        ({"name": "two words"}, "'two words' is no name"),
        ({"name": "a,b"}, "'a,b' is no name"),
        ({"requires": ["constant"]}, "requires contains 'constant', expected a condition"),
        ({"pattern": x}, "no operator at the root"),
        ({"pattern": op.Rellu(x)}, "ai.onnx has no operator Rellu; did you mean 'Relu'?"),
        ({"pattern": op.Neg(op.Rellu(x))}, "ai.onnx has no operator Rellu"),
        ({"pattern": op.Neg(x) | op.Rellu(x)}, "ai.onnx has no operator Rellu"),
        ({"pattern": op.domain("ai.onnx.ml").Scalar(x)}, "ai.onnx.ml has no operator Scalar; did you mean 'Scaler'?"),
        ({"pattern": op.domain("ai.onnx").Relu(x)}, "the standard's domain is written ''"),
        ({"pattern": op.Relu(x, y)}, "Relu has at most 1 inputs, and the pattern 2"),
        ({"pattern": op.Relu(x, variadic("more"))}, "Relu has at most 1 inputs, and the pattern 2"),
        ({"pattern": op.Add(x)}, "Add has at least 2 inputs, and the pattern 1"),
        ({"pattern": op.Softmax(x, axes=1)}, "Softmax has no attribute 'axes'; did you mean 'axis'?"),
        ({"pattern": op.Softmax(x).any_attributes("axes")}, "Softmax has no attribute 'axes'"),
        ({"pattern": op.Softmax(x, axis=1.0)}, "attribute 'axis' is INT and never equals 1.0"),
        ({"pattern": op.ReduceSum(x, keepdims=True)}, "attribute 'keepdims' is INT and never equals True"),
        ({"pattern": op.Transpose(x, perm=1)}, "attribute 'perm' is INTS and never equals 1"),
        ({"pattern": op.LeakyRelu(x, alpha=0.1)}, "attribute 'alpha' is FLOAT and never equals 0.1"),
        ({"pattern": op.Gelu(x).opset(until=19)}, "Gelu is not defined between opsets 1 and 19"),
        ({"pattern": op.Squeeze(x, axes=[1]).opset(since=13)}, "Squeeze has no attribute 'axes'"),
        ({"pattern": op.Squeeze(x, y).opset(until=12)}, "Squeeze has at most 1 inputs"),
    ],
    ids=lambda each: None if isinstance(each, dict) else each,
)
def test_what_no_model_could_fit_and_no_pass_would_run_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ir.PipelineError) as caught:
        declare(**options)
    assert message in str(caught.value)
    assert "declared" not in REGISTRY.rules


@pytest.mark.parametrize(
    "pattern",
    [
        op.Squeeze(x, axes=[1]),
        op.Squeeze(x, y),
        op.Clip(x, min=0.0, max=6.0),
        op.Concat(x, variadic("others")).any_attributes("axis"),
        op.domain("com.acme").Whatever(x, y, mode=True),
        op.domain("com.microsoft").Gelu(x),
        op.LeakyRelu(x, alpha=0.25),
        op.Resize(x, None, y).any_attributes(),
    ],
    ids=str,
)
def test_what_some_opset_or_a_custom_domain_defines_is_accepted(pattern: Any) -> None:
    declare(pattern)
    assert "declared" in REGISTRY.rules


def test_a_target_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ir.OptionsError, match="no target is called 'ort-gpu'; did you mean 'ort-cpu'"):
        c.target("ort-gpu")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"name": "two words"}, "is no name"),
        ({"name": "fine", "exactness": "exact"}, "expected a member of Exactness"),
        ({"name": "fine", "phases": "simplify"}, "expected a frozenset"),
    ],
)
def test_a_pass_that_declares_something_else_is_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ir.PipelineError, match=message):
        register(type("Wrong", (Pass,), {"__module__": __name__, **declared}))


def test_the_rules_of_the_package_stand_up_to_what_is_asked_of_plugins() -> None:
    faults = {name: list(pattern_faults(each.pattern)) for name, each in REGISTRY.rules.items()}
    assert not {name: each for name, each in faults.items() if each}
    unbound = {name: list(unbound_names(each)) for name, each in REGISTRY.rules.items()}
    assert not {name: each for name, each in unbound.items() if each}
    assert frozenset().union(*(kind.phases for kind in REGISTRY.passes.values())) == frozenset(Phase)
    assert all(isinstance(each.exactness, Exactness) for each in REGISTRY.rules.values())


@pytest.mark.parametrize(
    ("body", "requires"),
    [
        (lambda m, op: op.Relu(m.scale), []),
        (lambda m, op: op.Relu(m.x), [c.require("a scale", lambda m: m.scale.is_constant)]),
        (lambda m, op: op.Relu(m.x), [c.require("a scale", lambda m: True, lambda m: str(m.scale.rank))]),
        (lambda m, op: op.Relu(m.x), [c.let("a scale", lambda m: m.scale.scalar)]),
    ],
)
def test_a_name_that_the_pattern_does_not_bind_is_refused_when_the_rule_is_registered(
    body: Any, requires: list[Any]
) -> None:
    with pytest.raises(ir.PipelineError, match=r"reads m\.scale, which the pattern does not bind"):
        declare(requires=requires, body=body)


def test_names_that_every_match_has_may_be_read() -> None:
    declare(body=lambda m, op: op.Relu(m.x) if m.shapes and m.root and m.has("x") else None)
