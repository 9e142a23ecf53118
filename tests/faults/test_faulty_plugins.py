"""Plugins with a planted fault of each kind: the rule or pass is named and excluded, everything else is delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, Result, ir, optimize
from optimize_graph.cli import main
from optimize_graph.passes import REGISTRY, Builder, Match, Pass, PassContext, Pipeline, op, register, rule, values
from optimize_graph.passes.pipeline.phase import Phase

(x,) = values("x")
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[4, 8] x, int64[4] n) => (float[4, 8] y, int64[4] k) {
    i = Identity(x)  a = Tanh(i)  m = MatMul(a, w)  b = Sigmoid(m)  y = Identity(b)  k = Abs(n) }"""


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = onnx.parser.parse_model(TEXT)
    weight = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    return path


def plant(body: Callable[[Match, Builder], Any], pattern: Any = None, **options: Any) -> None:
    body.__doc__ = "before: y = Tanh(x)\nafter: y = Other(x)"
    rule(op.Tanh(x) if pattern is None else pattern, source="a planted fault", name="planted", **options)(body)


def delivered(model: Path, **options: Any) -> Result:
    """The result: `planted` alone is excluded, and the rest is what is delivered when it does not exist."""
    result = optimize(model, model.with_name("out.onnx"), Options(**options))
    assert {each.rule for each in result.isolated} == {"planted"}
    assert any("planted" in each.message for each in result.remarks if each.code == "isolated")
    exclusions = optimize(model, options=Options(disable=("planted",)))
    assert ir.fingerprint(result.model) == ir.fingerprint(exclusions.model)
    onnx.checker.check_model(onnx.load(model.with_name("out.onnx")))
    return result


def unbuilt(m: Match, op: Builder) -> ir.Value:
    return ir.new_node("Tanh", [m.x.value], version=21).outputs[0]


def floating_value(m: Match, op: Builder) -> ir.Value:
    return op.Add(ir.Value(name="nothing"), m.x)


BUILT: dict[str, tuple[Callable[[Match, Builder], Any], str]] = {
    "an operator that does not exist": (lambda m, op: op.Sigmiod(m.x), "no operator Sigmiod; did you mean 'Sigmoid'"),
    "a domain that is not imported": (lambda m, op: op.Gelu(m.x, domain="com.microsoft"), "not imported"),
    "too few inputs": (lambda m, op: op.Add(m.x), "1 inputs, where 2 to 2 are allowed"),
    "too many inputs": (lambda m, op: op.Tanh(m.x, m.x), "2 inputs"),
    "a required input left out": (lambda m, op: op.Add(None, m.x), "required input 0 is left out"),
    "too many outputs": (lambda m, op: op.node("Tanh", [m.x], 2)[0], "2 outputs"),
    "a required attribute missing": (lambda m, op: op.Cast(m.x), "required attribute 'to' is missing"),
    "an attribute that does not exist": (lambda m, op: op.Softmax(m.x, axes=1), "no attribute 'axes'"),
    "an attribute of another type": (lambda m, op: op.Softmax(m.x, axis=1.5), "attribute 'axis' is FLOAT, not INT"),
    "an operand of a type without a definition": (lambda m, op: op.Not(m.x), "operand 0 is FLOAT"),
    "operands of two types": (lambda m, op: op.Mul(m.x, op.constant(np.int64(2))), "operand 1 is INT64"),
    "a result of another type": (lambda m, op: op.Cast(m.x, to=7), "FLOAT[4, 8] would become INT64[4, 8]"),
    "a constant of another type": (
        lambda m, op: op.constant(np.zeros((4, 8))),
        "FLOAT[4, 8] would become DOUBLE[4, 8]",
    ),
    "a node built without the builder": (unbuilt, "neither in the graph nor built"),
    "an operand that is nowhere": (floating_value, "'nothing', which is neither in the graph"),
    "the value that it replaces as operand": (lambda m, op: op.Neg(m.Tanh), "which it is to replace"),
    "a list": (lambda m, op: op.node("Tanh", [m.x]), "returned list, expected a value or None|returned tuple"),
    "an exception": (lambda m, op: 1 / 0, "ZeroDivisionError"),
    "an exit": (lambda m, op: exit(3), "SystemExit"),
}


@pytest.mark.parametrize("fault", BUILT)
def test_a_rule_that_builds_a_malformed_replacement_is_named_when_it_does(model: Path, fault: str) -> None:
    body, message = BUILT[fault]
    plant(body)
    result = delivered(model)
    (found,) = result.isolated
    assert any(part in found.why for part in message.split("|")), found.why
    assert found.where == "a" and found.raised


def test_a_malformed_replacement_is_a_fault_of_the_rule_for_every_target(model: Path) -> None:
    plant(lambda m, op: op.Not(m.x))
    assert "operand 0 is FLOAT" in optimize(model, options=Options(target="onnx")).isolated[0].why


def test_an_operator_of_a_later_opset_is_no_fault_but_a_missed_rewrite(model: Path) -> None:
    plant(lambda m, op: op.Swish(m.x))
    result = optimize(model, options=Options(target="onnx"))
    assert not result.isolated
    assert [each.because for each in result.missed if each.rule == "planted"] == ["opset 21 has no Swish"]


def attribute(m: Match, op: Builder) -> ir.Value:
    m.root.attributes["axis"] = ir.Attr("axis", ir.AttributeType.INT, 1)
    return op.Tanh(m.x)


def other_operator(m: Match, op: Builder) -> None:
    m.root.op_type = "Sigmoid"


def other_input(m: Match, op: Builder) -> None:
    user = m.root.outputs[0].consumers()[0]
    user.replace_input_with(0, m.x.value)


def constant_content(m: Match, op: Builder) -> None:
    weight = m.root.outputs[0].consumers()[0].inputs[1]
    assert weight is not None and weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * 2)


def array_content(m: Match, op: Builder) -> None:
    weight = m.root.outputs[0].consumers()[0].inputs[1]
    array = ir.constant(weight)
    assert array is not None
    array *= 2


def raw_content(m: Match, op: Builder) -> None:
    weight = m.root.outputs[0].consumers()[0].inputs[1]
    assert weight is not None and weight.const_value is not None
    weight.const_value.numpy()[...] = 0


def declared_dims(m: Match, op: Builder) -> None:
    m.root.outputs[0].shape = ir.Shape([1, 2, 3])


def own_insertion(m: Match, op: Builder) -> None:
    m.context.rewriter.insert(ir.new_node("Neg", [m.x.value], version=21), before=m.root)


def own_append(m: Match, op: Builder) -> None:
    assert m.root.graph is not None
    m.root.graph.append(ir.new_node("Neg", [m.x.value], version=21))


IN_PLACE = {
    each.__name__: each
    for each in (
        attribute, other_operator, other_input, constant_content, array_content, raw_content, declared_dims,
        own_insertion, own_append,
    )
}  # fmt: skip


@pytest.mark.parametrize("damage", IN_PLACE)
@pytest.mark.parametrize("verify", [True, False])
def test_a_rule_that_changes_the_graph_in_place_is_named(model: Path, damage: str, verify: bool) -> None:
    plant(IN_PLACE[damage])
    delivered(model, verify=verify)


def test_weights_in_memory_that_a_rule_writes_to_stay_as_they_are(model: Path) -> None:
    plant(raw_content)
    given = ir.load(model)
    weight = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    given.graph.initializers["w"].const_value = ir.tensor(weight)
    result = optimize(given)
    assert [each.rule for each in result.isolated] == ["planted"]
    assert weight.any() and weight.flags.writeable


def far_away(m: Match, op: Builder) -> ir.Value:
    (node,) = [each for each in ir.nodes(m.context.rewriter.model) if each.op_type == "Sigmoid"]
    node.op_type = "Neg"
    return op.Tanh(op.Identity(m.x))


def test_damage_far_away_is_traced_to_the_rewrite_that_did_it(model: Path) -> None:
    plant(far_away, requires=())
    result = optimize(model, options=Options(verify_timeout=60))
    assert {each.rule for each in result.isolated} == {"planted"}
    assert "Sigmoid" in {node.op_type for node in ir.nodes(result.model)}


def test_a_read_before_its_computation_is_traced_to_the_rule_and_not_to_what_ran_last(model: Path) -> None:
    def body(m: Match, op: Builder) -> ir.Value:
        (later,) = [each for each in ir.nodes(m.context.rewriter.model) if each.op_type == "Sigmoid"]
        return op.Add(m.x, later.outputs[0])

    plant(body)
    (found,) = delivered(model).isolated
    assert "malformed afterwards" in found.why


@pytest.mark.parametrize("passes", ["default", "exact"])
def test_rules_that_rewrite_without_end_are_stopped_and_the_plugin_is_named(model: Path, passes: str) -> None:
    plant(lambda m, op: op.Tanh(op.Identity(m.x)))
    (found,) = delivered(model).isolated
    assert "keeps firing" in found.why


def test_a_plugin_that_undoes_a_rule_of_the_package_is_the_one_to_go(model: Path) -> None:
    plant(lambda m, op: op.Identity(op.Abs(m.x)), op.Abs(x))
    (found,) = delivered(model).isolated
    assert "keeps firing" in found.why


def test_rules_that_alternate_between_passes_are_named_in_the_warning() -> None:
    plant(lambda m, op: op.Erf(m.x), op.Tanh(x), phase=Phase.SIMPLIFY)

    def back(m: Match, op: Builder) -> ir.Value:
        return op.Tanh(m.x)

    back.__doc__ = "before: a\nafter: b"
    rule(op.Erf(x), source="a planted fault", name="planted-back")(back)
    model = ir.from_proto(onnx.parser.parse_model(TEXT.replace("MatMul(a, w)", "Abs(a)")))
    report = Pipeline.parse("fixpoint(canonicalize,simplify)").run(model)
    (remark,) = report.remarks
    assert "(rewrites: planted-back, planted)" in remark.message


# --- passes -----------------------------------------------------------------------------------------------------------


def plant_pass(action: Callable[[ir.Model, PassContext], None]) -> None:
    @register
    @dataclass(frozen=True)
    class Planted(Pass):
        """before: after:"""

        name: ClassVar[str] = "planted"

        def run(self, model: ir.Model, context: PassContext) -> None:
            action(model, context)

    assert Planted.name in REGISTRY.passes


def the(model: ir.Model, op_type: str) -> ir.Node:
    return next(node for node in ir.nodes(model) if node.op_type == op_type)


def renames(model: ir.Model, context: PassContext) -> None:
    for node in ir.nodes(model):
        if node.op_type == "Sigmoid":
            node.op_type = "Neg"


def damages_unasked(model: ir.Model, context: PassContext) -> None:
    for node in [node for node in ir.nodes(model) if node.op_type == "Sigmoid"]:
        made = context.rewriter.insert(ir.new_node("Neg", node.inputs, version=21), before=node)
        context.rewriter.replace(node, made.outputs)


def writes_malformed(model: ir.Model, context: PassContext) -> None:
    node = the(model, "Tanh")
    if context.log.try_rewrite("planted", "a", "Tanh", "Add"):
        made = context.rewriter.insert(ir.new_node("Add", node.inputs, version=21), before=node)
        context.rewriter.replace(node, made.outputs)


def breaks_order(model: ir.Model, context: PassContext) -> None:
    node = the(model, "Tanh")
    model.graph.remove(node)
    model.graph.append(node)


def raises(model: ir.Model, context: PassContext) -> None:
    raise KeyError("no luck")


@pytest.mark.parametrize("action", [renames, damages_unasked, writes_malformed, breaks_order, raises])
@pytest.mark.parametrize("passes", ["planted,default", "default,planted"])
def test_a_faulty_pass_of_a_plugin_is_named_wherever_it_runs(
    model: Path, action: Callable[[ir.Model, PassContext], None], passes: str
) -> None:
    plant_pass(action)
    result = optimize(model, options=Options(passes=passes))
    assert [each.rule for each in result.isolated] == ["planted"]
    assert result.verification is not None and result.verification.ok
    exclusions = optimize(model)
    assert ir.fingerprint(result.model) == ir.fingerprint(exclusions.model)


def test_the_command_names_the_rule_and_succeeds(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(lambda m, op: op.Tahn(m.x))
    assert main([str(model), str(model.with_name("out.onnx")), "--json"]) == 0
    said = capsys.readouterr()
    assert "planted failed at a, and the rule is excluded" in said.err
    assert '"rule": "planted"' in said.out
