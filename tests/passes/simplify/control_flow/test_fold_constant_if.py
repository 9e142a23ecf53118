"""If with a known condition, and Constant nodes that become initializers."""

from __future__ import annotations

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach

BRANCHES = """<then_branch = t () => (p) <float[2] w = {1, 2}> { k = Neg(x)  p = Add(k, w) },
               else_branch = e () => (q) { k = Exp(x)  q = Neg(k) }>"""


def resolved(text: str, pipeline: str = "fold-constant-if") -> ir.Model:
    header = "" if text.lstrip().startswith("<") else '<ir_version: 8, opset_import: ["": 17]>\n'
    model = ir.from_proto(onnx.parser.parse_model(header + text))
    Pipeline.parse(pipeline).run(model, [VerifyEach()])
    onnx.checker.check_model(ir.to_proto(model))
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


@pytest.mark.parametrize(("condition", "wanted"), [("1", ["Neg", "Add"]), ("0", ["Exp", "Neg"])])
def test_the_branch_that_is_taken_takes_the_place(condition: str, wanted: list[str]) -> None:
    model = resolved(f"g (float[2] x) => (float[2] y) <bool c = {{{condition}}}> {{ y = If(c) {BRANCHES} }}")
    assert operators(model) == wanted
    assert model.graph.outputs[0].name == "y"
    assert ("w" in model.graph.initializers) is (condition == "1")


@pytest.mark.parametrize("inputs", ["float[2] x, bool c", "float[2] x, bool[1] c"])
def test_a_condition_that_the_caller_gives_is_not_known(inputs: str) -> None:
    default = "<bool[1] c = {1}>" if "[1]" in inputs else ""
    model = resolved(f"g ({inputs}) => (float[2] y) {default} {{ y = If(c) {BRANCHES} }}")
    assert "If" in operators(model)


def test_names_that_the_graph_has_already_are_told_apart() -> None:
    model = resolved(
        f"""g (float[2] x) => (float[2] y, float[2] z) <bool c = {{1}}> {{
      a = If(c) {BRANCHES}  b = If(c) {BRANCHES.replace("(p)", "(p2)").replace("p =", "p2 =")}
      y = Add(a, b)  z = If(c) {BRANCHES} }}""".replace("t ()", "t ()")
    )
    assert operators(model) == ["Neg", "Add", "Neg", "Add", "Add", "Neg", "Add"]


def test_a_result_that_is_an_outer_value_or_a_constant_of_the_branch() -> None:
    model = resolved(
        """g (float[2] x) => (float[2] y, float[2] z) <bool c = {1}> { a = Neg(x)
      y, z = If(c) <then_branch = t () => (a2, w) <float[2] w = {1, 2}> { a2 = Identity(a) },
                    else_branch = e () => (q, r) { q = Exp(x)  r = Neg(x) }> }""",
        "fold-constant-if,canonicalize",
    )
    assert operators(model) == ["Neg", "Identity"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_one_value_for_two_results() -> None:
    model = resolved(
        """g (float[2] x) => (float[2] y, float[2] z) <bool c = {1}> {
      y, z = If(c) <then_branch = t () => (p, p2) { p = Exp(x)  p2 = Identity(p) },
                    else_branch = e () => (q, r) { q = Exp(x)  r = Neg(x) }> }""",
        "fold-constant-if,canonicalize",
    )
    assert operators(model) == ["Exp", "Identity"]


def test_nested_ifs_are_resolved_round_by_round() -> None:
    text = """g (float[2] x) => (float[2] y) <bool c = {1}, bool d = {0}> {
      y = If(c) <then_branch = t () => (p) {
                   p = If(d) <then_branch = u () => (r) { r = Abs(x) }, else_branch = v () => (s) { s = Sin(x) }> },
                 else_branch = e () => (q) { q = Exp(x) }> }"""
    assert operators(resolved(text, "fixpoint(fold-constant-if)")) == ["Sin"]


def test_an_if_in_a_body_is_resolved_there() -> None:
    model = resolved("""g (float[2] x, bool d) => (float[2] y) <bool c = {1}> {
      y = If(d) <then_branch = t () => (p) {
                   p = If(c) <then_branch = u () => (r) <float[2] w = {1, 2}> { r = Add(x, w) },
                              else_branch = v () => (s) { s = Sin(x) }> },
                 else_branch = e () => (q) { q = Exp(x) }> }""")
    assert operators(model) == ["If", "Add", "Exp"]


def test_in_a_function_the_constants_of_a_branch_become_nodes() -> None:
    model = resolved("""<ir_version: 10, opset_import: ["": 21, "f": 1]>
      g (float[2] x) => (float[2] y) { y = f.one(x) }
      <domain: "f", opset_import: ["": 21]> one (v) => (r) {
        c = Constant <value = bool {1}> ()
        r = If(c) <then_branch = t () => (p) <float[2] w = {1, 2}> { p = Add(v, w) },
                   else_branch = e () => (q) { q = Exp(v) }> }""")
    (function,) = model.functions.values()
    assert [node.op_type for node in function.graph] == ["Constant", "Constant", "Add"]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value = float[2] {1, 2}", [1.0, 2.0]),
        ("value_int = 3", 3),
        ("value_ints = [3, 4]", [3, 4]),
        ("value_float = 0.5", 0.5),
        ("value_floats = [0.5, 1.5]", [0.5, 1.5]),
    ],
)
def test_a_constant_becomes_an_initializer_of_its_name(attribute: str, expected: object) -> None:
    text = f"g (float[2] x) => (float[2] y) {{ c = Constant <{attribute}> ()  d = Cast <to = 1> (c)  y = Add(x, d) }}"
    model = resolved(text, "lift-constants")
    content = ir.constant(model.graph.initializers["c"])
    assert content is not None
    assert content.tolist() == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Constant <value = float[2] {1, 2}> ()",
        'c = Constant <value_string = "a"> ()  y = Cast <to = 1> (c)',
    ],
)
def test_a_constant_that_is_an_output_or_a_string_stays_a_node(body: str) -> None:
    model = resolved(f"g (float[2] x) => (float[a] y) {{ {body} }}", "lift-constants")
    assert "Constant" in operators(model)


def test_constants_are_lifted_to_the_graph_that_has_them() -> None:
    model = resolved(
        """<ir_version: 10, opset_import: ["": 21, "f": 1]>
      g (float[2] x, bool c) => (float[2] y) { a = f.one(x)
        y = If(c) <then_branch = t () => (p) { k = Constant <value_float = 2.0> ()  p = Mul(a, k) },
                   else_branch = e () => (q) { q = Exp(a) }> }
      <domain: "f", opset_import: ["": 21]> one (v) => (r) { k = Constant <value_float = 2.0> ()  r = Mul(v, k) }""",
        "lift-constants",
    )
    (body,) = (graph for graph in ir.graphs(model) if graph.name == "t")
    assert list(body.initializers) == ["k"]
    (function,) = model.functions.values()
    assert [node.op_type for node in function.graph] == ["Constant", "Mul"]
