"""Functions in place of their calls, and the calls that stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>\n'


def inlined(text: str, pipeline: str = "inline-functions") -> ir.Model:
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEAD + text)
    model = ir.from_proto(proto)
    Pipeline.parse(pipeline).run(model, [VerifyEach()])
    assert passes_the_checker(ir.to_proto(model)) or not passes_the_checker(proto)
    return model


def passes_the_checker(proto: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        return False
    return True


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]


def alphas(model: ir.Model) -> list[object]:
    return [ir.attribute(node, "alpha") for node in model.graph.all_nodes() if node.op_type == "LeakyRelu"]


def test_a_call_becomes_the_body() -> None:
    model = inlined("""g (float[N] x) => (float[N] y) { y = f.twice(x) }
      <domain: "f", opset_import: ["": 21]> twice (a) => (b) { c = Add(a, a)  b = Neg(c) }""")
    assert operators(model) == ["Add", "Neg"]
    assert model.graph.outputs[0].name == "y"


def test_attributes_come_from_the_call_then_the_default_then_the_operator() -> None:
    model = inlined("""g (float[N] x) => (float[N] y) {
        a = f.leak <slope = 0.25> (x)  b = f.leak(a)  c = f.other <slope = 0.75> (b)  y = f.other(c) }
      <domain: "f", opset_import: ["": 21]> leak <slope: float = 0.5> (v) => (r) {
        r = LeakyRelu <alpha: float = @slope> (v) }
      <domain: "f", opset_import: ["": 21]> other <slope> (v) => (r) { r = LeakyRelu <alpha: float = @slope> (v) }""")
    assert alphas(model) == pytest.approx([0.25, 0.5, 0.75, 0.01])


def test_references_reach_through_nested_calls_and_bodies() -> None:
    model = inlined("""g (float[N] x, bool p) => (float[N] y) { y = f.outer <slope = 0.25> (x, p) }
      <domain: "f", opset_import: ["": 21, "f": 1]> outer <slope> (v, q) => (r) {
        r = If(q) <then_branch = t () => (s) { s = f.leak <k: float = @slope> (v) },
                   else_branch = e () => (s2) { s2 = Neg(v) }> }
      <domain: "f", opset_import: ["": 21]> leak <k> (v) => (r) { r = LeakyRelu <alpha: float = @k> (v) }""")
    assert alphas(model) == [0.25]
    assert "outer" not in operators(model)


def test_optional_inputs_that_are_missing_are_left_out() -> None:
    model = inlined("""g (float[N] x) => (float[N] y) { y = f.clip(x) }
      <domain: "f", opset_import: ["": 21]> clip (v, low, high) => (r) { r = Clip(v, low, high) }""")
    (node,) = model.graph
    assert [value.name for value in node.inputs if value is not None] == ["x"]
    assert len(node.inputs) == 1


def test_a_missing_input_in_the_middle_keeps_its_place() -> None:
    model = inlined("""g (float[N] x, float h) => (float[N] y) { y = f.clip(x, "", h) }
      <domain: "f", opset_import: ["": 21]> clip (v, low, high) => (r) { r = Clip(v, low, high) }""")
    (node,) = model.graph
    assert [value.name if value is not None else None for value in node.inputs] == ["x", None, "h"]


def test_a_body_that_gives_back_its_input_keeps_the_names_of_the_interface() -> None:
    model = inlined("""g (float[N] x) => (float[N] y, float[N] z) { y, z = f.same(x) }
      <domain: "f", opset_import: ["": 21]> same (v) => (v, v2) { v2 = Identity(v) }""")
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_outputs_that_the_call_leaves_out() -> None:
    model = inlined(
        """g (float[N] x) => (float[N] y) { "", y = f.both(x) }
      <domain: "f", opset_import: ["": 21]> both (v) => (a, b) { a = Exp(v)  b = Neg(v) }""",
        "inline-functions,dce",
    )
    assert operators(model) == ["Neg"]


def test_a_function_that_calls_itself_stays_a_call() -> None:
    text = (
        HEAD
        + """g (float[N] x) => (float[N] y) { y = f.loop(x) }
      <domain: "f", opset_import: ["": 21, "f": 1]> loop (v) => (r) { a = f.back(v)  r = Neg(a) }
      <domain: "f", opset_import: ["": 21, "f": 1]> back (v) => (r) { r = f.loop(v) }"""
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert not Pipeline.parse("inline-functions").run(model, [VerifyEach()]).rewrites


def test_names_are_told_apart_at_every_depth() -> None:
    model = inlined("""g (float[N] a, bool p) => (float[N] y) { b = f.pick(a, p)  c = f.pick(b, p)  y = Add(b, c) }
      <domain: "f", opset_import: ["": 21]> pick (a, p) => (r) { b = Exp(a)
        r = If(p) <then_branch = t () => (c) { c = Neg(b) }, else_branch = e () => (d) { c = Abs(b)  d = Neg(c) }> }""")
    names = [value.name for node in model.graph.all_nodes() for value in node.outputs]
    assert len(names) == len(set(names))


def test_constants_of_a_body_keep_their_place() -> None:
    model = inlined("""g (float[N] x, bool p) => (float[N] y) {
        y = If(p) <then_branch = t () => (q) { q = f.plus(x) }, else_branch = e () => (s) { s = Neg(x) }> }
      <domain: "f", opset_import: ["": 21]> plus (v) => (r) { k = Constant <value_float = 2.0> ()  r = Add(v, k) }""")
    assert operators(model) == ["If", "Constant", "Add", "Neg"]


@pytest.mark.parametrize(("version", "stays"), [(20, False), (17, True)])
def test_an_operator_that_meant_something_else_keeps_its_function(version: int, stays: bool) -> None:
    """ReduceMax took its axes as an attribute below opset 18."""
    axes = "<axes = [0]>" if version < 18 else ""
    model = inlined(f"""g (float[3] x) => (float[a] y) {{ y = f.top(x) }}
      <domain: "f", opset_import: ["": {version}]> top (v) => (r) {{ r = ReduceMax {axes} (v) }}""")
    assert ("top" in operators(model)) is stays


def test_functions_of_two_opsets_in_a_model_that_imports_neither() -> None:
    model = inlined("""<ir_version: 10, opset_import: ["f": 1]>
      g (float[3] x) => (float[a] y) { b = f.new(x)  y = f.old(b) }
      <domain: "f", opset_import: ["": 17]> old (v) => (r) { r = ReduceMax <axes = [0]> (v) }
      <domain: "f", opset_import: ["": 18]> new (v) => (r) { r = ReduceMax(v) }""")
    assert operators(model) == ["new", "old"]


def test_a_domain_that_only_functions_import_comes_with_them() -> None:
    model = inlined("""<ir_version: 10, opset_import: ["f": 1]>
      g (float[3] x) => (float[a] y) { y = f.new(x) }
      <domain: "f", opset_import: ["": 18]> new (v) => (r) { r = ReduceMax(v) }""")
    assert operators(model) == ["ReduceMax"]
    assert model.opset_imports[""] == 18


def test_nothing_is_inlined_into_a_function_of_another_opset() -> None:
    model = inlined("""g (float[3] x) => (float[a] y) { y = f.old(x) }
      <domain: "f", opset_import: ["": 17, "f": 1]> old (v) => (r) { a = f.new(v)  r = ReduceMax <axes = [0]> (a) }
      <domain: "f", opset_import: ["": 21]> new (v) => (r) { r = ReduceMin(v) }""")
    assert operators(model) == ["old"]
    bodies = {name: [node.op_type for node in each.graph] for (_, name, _), each in model.functions.items()}
    assert bodies["old"] == ["new", "ReduceMax"]


@pytest.mark.parametrize("calls", [1, 200])
def test_functions_that_double_again_and_again_stay_calls(calls: int) -> None:
    """A small file that would become a very large graph, through one call or through many."""
    depth = 60 if calls == 1 else 17
    body = "".join(
        f'<domain: "f", opset_import: ["": 21, "f": 1]> d{i} (v) => (r) {{ a = f.d{i + 1}(v)  r = f.d{i + 1}(a) }}\n'
        for i in range(depth)
    )
    many = "  ".join(f"y{i} = f.d0(x)" for i in range(1, calls)) + "  y = f.d0(x)"
    model = inlined(f"""g (float[N] x) => (float[N] y) {{ {many} }}
      {body}<domain: "f", opset_import: ["": 21]> d{depth} (v) => (r) {{ r = Neg(v) }}""")
    assert operators(model).count("d0") == calls


def test_a_long_chain_of_functions_is_inlined() -> None:
    depth = 300
    body = "".join(
        f'<domain: "f", opset_import: ["": 21, "f": 1]> d{i} (v) => (r) {{ r = f.d{i + 1}(v) }}\n' for i in range(depth)
    )
    model = inlined(f"""g (float[N] x) => (float[N] y) {{ y = f.d0(x) }}
      {body}<domain: "f", opset_import: ["": 21]> d{depth} (v) => (r) {{ r = Neg(v) }}""")
    assert operators(model) == ["Neg"]


def test_the_function_of_the_standard_name_is_inlined_for_what_it_is() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
      g (float[N] x) => (float[N] y) { y = Relu(x) }
      <domain: "", opset_import: ["": 21]> Relu (v) => (r) { r = Neg(v) }"""
    assert operators(inlined(text, "inline-functions,dce")) == ["Neg"]


def test_the_same_numbers_come_out() -> None:
    import onnxruntime

    text = (
        HEAD
        + """g (float[3] x, bool p) => (float[3] y) { a = f.pick <k = 0.25> (x, p)  y = f.pick(a, p) }
      <domain: "f", opset_import: ["": 21]> pick <k: float = 0.5> (v, q) => (r) {
        r = If(q) <then_branch = t () => (s) { s = LeakyRelu <alpha: float = @k> (v) },
                   else_branch = e () => (u) { u = Neg(v) }> }"""
    )
    before = onnx.parser.parse_model(text)
    after = ir.to_bytes(inlined(text, "inline-functions,dce"))
    feeds = {"x": np.array([-1, 2, -3], np.float32), "p": np.array(True)}
    given = [
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for each in (before.SerializeToString(), after)
    ]
    assert given[0].tobytes() == given[1].tobytes()
