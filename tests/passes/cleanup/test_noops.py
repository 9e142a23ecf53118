"""Operators that do nothing: for each a hit and the near misses."""

from __future__ import annotations

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Exactness, Pipeline, VerifyEach
from optimize_graph.passes.pipeline.pipeline import PipelineResult
from support.noop_cases import HITS, model_of

# What stays, and why.
MISSES = [
    ("a sum with +0.0 turns -0.0 into 0.0", "Add(x, c)", "float c = {0}", "float[N,3]", 21),
    ("a difference with -0.0 does so too", "Sub(x, c)", "float c = {-0.0}", "float[N,3]", 21),
    ("one of the factors is not one", "Mul(x, c)", "float[3] c = {1, 1, 2}", "float[N,3]", 21),
    ("the factor is NaN", "Mul(x, c)", "float c = {nan}", "float[N,3]", 21),
    ("one minus x is not x", "Sub(c, x)", "float c = {0}", "float[N,3]", 21),
    ("one through x is not x", "Div(c, x)", "float c = {1}", "float[N,3]", 21),
    ("one to the power of x is one", "Pow(c, x)", "float c = {1}", "float[N,3]", 21),
    ("the rank is raised", "Mul(x, c)", "float[1,1,1] c = {1}", "float[1,N,3]", 21),
    ("a dim that may be 1 is stretched", "Mul(x, c)", "float[2,1] c = {1, 1}", "float[M,3]", 21),
    ("a known dim of 1 is stretched", "Mul(o, c)", "float[3] c = {1, 1, 1}", "float[N,3]", 21),
    ("an empty constant empties the result", "Mul(o, c)", "float[0] c = {}", "float[N,0]", 21),
    ("the rank of the rest is not known", "Mul(u, c)", "float[1,1] c = {1}", "float[]", 21),
    ("Dropout that trains", "Dropout(x, k, t)", "float k = {0.5}, bool t = {1}", "float[N,3]", 21),
    ("Dropout that may train", "Dropout(x, k, b)", "float k = {0.5}", "float[N,3]", 21),
    ("a Clip of opset 6 always has bounds", "Clip(x)", "", "float[N,3]", 9),
    ("Clip with a bound", "Clip(x, c)", "float c = {0}", "float[N,3]", 21),
    ("Concat of two", "Concat <axis = 0> (x, x)", "", "float[M,3]", 21),
    ("reducing all axes", "ReduceSum(x)", "", "float[1,1]", 21),
    ("an axis that has one element", "ReduceMax(o, a)", "int64[1] a = {0}", "float[1,1]", 21),
    ("another type", "Cast <to = 11> (x)", "", "double[N,3]", 21),
    ("another type there and back", "Cast <to = 1> (Cast <to = 7> (x))", "", "float[N,3]", 21),
    ("another shape", "Reshape(x, s)", "int64[2] s = {3, -1}", "float[3,M]", 21),
    ("a shape that the caller gives", "Reshape(x, g)", "", "float[K,L]", 21),
    ("a dim that Expand may stretch", "Expand(x, s)", "int64[2] s = {5, 3}", "float[M,3]", 21),
    ("Squeeze of no axes, which ONNX Runtime takes for all", "Squeeze(o, a)", "int64[0] a = {}", "float[1,1]", 21),
    ("Squeeze of no axes, where a dim may be 1", "Squeeze(x, a)", "int64[0] a = {}", "float[N,3]", 21),
    ("Expand to what the caller gives", "Expand(x, g)", "", "float[K,L]", 21),
    ("Tile that repeats", "Tile(x, s)", "int64[2] s = {1, 2}", "float[N,6]", 21),
    ("Slice that leaves out", "Slice(x, z, e)", "int64[2] z = {0, 1}, int64[2] e = {9, 3}", "float[M,2]", 21),
    ("Slice of a dim that may be longer", "Slice(x, z, e)", "int64[1] z = {0}, int64[1] e = {9}", "float[M,3]", 21),
    (
        "Slice backwards",
        "Slice(x, z, e, a, m)",
        "int64[1] z = {2}, int64[1] e = {-9}, int64[1] a = {1}, int64[1] m = {-1}",
        "float[N,3]",
        21,
    ),
    ("Transpose of a square", "Transpose <perm = [1, 0]> (s3)", "", "float[3,3]", 21),
    ("Transpose that turns around by default", "Transpose(s3)", "", "float[3,3]", 21),
    ("Pad with something", "Pad(x, k)", "int64[4] k = {0, 1, 0, -1}", "float[N,3]", 21),
    ("Resize that grows", 'Resize(x, "", s)', "float[2] s = {1, 2}", "float[N,6]", 21),
    (
        "Resize that moves",
        'Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn"> (x, "", s)',
        "float[2] s = {1, 1}",
        "float[N,3]",
        21,
    ),
    ("and with false", "And(p, c)", "bool c = {0}", "bool[N,3]", 21),
    ("or with true", "Or(p, c)", "bool c = {1}", "bool[N,3]", 21),
    ("different operators in a row", "Relu(Abs(x))", "", "float[N,3]", 21),
    ("one alone", "Neg(x)", "", "float[N,3]", 21),
    ("an initializer that the caller may override", "Mul(x, w)", "", "float[N,3]", 21),
]


KINDS = ("eliminate-nop-", "eliminate-repeated-", "eliminate-double-")


def run(call: str, constants: str, result: str, opset: int) -> tuple[ir.Model, PipelineResult]:
    parsed = ir.from_proto(model_of(call, constants, result, opset))
    rules = "|".join(name for name, each in REGISTRY.rules.items() if name.startswith(KINDS))
    return parsed, Pipeline.parse(f"rewrite{{rules={rules}}}").run(parsed, [VerifyEach()])


@pytest.mark.parametrize(("name", "call", "constants", "result", "opset"), HITS)
def test_an_operator_that_does_nothing_is_dropped(
    name: str, call: str, constants: str, result: str, opset: int
) -> None:
    model, report = run(call, constants, result, opset)
    assert name in report.log.by_rule(), report.missed
    assert len(list(ir.nodes(model))) <= 2


@pytest.mark.parametrize(("why", "call", "constants", "result", "opset"), MISSES)
def test_an_operator_that_does_something_is_kept(why: str, call: str, constants: str, result: str, opset: int) -> None:
    _, report = run(call, constants, result, opset)
    assert not report.rewrites, why


@pytest.mark.parametrize("bounds", ["", ", low", ", , high", ", low, high"])
def test_a_clip_without_bounds_goes_with_what_it_does_to_infinities(bounds: str) -> None:
    constants = "float low = {-inf}, float high = {inf}"
    model, report = run(f"Clip(x{bounds})", constants, "float[N,3]", 21)
    assert [(each.rule, each.exactness) for each in report.rewrites] == [
        ("eliminate-nop-clip", Exactness.SPECIAL_VALUES)
    ]
    assert "Clip" not in {node.op_type for node in ir.nodes(model)}


def test_every_no_op_has_a_hit() -> None:
    dropping = {name for name, each in REGISTRY.rules.items() if each.module.endswith("cleanup.noops")}
    assert {name for name in dropping if REGISTRY.rules[name].phase == "canonicalize"} == {hit[0] for hit in HITS}


def test_a_proof_that_fails_is_a_near_miss_and_a_constant_that_differs_is_none() -> None:
    _, report = run("Mul(x, c)", "float[1,1,1] c = {1}", "float[1,N,3]", 21)
    assert [each.rule for each in report.missed] == ["eliminate-nop-mul"]
    _, report = run("Mul(x, c)", "float c = {2}", "float[N,3]", 21)
    assert not report.missed


def test_dropout_whose_mask_has_a_user_is_kept() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[N] x) => (float[N] y, bool[N] m) { y, m = Dropout(x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert not Pipeline.parse("canonicalize").run(model, [VerifyEach()]).rewrites


@pytest.mark.parametrize(
    ("inputs", "outputs", "body"),
    [
        ("float[N] x", "float[N] y", "y = Identity(x)"),
        ("float[N] x", "float[N] a, float[N] y", "a = Relu(x)  y = Identity(a)"),
        ("float[N] x, float[2] w", "float[2] y", "y = Identity(w)"),
    ],
)
def test_identity_between_two_names_of_the_interface_is_kept(inputs: str, outputs: str, body: str) -> None:
    text = (
        f"""<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => ({outputs}) <float[2] w = {{1, 2}}> {{ {body} }}"""
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    before = ir.text(model)
    Pipeline.parse("canonicalize").run(model, [VerifyEach()])
    assert ir.text(model) == before


def test_what_does_nothing_between_input_and_output_becomes_an_identity_once() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Dropout(x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert len(Pipeline.parse("canonicalize").run(model, [VerifyEach()]).rewrites) == 1
    assert [node.op_type for node in ir.nodes(model)] == ["Identity"]
    assert not Pipeline.parse("canonicalize").run(model, [VerifyEach()]).rewrites


def test_an_identity_of_a_sequence_goes_too() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (seq(float[N]) x) => (float[N] y) <int64 i = {0}> {
      a = Identity(x)  y = SequenceAt(a, i) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    Pipeline.parse("canonicalize").run(model, [VerifyEach()])
    assert [node.op_type for node in ir.nodes(model)] == ["SequenceAt"]


def test_an_operator_of_another_domain_or_of_the_model_is_no_no_op() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "acme": 1]>
    g (float[N] x) => (float[N] y) { a = acme.Identity(x)  b = Relu(a)  y = Relu(b) }
    <domain: "", opset_import: ["": 21]> Relu (v) => (r) { r = Neg(v) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert not Pipeline.parse("canonicalize").run(model, [VerifyEach()]).rewrites
