"""The driver: order, guards, missed rewrites, rules that loop or raise, and what is looked at again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Builder,
    Exactness,
    Exclusions,
    Match,
    PassFailure,
    Pipeline,
    PipelineResult,
    Rule,
    VerifyEach,
    any_call,
    approx,
    op,
    rule,
    values,
    variadic,
)
from optimize_graph.passes.rewriting.constraints import require

a, b, c, x, y = values("a b c x y")
DOC = "before: this\nafter: that"


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def planted(name: str, pattern: object, body: Callable[[Match, Builder], object], **options: object) -> Rule:
    body.__doc__ = DOC
    return rule(pattern, source="a test", name=name, **options)(body)  # type: ignore[arg-type,call-overload]


def model_of(text: str) -> ir.Model:
    header = "" if text.lstrip().startswith("<") else '<ir_version: 8, opset_import: ["": 17]>\n'
    return ir.from_proto(onnx.parser.parse_model(header + text))


def rewritten(text: str, *names: str, **options: object) -> tuple[ir.Model, PipelineResult]:
    model = model_of(text)
    pipeline = Pipeline.parse(f"rewrite{{rules={'|'.join(names)}}}")
    report = pipeline.run(model, [VerifyEach()], **options)  # type: ignore[arg-type]
    return report.model, report


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


CHAIN = "g (float[N] x) => (float[N] y) { a = Exp(x)  b = Log(a)  y = Neg(b) }"


def test_the_higher_benefit_goes_first_then_the_name() -> None:
    planted("b-second", op.Log(op.Exp(x)), lambda m, op: op.Abs(m.x), exactness=Exactness.ROUNDING)
    planted("c-first", op.Log(op.Exp(x)), lambda m, op: op.Sin(m.x), benefit=2)
    planted("a-third", op.Log(op.Exp(x)), lambda m, op: op.Cos(m.x), benefit=-1)
    model, report = rewritten(CHAIN, "b-second", "c-first", "a-third")
    assert operators(model) == ["Sin", "Neg"]
    assert report.log.exactness is Exactness.EXACT


def test_a_rule_that_gives_nothing_leaves_the_place_to_the_next_and_no_trace() -> None:
    planted("first", op.Log(op.Exp(x)), lambda m, op: op.Sin(m.x) and None, benefit=2)
    planted("second", op.Log(op.Exp(x)), lambda m, op: op.Abs(m.x))
    model, report = rewritten(CHAIN, "first", "second")
    assert operators(model) == ["Abs", "Neg"]
    assert [each.rule for each in report.rewrites] == ["second"]


def test_what_a_rewrite_makes_possible_is_done_in_the_same_run() -> None:
    planted("exp-log", op.Log(op.Exp(x)), lambda m, op: m.x.value)
    text = "g (float[N] x) => (float[N] y) { a = Exp(x)  b = Exp(a)  c = Log(b)  d = Log(c)  y = Neg(d) }"
    assert operators(rewritten(text, "exp-log")[0]) == ["Neg"]


def test_what_a_rewrite_tells_of_dims_is_used_in_the_same_run() -> None:
    text = "g (float[4] x, float[N] z) => (float y) { n = NonZero(x)  a = Cast<to = 1>(n)  b = Exp(a)  y = Neg(b) }"
    planted("known", op.Cast(a).any_attributes("to"), lambda m, op: op.Expand(op.constant(np.float32(0.5)), [1, 4]))
    wants = require("known dims", lambda m: m.shapes.static(m.root.inputs[0]) is not None)
    planted("abs", op.Neg(x), lambda m, op: op.Abs(m.x), requires=[wants])
    model, _ = rewritten(text, "known", "abs")
    assert operators(model)[-2:] == ["Exp", "Abs"]


def test_a_value_that_lost_its_other_user_is_visited_again() -> None:
    """`Sin(Exp)` is refused while `Cos` reads the Exp too; the Cos goes later."""
    planted("sin-exp", op.Sin(op.Exp(x)), lambda m, op: op.Abs(m.x))
    planted("simple", op.Cos(op.Exp(x).shared()), lambda m, op: op.Neg(m.x))
    text = "g (float[N] x) => (float[N] y, float[N] z) { e = Exp(x)  s = Sin(e)  c = Cos(e)  y = Relu(s)  z = Relu(c) }"
    model, report = rewritten(text, "sin-exp", "simple")
    assert sorted(operators(model)) == ["Abs", "Neg", "Relu", "Relu"]
    assert not report.missed


def test_two_rules_that_undo_each_other_are_stopped_and_named() -> None:
    planted("there", op.Exp(x), lambda m, op: op.Log(m.x))
    planted("back", op.Log(x), lambda m, op: op.Exp(m.x))
    with pytest.raises(PassFailure, match=r"(there|back): it keeps firing: \d+ times"):
        rewritten(CHAIN, "there", "back")


def test_of_two_looping_rules_one_is_excluded_and_the_rest_goes_on() -> None:
    planted("there", op.Exp(x), lambda m, op: op.Log(m.x))
    planted("back", op.Log(x), lambda m, op: op.Exp(m.x))
    planted("neg-abs", op.Neg(x), lambda m, op: op.Abs(m.x))
    model, report = rewritten(CHAIN, "there", "back", "neg-abs", on_failure="skip")
    (failure,) = report.failures
    assert failure.faulty in ("there", "back")
    assert "Abs" in operators(model)


def broken(m: Match, op: Builder) -> ir.Value:
    op.Sin(m.x)  # made, and never used
    raise RuntimeError("no luck")


def test_a_rule_that_raises_is_excluded_and_the_result_is_as_if_it_did_not_exist() -> None:
    planted("broken", op.Log(op.Exp(x)), broken)
    planted("neg-abs", op.Neg(x), lambda m, op: op.Abs(m.x))
    with pytest.raises(PassFailure, match="broken: RuntimeError: no luck"):
        rewritten(CHAIN, "broken", "neg-abs")
    skipped, report = rewritten(CHAIN, "broken", "neg-abs", on_failure="skip")
    exclusions, _ = rewritten(CHAIN, "neg-abs")
    assert [each.faulty for each in report.failures] == ["broken"]
    assert ir.to_bytes(skipped) == ir.to_bytes(exclusions)


def test_a_condition_that_raises_blames_its_rule() -> None:
    planted("broken", op.Neg(x), lambda m, op: m.x.value, requires=[require("never", lambda m: bool(1 / 0))])
    with pytest.raises(PassFailure, match="broken: ZeroDivisionError"):
        rewritten(CHAIN, "broken")


# --- guards -----------------------------------------------------------------------------------------------------------


def miss(text: str, name: str) -> tuple[str, str]:
    model = model_of(text)
    before = ir.text(model)
    report = Pipeline.parse(f"rewrite{{rules={name}}}").run(model, [VerifyEach()])
    assert ir.text(model) == before
    (refused,) = report.missed
    return refused.condition, refused.because


@pytest.mark.parametrize(
    ("text", "condition", "because"),
    [
        (
            "g (float[N] x) => (float[N] y, float[N] e) { e = Exp(x) y = Log(e) }",
            "Exp is used once",
            "e is a graph output",
        ),
        (
            "g (float[N] x) => (float[N] y, float[N] z) { e = Exp(x) y = Log(e) z = Neg(e) }",
            "Exp is used once",
            "e is also an operand of z",
        ),
        (
            """g (float[N] x, bool c) => (float[N] y, float[N] z) { e = Exp(x) y = Log(e)
            z = If(c) <then_branch = t () => (p) { p = Neg(e) }, else_branch = f () => (q) { q = Abs(x) }> }""",
            "Exp is used once",
            "e is also an operand of p",
        ),
        (
            """g (float[N] x, bool c) => (float[N] y) { e = Exp(x)
            y = If(c) <then_branch = t () => (p) { p = Log(e) }, else_branch = f () => (q) { q = Abs(x) }> }""",
            "one scope",
            "e is computed in another graph",
        ),
        (
            """<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { e = Exp(x) y = Log(e) }
            <domain: "", opset_import: ["": 21]> Exp (v) => (r) { r = Neg(v) }""",
            "standard operators",
            "Exp is a function of the model",
        ),
    ],
)
def test_an_inner_value_that_is_not_private_is_refused_with_its_reason(text: str, condition: str, because: str) -> None:
    planted("exp-log", op.Log(op.Exp(x)), lambda m, op: op.Identity(m.x))
    assert miss(text, "exp-log") == (condition, because)


def test_side_outputs_that_are_read_are_refused() -> None:
    planted("pool", any_call("MaxPool"), lambda m, op: m.root.inputs[0])
    text = """g (float[1,1,4] x) => (float[1,1,4] y, int64[1,1,4] i) {
      y, i = MaxPool <kernel_shape = [1]> (x) }"""
    assert miss(text, "pool") == ("only the matched outputs have users", "another output of y has users")


def test_an_existing_value_must_be_proven_to_have_the_type_and_dims() -> None:
    planted("left", op.Add(x, y), lambda m, op: m.x.value)
    text = "g (float[N] x, float[M] y) => (float[K] z) { a = Add(x, y)  z = Neg(a) }"
    assert miss(text, "left")[0] == "a result of the same type and dims"


@pytest.mark.parametrize("made", ["Unsqueeze", "Cast"])
def test_a_new_value_must_not_contradict_what_is_known(made: str) -> None:
    def body(m: Match, op: Builder) -> ir.Value:
        return op.Unsqueeze(m.x, op.constant([0])) if made == "Unsqueeze" else op.Cast(m.x, to=11)

    planted("wrong", op.Neg(x), body)
    assert miss("g (float[N] x) => (float[N] y) { y = Neg(x) }", "wrong")[0] == "a result of the same type and dims"


def test_a_shared_call_stays_while_others_read_it() -> None:
    planted("exp-log", op.Log(op.Exp(x).shared()), lambda m, op: op.Abs(m.x))
    text = "g (float[N] x) => (float[N] y, float[N] z) { e = Exp(x) y = Log(e) z = Neg(e) }"
    assert sorted(operators(rewritten(text, "exp-log")[0])) == ["Abs", "Exp", "Neg"]


def test_the_refusal_that_came_furthest_is_told() -> None:
    """In the other order of the operands the first condition fails already."""
    first = require("first", lambda m: m.a.value.name == "x")
    second = require("second", lambda m: False)
    planted("sum", op.Add(a, b).any_order(), lambda m, op: m.a.value, requires=[first, second])
    text = "g (float[N] x, float[N] z) => (float[N] y) { y = Add(z, x) }"
    assert miss(text, "sum")[0] == "second"


def test_disabled_rules_excluded_places_and_the_limit() -> None:
    planted("neg-abs", op.Neg(x), lambda m, op: op.Abs(m.x))
    text = "g (float[N] x) => (float[N] y, float[N] z, float[N] w) { y = Neg(x)  z = Neg(y)  w = Neg(z) }"
    assert operators(rewritten(text, "neg-abs", exclusions=Exclusions(frozenset({"neg-abs"})))[0]) == [
        "Neg",
        "Neg",
        "Neg",
    ]
    assert operators(rewritten(text, "neg-abs", exclusions=Exclusions(places=frozenset({("neg-abs", "z")})))[0]) == [
        "Abs",
        "Neg",
        "Abs",
    ]
    assert operators(rewritten(text, "neg-abs", limit=2)[0]) == ["Abs", "Abs", "Neg"]
    model = model_of(text)
    Pipeline.parse("rewrite{rules=neg-abs,limit=1}").run(model)
    assert operators(model) == ["Abs", "Neg", "Neg"]


def test_every_limit_gives_a_prefix_of_the_same_rewrites() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <float c = {1}> {
      a = Identity(x)  b = Mul(a, c)  d = Neg(b)  e = Neg(d)
      f = Relu(e)  h = Relu(f)  s = Shape(h)  i = Reshape(h, s)  y = Exp(i) }"""
    whole = [str(each) for each in Pipeline.parse("exact").run(model_of(text)).rewrites]
    assert len(whole) > 5
    for limit in range(len(whole)):
        report = Pipeline.parse("exact").run(model_of(text), [VerifyEach()], limit=limit)
        assert [str(each) for each in report.rewrites] == whole[:limit]


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "pattern", "matches"),
    [
        ("LeakyRelu(x)", op.LeakyRelu(x), True),
        ("LeakyRelu <alpha = 0.01> (x)", op.LeakyRelu(x), True),
        ("LeakyRelu <alpha = 0.5> (x)", op.LeakyRelu(x), False),
        ("LeakyRelu <alpha = 0.5> (x)", op.LeakyRelu(x).any_attributes(), True),
        ("LeakyRelu <alpha = 0.5> (x)", op.LeakyRelu(x, alpha=0.5), True),
        ("Add(x, x)", op.Add(a, a), True),
        ("Add(x, z)", op.Add(a, a), False),
        ("Add(x, h)", op.Add(a, 0.5), True),
        ("Add(h, x)", op.Add(a, 0.5), False),
        ("Add(h, x)", op.Add(a, 0.5).any_order(), True),
        ("Add(x, t)", op.Add(a, 0.1), True),
        ("Add(x, t)", op.Add(a, 0.1000001), False),
        ("Add(x, t)", op.Add(a, approx(0.1000001, rtol=1e-4)), True),
        ("Add(x, nz)", op.Add(a, 0.0), False),
        ("Add(x, nz)", op.Add(a, -0.0), True),
        ("Add(x, inf)", op.Add(a, 1e300), False),
        ("Add(x, w)", op.Add(a, 1.0), False),
        ("Clip(x, h)", op.Clip(a, b), True),
        ("Clip(x, h)", op.Clip(a, b, c), False),
        ("Clip(x, h)", op.Clip(a, b, c.optional()), True),
        ("Clip(x, h)", op.Clip(a), False),
        ('Clip(x, "", h)', op.Clip(a, b.optional(), c), True),
        ("Max(x, z, h)", op.Max(a, variadic("r")), True),
        ("Max(x)", op.Max(a, variadic("r")), False),
        ("Relu(x)", op.Relu(a).opset(since=18), False),
        ("Relu(x)", op.Relu(a).opset(since=14, until=17), True),
        ("Relu(x)", op.Neg(a) | op.Relu(a), True),
    ],
)
def test_a_pattern_matches_what_it_says(call: str, pattern: object, matches: bool) -> None:
    planted("probe", pattern, lambda m, op: op.Sin(m[a] if m.has("a") else m[x]), exactness=Exactness.ROUNDING)
    text = f"""g (float[N] x, float[N] z, float w) => (float[N] y)
      <float h = {{0.5}}, float t = {{0.1}}, float nz = {{-0.0}}, float inf = {{inf}}, float w = {{1}}>
      {{ y = {call} }}"""
    assert bool(rewritten(text, "probe")[1].rewrites) is matches


def test_integer_literals_match_integers_alone() -> None:
    planted("probe", op.Add(a, 0.5), lambda m, op: m.a.value, exactness=Exactness.ROUNDING)
    planted("whole", op.Add(a, 3.0), lambda m, op: m.a.value)
    text = "g (int64[N] x) => (int64[N] y) <int64 z = {0}, int64 t = {3}> { b = Add(x, z)  c = Add(b, t)  y = Abs(c) }"
    assert [each.rule for each in rewritten(text, "probe", "whole")[1].rewrites] == ["whole"]


def test_a_node_that_refers_to_an_attribute_of_its_function_matches_nothing() -> None:
    planted("leak", op.LeakyRelu(x).any_attributes(), lambda m, op: op.Abs(m.x))
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[N] x) => (float[N] y) { y = f.leak(x) }
      <domain: "f", opset_import: ["": 21]> leak <k> (v) => (r) { r = LeakyRelu <alpha: float = @k> (v) }"""
    assert not rewritten(text, "leak")[1].rewrites


@pytest.mark.parametrize(
    ("pattern", "options", "fault"),
    [
        (op.Relu(op.Relu(x)), {}, "never fits"),
        (op.Relu(op.Neg(op.Relu(x)) | op.Abs(x)), {}, "never fits"),
        (op.Add(x, approx(1.0)), {}, "calls itself exact"),
        (x, {}, "no operator at the root"),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused(pattern: object, options: dict[str, object], fault: str) -> None:
    with pytest.raises(ir.PipelineError, match=fault):
        planted("wrong", pattern, lambda m, op: m.x.value, **options)


def test_a_rule_without_a_source_or_a_picture_is_refused() -> None:
    with pytest.raises(ir.PipelineError, match=r"before: and after:.*names no source"):

        @rule(op.Neg(x), source="")
        def silent(m: Match, op: Builder) -> ir.Value:
            """Says nothing."""
            return m.x.value


def test_a_constant_for_a_custom_operator_in_a_function_is_a_node_of_the_standard() -> None:
    pattern = op.domain("acme").Twice(x)
    planted("twice", pattern, lambda m, op: op.Twice(op.Mul(m.x, op.constant(2.0)), domain="acme"), benefit=1)
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1, "acme": 1]>
      g (double[N] x) => (double[N] y) { y = f.one(x) }
      <domain: "f", opset_import: ["": 21, "acme": 1]> one (v) => (r) { r = acme.Twice(v) }"""
    model = model_of(text)
    Pipeline.parse("rewrite{rules=twice,limit=1}").run(model, [VerifyEach()])
    assert operators(model) == ["one", "Constant", "Mul", "Twice"]


# --- scale ------------------------------------------------------------------------------------------------------------


def test_the_users_of_one_value_are_not_visited_again_for_each_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: what is looked at per node stays the same however many read one value."""
    from optimize_graph.passes.rewriting import driver

    asked = itertools.count()
    original = driver._Driver.enqueue

    def counting(self: driver._Driver, node: ir.Node) -> None:
        next(asked)
        original(self, node)

    monkeypatch.setattr(driver._Driver, "enqueue", counting)
    users = 300
    lines = " ".join(f"a{i} = Identity(h)  b{i} = Neg(a{i})" for i in range(users))
    ends = ", ".join(f"b{i}" for i in range(users))
    text = f"g (float[N] x) => (float[N] y) {{ h = Exp(x)  {lines}  y = Sum({ends}) }}"
    rewritten(text, "eliminate-nop-identity")
    assert next(asked) < 16 * users
