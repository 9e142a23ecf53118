"""Common subexpressions: what is the same, and what only looks so."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

HEADER = '<ir_version: 8, opset_import: ["": 17, "acme": 1, "com.microsoft": 1]>\n'


def merged(model: str | onnx.ModelProto) -> ir.Model:
    if isinstance(model, str):
        header = (
            ""
            if model.lstrip().startswith("<")
            else '<ir_version: 8, opset_import: ["": 17, "acme": 1, "com.microsoft": 1]>\n'
        )
        model = onnx.parser.parse_model(header + model)
    result = ir.from_proto(model)
    Pipeline.parse("cse,dce").run(result, [VerifyEach()])
    return result


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


@pytest.mark.parametrize(
    "body",
    [
        "a = Exp(x)  b = Exp(x)",
        "a = Add(x, z)  b = Add(z, x)",
        "a = Mul(x, z)  b = Mul(z, x)",
        "a = LeakyRelu <alpha = 0.5> (x)  b = LeakyRelu <alpha = 0.5> (x)",
        "e = Exp(x)  f = Exp(x)  a = Sub(e, z)  b = Sub(f, z)",
        'a = Clip(x, "", s)  b = Clip(x, "", s)',
        "a = Clip(x, s)  b = Clip(x, s, )",
        "a = Max(x, z)  b = Max(z, x)",
        "a = Min(x, z, s)  b = Min(s, x, z)",
        "a = Sum(x, z)  b = Sum(z, x)",
        "a = Softmax <axis = 0> (x)  b = Softmax(x)",
        "a = LeakyRelu(x)  b = LeakyRelu <alpha = 0.01> (x)",
        "a = ArgMax <axis = 0> (x)  b = ArgMax <keepdims = 1> (x)",
        "a = ReduceSum(x, first)  b = ReduceSum(x, last)",
        "a = ReduceMax <axes = [0]> (x)  b = ReduceMax <axes = [-1]> (x)",
        "a = Concat <axis = 0> (x, z)  b = Concat <axis = -1> (x, z)",
        "a = com.microsoft.Gelu(x)  b = com.microsoft.Gelu(x)",
    ],
)
def test_equal_nodes_become_one(body: str) -> None:
    constants = "<int64[1] first = {0}, int64[1] last = {-1}>"
    model = merged(f"g (float[N] x, float[N] z, float s) => (float[M] y) {constants} {{ {body}  y = Div(a, b) }}")
    assert len(operators(model)) == 1 + (2 if "e =" in body else 1)


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(x, z)  b = Sub(z, x)",
        "a = LeakyRelu <alpha = 0.5> (x)  b = LeakyRelu <alpha = 0.25> (x)",
        "a = LeakyRelu <alpha = 0.0> (x)  b = LeakyRelu <alpha = -0.0> (x)",
        'a = Clip(x, s, "")  b = Clip(x, "", s)',
        "a = RandomNormalLike(x)  b = RandomNormalLike(x)",
        "a = RandomUniformLike <seed = 1.0> (x)  b = RandomUniformLike <seed = 1.0> (x)",
        "a = Bernoulli(x)  b = Bernoulli(x)",
        "a = acme.Exp(x)  b = acme.Exp(x)",
        "a, m = Dropout(x, s, t)  b, n = Dropout(x, s, t)",
        "a = Sum(x, z, s)  b = Sum(s, z, x)",
        "a = com.microsoft.Unheard(x)  b = com.microsoft.Unheard(x)",
        "a = LeakyRelu(x)  b = LeakyRelu <alpha = 0.0> (x)",
    ],
)
def test_nodes_that_only_look_equal_stay(body: str) -> None:
    model = merged(f"g (float[N] x, float[N] z, float s, bool t) => (float[N] y) {{ {body}  y = Div(a, b) }}")
    assert len(operators(model)) == 3


def test_a_body_with_a_random_operator_and_any_other_body_stays() -> None:
    model = merged("""g (float[N] x, bool c) => (float[N] y) {
      a = If(c) <then_branch = t () => (p) { p = Bernoulli(x) }, else_branch = e () => (q) { q = Identity(x) }>
      b = If(c) <then_branch = t () => (p) { p = Bernoulli(x) }, else_branch = e () => (q) { q = Identity(x) }>
      y = Div(a, b) }""")
    assert operators(model).count("Bernoulli") == 2


def test_a_call_of_a_function_is_not_the_operator_of_that_name() -> None:
    model = merged("""<ir_version: 10, opset_import: ["": 21]>
      g (float[N] x) => (float[N] y) { a = Exp(x)  b = Exp(x)  y = Div(a, b) }
      <domain: "", opset_import: ["": 21]> Exp (v) => (r) { r = RandomNormalLike(v) }""")
    assert [node.op_type for node in model.graph] == ["Exp", "Exp", "Div"]


def test_a_body_uses_what_stands_above_it_and_not_the_other_way_round() -> None:
    model = merged("""g (float[N] x, bool c) => (float[N] y, float[N] z) { a = Exp(x)
      y = If(c) <then_branch = t () => (p) { d = Exp(x)  l = Log(x)  p = Add(d, l) },
                 else_branch = e () => (q) { l = Log(x)  q = Add(a, l) }>
      z = Log(x) }""")
    assert operators(model).count("Exp") == 1
    assert operators(model).count("Log") == 3


def test_outer_nodes_that_come_after_a_body_are_not_used_in_it() -> None:
    model = merged("""g (float[N] x, bool c) => (float[N] y, float[N] z) {
      y = If(c) <then_branch = t () => (p) { d = Exp(x)  p = Neg(d) }, else_branch = e () => (q) { q = Abs(x) }>
      a = Exp(x)  z = Neg(a) }""")
    assert operators(model).count("Exp") == 2


def test_two_outputs_of_equal_value_keep_both_names() -> None:
    model = merged("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Exp(x) }")
    assert operators(model) == ["Exp", "Identity"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert not Pipeline.parse("cse,dce,canonicalize").run(model).rewrites


def test_an_output_takes_its_value_from_the_earlier_node() -> None:
    model = merged("g (float[N] x) => (float[N] z) { a = Exp(x)  b = Neg(a)  c = Neg(b)  z = Exp(x) }")
    assert operators(model) == ["Exp"]
    assert model.graph.outputs[0].name == "z"


def test_a_left_out_output_is_no_replacement() -> None:
    model = merged("""g (float[1,1,4] x) => (float[a,b,c] y, float[a,b,c] z, int64[a,b,c] i) {
      y, "" = MaxPool <kernel_shape = [2]> (x)
      z, i = MaxPool <kernel_shape = [2]> (x) }""")
    assert operators(model) == ["MaxPool", "MaxPool"]


def nan(payload: int) -> float:
    return float(np.array([payload], np.uint32).view(np.float32)[0])


def test_attributes_compare_by_bits() -> None:
    info = helper.make_tensor_value_info
    for one, other, count in ((float("nan"), float("nan"), 1), (0.0, -0.0, 2)):
        nodes = [
            helper.make_node("LeakyRelu", ["x"], ["a"], alpha=one),
            helper.make_node("LeakyRelu", ["x"], ["b"], alpha=other),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [info("x", 1, ["N"])], [info("y", 1, ["N"])])
        model = merged(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
        assert operators(model).count("LeakyRelu") == count


@pytest.mark.parametrize("owner", ["input", "initializer"])
def test_a_body_may_hide_an_outer_value_by_its_name(owner: str) -> None:
    """Both are legal; what the body then reads of the outer graph must still be what it was."""
    loop = """y = Loop(n, k, x) <body = b (int64 i, bool go, float[2] a) => (bool on, float[2] r) {
        on = Identity(go)  d = Exp(x)  r = Add(a, d) }>"""
    branch = """y = If(k) <then_branch = t () => (p) <float[2] a = {5, 6}> { d = Exp(x)  p = Add(d, a) },
                           else_branch = e () => (q) { q = Abs(x) }>"""
    model = merged(f"""g (float[2] x, bool k) => (float[2] y, float[2] z) <int64 n = {{2}}> {{
      a = Exp(x)  {loop if owner == "input" else branch}  z = Neg(a) }}""")
    assert operators(model).count("Exp") == 1
    onnx.checker.check_model(ir.to_proto(model))


def test_tensors_that_are_added_into_stay_apart() -> None:
    """ONNX Runtime scatters into a tensor without other users, and copies one that is shared."""
    body = """a = ConstantOfShape(s)  b = ConstantOfShape(s)
      c = ScatterElements <reduction = "add"> (a, i, x)  d = ScatterElements <reduction = "add"> (b, i, z)
      y = Sub(c, d)"""
    model = merged(f"g (float[4] x, float[4] z, int64[4] i, int64[1] s) => (float[n] y) {{ {body} }}")
    assert operators(model).count("ConstantOfShape") == 2
    body = "a = ConstantOfShape(s)  b = ConstantOfShape(s)  c = Add(x, a)  y = Add(c, b)"
    model = merged(f"g (float[4] x, int64[1] s) => (float[4] y) {{ {body} }}")
    assert operators(model).count("ConstantOfShape") == 1


def test_two_elements_that_were_chosen_in_the_same_way_are_one() -> None:
    """Their elements are known as symbols, a fresh one for each node."""
    model = merged("""g (float[n] x, int64[2] s) => (int64[1] y) {
      a = ArgMax(x)  b = ArgMax(x)  c = Cast <to = 6> (a)  d = Cast <to = 6> (b)
      e = Sub(c, d)  y = Cast <to = 7> (e) }""")
    assert operators(model) == ["ArgMax", "Cast", "Sub", "Cast"]


@pytest.mark.parametrize(("order", "exactness"), [("z, x", "SPECIAL_VALUES"), ("x, z", "EXACT")])
def test_an_extremum_of_floats_in_another_order_may_differ_in_the_sign_of_zero(order: str, exactness: str) -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[n] x, float[n] z) => (float[n] y) {{ a = Max(x, z)  b = Max({order})  y = Div(a, b) }}""")
    )
    report = Pipeline.parse("cse").run(model, [VerifyEach()])
    assert [each.exactness.name for each in report.rewrites] == [exactness]


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("p = Neg(x)", "p = Neg(x)", 1),
        ("v = Neg(x)  p = Exp(v)", "w = Neg(x)  p = Exp(w)", 1),
        ("v = Neg(x)  u = Exp(x)  p = Sub(v, u)", "w = Neg(x)  z = Exp(x)  p = Sub(w, z)", 1),
        ("v = Neg(x)  u = Exp(x)  p = Sub(v, u)", "w = Neg(x)  z = Exp(x)  p = Sub(z, w)", 2),
        ("p = Neg(x)", "p = Abs(x)", 2),
        ("p = LeakyRelu(x)", "p = LeakyRelu <alpha = 0.5> (x)", 2),
        ("p = RandomNormalLike(x)", "p = RandomNormalLike(x)", 2),
    ],
)
def test_conditionals_with_equal_branches_are_one(one: str, other: str, count: int) -> None:
    model = merged(f"""g (float[n] x, bool c) => (float[n] y) {{
      a = If(c) <then_branch = t () => (float[n] p) {{ {one} }}, else_branch = e () => (float[n] q) {{ q = Abs(x) }}>
      b = If(c) <then_branch = t () => (float[n] p) {{ {other} }}, else_branch = e () => (float[n] q) {{ q = Abs(x) }}>
      y = Div(a, b) }}""")
    assert operators(model).count("If") == count


@pytest.mark.parametrize(("start", "count"), [("x", 1), ("z", 2)])
def test_loops_with_equal_bodies_and_starts_are_one(start: str, count: int) -> None:
    body = "<body = b (int64 i, bool g, float[n] v) => (bool h, float[n] w) { h = Identity(g)  w = Mul(v, z) }>"
    model = merged(f"""g (float[n] x, float[n] z, int64 m, bool k) => (float[n] y) {{
      a = Loop(m, k, x) {body}  b = Loop(m, k, {start}) {body}  y = Div(a, b) }}""")
    assert operators(model).count("Loop") == count


@pytest.mark.parametrize(("opset", "count"), [(13, 2), (14, 1)])
def test_two_sequences_that_the_caller_gets_need_an_identity_that_takes_them(opset: int, count: int) -> None:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]>
        g (float[4] x) => (seq(float[2]) s, seq(float[2]) t) <int64 two = {{2}}> {{
            s = SplitToSequence(x, two)  t = SplitToSequence(x, two) }}"""
    )
    model = ir.from_proto(proto)
    Pipeline.parse("cse").run(model, [VerifyEach()])
    assert sum(node.op_type == "SplitToSequence" for node in ir.nodes(model)) == count
    session = open_session(ir.to_proto(model).SerializeToString(), SessionOptions(optimize=False))
    assert set(session.run({"x": np.zeros(4, np.float32)})) == {"s", "t"}


def test_a_body_does_not_use_the_result_of_its_owner_that_is_known_to_be_the_same() -> None:
    model = merged(
        """g (float[n,4] x, bool c) => (int64[2] y) { s = Shape(x)
            y = If(c) <then_branch = t () => (int64[2] p) { a = Neg(s)  p = Add(a, a) },
                       else_branch = e () => (int64[2] q) { b = Neg(s)  q = Add(b, b) }> }"""
    )
    assert operators(model) == ["Shape", "If", "Neg", "Add", "Neg", "Add"]
