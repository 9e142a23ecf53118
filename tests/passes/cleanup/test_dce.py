"""Dead code: what goes, and what stays although it has no users."""

from __future__ import annotations

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach


def cleaned(text: str, opset: int = 17) -> ir.Model:
    header = "" if text.lstrip().startswith("<") else f'<ir_version: 8, opset_import: ["": {opset}, "acme": 1]>\n'
    model = ir.from_proto(onnx.parser.parse_model(header + text))
    Pipeline.parse("dce").run(model, [VerifyEach()])
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


def test_a_chain_without_users_goes() -> None:
    model = cleaned("g (float[N] x) => (float[N] y) <float w = {1}> { a = Exp(x)  b = Add(a, w)  y = Relu(x) }")
    assert operators(model) == ["Relu"]
    assert not model.graph.initializers


def test_inputs_and_overridable_initializers_stay_unread() -> None:
    model = cleaned("g (float[N] x, float[N] unused, float w) => (float[N] y) <float w = {1}> { y = Relu(x) }")
    assert [value.name for value in model.graph.inputs] == ["x", "unused", "w"]
    assert "w" in model.graph.initializers


def test_an_initializer_that_is_an_output_stays() -> None:
    model = cleaned("g (float[N] x) => (float[N] y, float w) <float w = {1}> { y = Relu(x) }")
    assert "w" in model.graph.initializers


def test_what_a_body_reads_stays() -> None:
    model = cleaned("""g (float[N] x, bool c) => (float[N] y) { a = Exp(x)  b = Neg(x)
      y = If(c) <then_branch = t () => (p) { p = Relu(a) }, else_branch = e () => (q) { q = Abs(x) }> }""")
    assert "Exp" in operators(model)
    assert "Neg" not in operators(model)


def test_what_only_dead_nodes_of_a_body_read_goes_in_one_run() -> None:
    model = cleaned("""g (float[N] x, bool c) => (float[N] y) <float w = {1}> { a = Exp(x)
      y = If(c) <then_branch = t () => (p) { d = Add(a, w)  p = Relu(x) }, else_branch = e () => (q) { q = Abs(x) }>
      }""")
    assert sorted(operators(model)) == ["Abs", "If", "Relu"]
    assert not model.graph.initializers


def test_an_unread_if_goes_with_its_bodies_and_what_they_read() -> None:
    model = cleaned("""g (float[N] x, bool c) => (float[N] y) { a = Exp(x)  y = Relu(x)
      z = If(c) <then_branch = t () => (p) { p = Relu(a) }, else_branch = e () => (q) { q = Abs(a) }> }""")
    assert operators(model) == ["Relu"]


@pytest.mark.parametrize("call", ["acme.Log(x)", "acme.Relu(x)", "Unheard(x)"])
def test_an_unknown_operator_stays(call: str) -> None:
    text = f"g (float[N] x) => (float[N] y) {{ a = {call}  y = Relu(x) }}"
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "acme": 1]> {text}'))
    Pipeline.parse("dce").run(model)
    assert len(operators(model)) == 2


def test_a_body_with_an_unknown_operator_keeps_its_node() -> None:
    model = cleaned("""g (float[N] x, bool c) => (float[N] y) { y = Relu(x)
      z = If(c) <then_branch = t () => (p) { p = acme.Print(x) }, else_branch = e () => (q) { q = Abs(x) }> }""")
    assert "If" in operators(model)


def test_a_random_operator_may_go() -> None:
    model = cleaned("g (float[N] x) => (float[N] y) { a = RandomNormalLike(x)  y = Relu(x) }")
    assert operators(model) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("y, m = Dropout(x)", 1),
        ("y, m = MaxPool <kernel_shape = [2]> (x)", 1),
        ("y, h, c = LSTM <hidden_size = 2> (x, w, r)", 1),
        ("u, y, c = LSTM <hidden_size = 2> (x, w, r)", 2),
        ("y, z = Split <axis = 2> (x)", 2),
        ("y, i = TopK(x, k)", 2),
    ],
)
def test_optional_outputs_at_the_end_are_left_out(body: str, kept: int) -> None:
    text = f"g (float[4,2,4] x, float[1,8,4] w, float[1,8,2] r, int64[1] k) => (float[a,b,c] y) {{ {body} }}"
    (node,) = cleaned(text).graph
    assert len(node.outputs) == kept


@pytest.mark.parametrize(("opset", "attributes"), [(9, ""), (13, ""), (15, "<training_mode = 1>")])
def test_the_outputs_of_a_training_batchnormalization_say_that_it_trains(opset: int, attributes: str) -> None:
    extra = "m, v" if attributes else "m, v, sm, sv"
    text = f"""g (float[2,3] x, float[3] s) => (float[2,3] y) {{
      y, {extra} = BatchNormalization {attributes} (x, s, s, s, s) }}"""
    (node,) = cleaned(text, opset).graph
    assert len(node.outputs) > 1


FUNCTIONS = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (float[N] x) => (float[N] y) { y = f.one(x) }
<domain: "f", opset_import: ["": 21, "f": 1]> one (v) => (r) { d = Exp(v)  r = f.two(v) }
<domain: "f", opset_import: ["": 21]> two (v) => (r) { r = Neg(v) }
<domain: "f", opset_import: ["": 21, "f": 1]> three (v) => (r) { r = f.four(v) }
<domain: "f", opset_import: ["": 21]> four (v) => (r) { r = Neg(v) }"""


def test_functions_that_nothing_reaches_go_and_the_others_are_swept() -> None:
    model = cleaned(FUNCTIONS)
    assert [name for _, name, _ in model.functions] == ["one", "two"]
    assert "Exp" not in operators(model)


def test_an_unread_result_between_others_loses_its_name() -> None:
    """ONNX Runtime then does not make it: the whole sequence of an LSTM of which only the last state is wanted."""
    model = cleaned("""g (float[s,n,3] x, float[1,8,3] w, float[1,8,2] r) => (float[1,n,2] h, float[1,n,2] c) {
      all, h, c = LSTM <hidden_size = 2> (x, w, r) }""")
    assert [value.name for value in next(ir.nodes(model)).outputs] == ["", "h", "c"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert not Pipeline.parse("dce").run(model).rewrites


def test_a_required_result_keeps_its_name() -> None:
    model = cleaned("g (float[n] x, int64[1] k) => (int64[m] i) { v, i = TopK(x, k) }")
    assert [value.name for value in next(ir.nodes(model)).outputs] == ["v", "i"]


def test_imports_of_which_nothing_is_called_go() -> None:
    model = cleaned("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    assert dict(model.opset_imports) == {"": 17}
    model = cleaned(
        "g (float[N] x, bool c) => (float[N] y) { y = If(c) <then_branch = t () => (p) { p = acme.F(x) }, "
        "else_branch = e () => (q) { q = Abs(x) }> }"
    )
    assert dict(model.opset_imports) == {"": 17, "acme": 1}


def test_attention_with_a_cache_keeps_giving_it_back() -> None:
    """ONNX Runtime refuses to run it otherwise."""
    model = cleaned(
        "g (float[1,2,3,4] q, float[1,2,5,4] past) => (float[1,2,3,4] y) { "
        "y, k, v = Attention(q, q, q, , past, past) }",
        opset=23,
    )
    assert [value.name for value in next(ir.nodes(model)).outputs] == ["y", "k", "v"]
