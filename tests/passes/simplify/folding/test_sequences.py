"""Sequences and optionals of known elements are resolved; what is not known, or fails at run time, stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import OrtEvaluator, SessionOptions, make_feeds, open_session

HEADER = '<ir_version: 10, opset_import: ["": 21]>'
CONSTANTS = """<int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 last = {-1}, int64 five = {5},
    int64[2] parts = {2, 4}, int64[1] all = {6}>"""


def resolved(body: str, result: str, *, inputs: str = "float[n,6] x, float[n,6] z") -> tuple[onnx.ModelProto, ir.Model]:
    proto = onnx.parser.parse_model(f"{HEADER} g ({inputs}) => ({result}) {CONSTANTS} {{ {body} }}")
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("fixpoint(resolve-sequences,canonicalize,constant-fold,dce)").run(
        model, [VerifyEach()], evaluator=OrtEvaluator()
    )
    return proto, model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


HITS = [
    ("s = SequenceConstruct(x, z)  a = SequenceAt(s, one)  y = Sub(a, x)", "float[n,6] y", ["Sub"]),
    ("s = SequenceConstruct(x, z)  a = SequenceAt(s, last)  y = Sub(a, x)", "float[n,6] y", ["Sub"]),
    ("s = SequenceConstruct(x, z)  t = Identity(s)  a = SequenceAt(t, one)  y = Sub(a, x)", "float[n,6] y", ["Sub"]),
    ("s = SequenceConstruct(x, z, x)  y = SequenceLength(s)", "int64 y", ["Identity"]),
    (
        "s = SequenceConstruct(x)  t = SequenceInsert(s, z)  y = ConcatFromSequence <axis = 1> (t)",
        "float[n,m] y",
        ["Concat"],
    ),
    (
        "s = SequenceConstruct(x)  t = SequenceInsert(s, z, zero)  a = SequenceAt(t, zero)  y = Sub(a, x)",
        "float[n,6] y",
        ["Sub"],
    ),
    (
        "s = SequenceEmpty()  t = SequenceInsert(s, x)  w = SequenceInsert(t, z)  y = ConcatFromSequence <axis = 0>(w)",
        "float[m,6] y",
        ["Concat"],
    ),
    (
        "s = SequenceConstruct(x, z)  t = SequenceErase(s, zero)  a = SequenceAt(t, zero)  y = Sub(a, x)",
        "float[n,6] y",
        ["Sub"],
    ),
    ("s = SequenceConstruct(x, z)  t = SequenceErase(s)  y = SequenceLength(t)", "int64 y", ["Identity"]),
    (
        "s = SequenceConstruct(x, z)  y = ConcatFromSequence <axis = -1, new_axis = 1> (s)",
        "float[n,6,2] y",
        ["Unsqueeze", "Unsqueeze", "Concat"],
    ),
    (
        "s = SplitToSequence <axis = 1> (x, two)  a = SequenceAt(s, zero)  b = SequenceAt(s, two)  y = Sub(a, b)",
        "float[n,2] y",
        ["Split", "Sub"],
    ),
    (
        "s = SplitToSequence <axis = -1> (x, parts)  a = SequenceAt(s, one)  y = Neg(a)",
        "float[n,4] y",
        ["Split", "Neg"],
    ),
    (
        "s = SplitToSequence <axis = 1> (x, five)  a = SequenceAt(s, one)  y = Neg(a)",
        "float[n,1] y",
        ["Split", "Neg"],
    ),
    ("s = SplitToSequence <axis = 1> (x, all)  a = SequenceAt(s, zero)  y = Neg(a)", "float[n,6] y", ["Neg"]),
    (
        "s = SplitToSequence <axis = 1, keepdims = 0> (x)  a = SequenceAt(s, five)  y = Neg(a)",
        "float[n] y",
        ["Gather", "Neg"],
    ),
    ("s = SplitToSequence <axis = 1> (x, five)  y = SequenceLength(s)", "int64 y", ["Identity"]),
    ("o = Optional(x)  e = OptionalGetElement(o)  y = Neg(e)", "float[n,6] y", ["Neg"]),
    ("e = OptionalGetElement(x)  y = Neg(e)", "float[n,6] y", ["Neg"]),
    ("o = Optional(x)  y = OptionalHasElement(o)", "bool y", ["Identity"]),
    ("y = OptionalHasElement()", "bool y", ["Identity"]),
]


@pytest.mark.parametrize(("body", "result", "left"), HITS, ids=[hit[0] for hit in HITS])
def test_operators_on_a_sequence_of_known_elements_are_resolved(body: str, result: str, left: list[str]) -> None:
    proto, model = resolved(body, result)
    assert operators(model) == left
    options = SessionOptions(optimize=False)
    feeds = make_feeds(ir.from_proto(proto))
    want = open_session(proto.SerializeToString(), options).run(feeds)
    got = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    for name, array in want.items():
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(array))


MISSES = [
    ("a position that is computed", "s = SequenceConstruct(x, z)  y = SequenceAt(s, p)", "float[n,6] y"),
    ("a position outside", "s = SequenceConstruct(x, z)  y = SequenceAt(s, two)", "float[n,6] y"),
    (
        "an insertion outside",
        "s = SequenceConstruct(x)  t = SequenceInsert(s, z, five)  y = SequenceLength(t)",
        "int64 y",
    ),
    ("pieces of an axis of unknown size", "s = SplitToSequence <axis = 0> (x, two)  y = SequenceLength(s)", "int64 y"),
    ("pieces that do not add up", "s = SplitToSequence <axis = 1> (x, wrong)  y = SequenceLength(s)", "int64 y"),
    ("a sequence that comes in", "y = SequenceLength(q)", "int64 y"),
    (
        "pieces of a given size without their axis: the standard keeps it, ONNX Runtime does not",
        "s = SplitToSequence <axis = 1, keepdims = 0> (x, one)  y = SequenceAt(s, zero)",
        "float[n] y",
    ),
    (
        "elements of other ranks",
        "w = Flatten <axis = 0> (x)  f = ReduceMax <keepdims = 0> (w)  s = SequenceConstruct(x, f)"
        "  y = ConcatFromSequence <axis = 0> (s)",
        "float[m,6] y",
    ),
    ("nothing to concatenate", "s = SequenceEmpty()  y = ConcatFromSequence <axis = 0> (s)", "float[m,6] y"),
]


@pytest.mark.parametrize(("why", "body", "result"), MISSES, ids=[miss[0] for miss in MISSES])
def test_what_is_not_known_of_a_sequence_stays(why: str, body: str, result: str) -> None:
    inputs = "float[n,6] x, float[n,6] z, int64 p, seq(float[k]) q, int64[2] wrong"
    _, model = resolved(body, result, inputs=inputs)
    assert any("Sequence" in each for each in operators(model)), why


def test_a_sequence_that_the_caller_gets_keeps_its_elements() -> None:
    _, model = resolved(
        "s = SplitToSequence <axis = 1> (x, two)  a = SequenceAt(s, zero)  y = Neg(a)",
        "float[n,2] y, seq(float[n,2]) s",
    )
    assert operators(model) == ["Split", "SequenceConstruct", "Neg"]
    assert [value.name for value in model.graph.outputs] == ["y", "s"]


def test_a_body_takes_the_elements_of_a_sequence_above_it() -> None:
    _, model = resolved(
        """s = SequenceConstruct(x, z)
        y = If(c) <then_branch = t () => (float[n,6] p) { a = SequenceAt(s, one)  p = Neg(a) },
                   else_branch = e () => (float[n,6] q) { q = Abs(x) }>""",
        "float[n,6] y",
        inputs="float[n,6] x, float[n,6] z, bool c",
    )
    assert operators(model) == ["If", "Neg", "Abs"]
