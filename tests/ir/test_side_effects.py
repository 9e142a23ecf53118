"""Effects: what may be removed, merged, evaluated ahead of time. Unknown means none of these."""

from __future__ import annotations

import onnx.parser
import pytest
from optimize_graph import ir


def model(body: str, opset: int = 17, inits: str = "") -> ir.Model:
    head = f'<ir_version: 10, opset_import: ["": {opset}, "com.acme": 1, "f": 1]>'
    function = f'<domain: "f", opset_import: ["": {opset}]> one (v) => (r) {{ r = Neg (v) }}'
    text = f"{head} g (float[2] x, bool c, bool train) => (y) {inits} {{ y = {body} }} {function}"
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    ("body", "opset", "inits", "deterministic"),
    [
        ("Neg (x)", 17, "", True),
        ("RandomNormalLike (x)", 17, "", False),
        ("RandomNormalLike <seed = 1.0> (x)", 17, "", False),
        ("Bernoulli (x)", 17, "", False),
        ("Multinomial (x)", 17, "", False),
        ("Dropout (x)", 13, "", True),
        ("Dropout (x, r, t)", 13, "<float r = {0.5}, bool t = {0}>", True),
        ("Dropout (x, r, t)", 13, "<float r = {0.5}, bool t = {1}>", False),
        ("Dropout (x, , train)", 13, "", False),
        ("Dropout (x)", 10, "", True),
        ("Dropout (x)", 6, "", False),
        ("Dropout <is_test = 1> (x)", 6, "", True),
        ("NoSuchThing (x)", 17, "", False),
        ("com.acme.Thing (x)", 17, "", False),
        ("f.one (x)", 17, "", False),
    ],
)
def test_determinism(body: str, opset: int, inits: str, deterministic: bool) -> None:
    parsed = model(body, opset, inits)
    assert ir.is_deterministic(parsed.graph[0], parsed.functions) is deterministic


def test_a_body_is_as_random_and_unknown_as_what_is_in_it() -> None:
    text = "If (c) <then_branch = t () => (p) {{ p = {} (x) }}, else_branch = e () => (q) {{ q = Neg (x) }}>"
    plain, random, unknown = (model(text.format(op)).graph[0] for op in ("Abs", "RandomNormalLike", "com.acme.Thing"))
    assert ir.is_deterministic(plain) and ir.is_removable(plain)
    assert not ir.is_deterministic(random) and ir.is_removable(random)
    assert not ir.is_deterministic(unknown) and not ir.is_removable(unknown)


def test_random_nodes_may_go_and_unknown_ones_stay() -> None:
    assert ir.is_removable(model("RandomNormalLike (x)").graph[0])
    assert not ir.is_removable(model("com.acme.Thing (x)").graph[0])
    assert not ir.is_removable(model("NoSuchThing (x)").graph[0])


def test_an_operator_of_a_newer_opset_is_not_known() -> None:
    assert not ir.is_known(model("Gelu (x)", 17).graph[0])
    assert ir.is_known(model("Gelu (x)", 20).graph[0])


def test_a_function_of_the_model_hides_the_standard_operator() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float x) => (float y) { y = Neg (x) }
    <domain: "", opset_import: ["": 21]> Neg (v) => (r) { r = Abs (v) }"""
    parsed = ir.from_proto(onnx.parser.parse_model(text))
    assert ir.is_known(parsed.graph[0])
    assert not ir.is_known(parsed.graph[0], parsed.functions)
