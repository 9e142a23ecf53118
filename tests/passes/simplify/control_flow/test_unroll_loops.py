"""Loops that run a few times are written out; others stay loops."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

BODY = """b (int64 i, bool c, float[n] v) => (bool d, float[n] w, float[n] u) {
  d = Identity(c)  f = Cast <to = 1> (i)  s = Add(v, f)  w = Mul(s, half)  u = Add(w, x) }"""


def unrolled(
    loop: str = "y, all = Loop(count, yes, x)",
    body: str = BODY,
    *,
    count: int = 3,
    opset: int = 17,
    outputs: str = "float[n] y, float[m,n] all",
    pipeline: str = "unroll-loops,dce",
    constants: str = "",
) -> list[str]:
    """The operators that are left, after both models have given the same."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[n] x, int64 t, bool o) => ({outputs})
      <int64 count = {{{count}}}, bool yes = {{1}}, float half = {{0.5}}{constants}> {{ {loop} <body = {body}> }}"""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse(pipeline).run(model, [VerifyEach()])
    feeds = {"x": np.array([1, -2, 0.25], np.float32), "t": np.array(2), "o": np.array(True)}
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(proto.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    for name, value in wanted.items():
        assert np.array_equal(np.asarray(value), np.asarray(given[name])), name
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_the_turns_follow_each_other_and_their_results_are_stacked(opset: int) -> None:
    operators = unrolled(opset=opset)
    assert "Loop" not in operators
    assert operators.count("Mul") == 3 and operators.count("Unsqueeze") == 3 and operators.count("Concat") == 1


def test_one_iteration_needs_no_concat() -> None:
    operators = unrolled(count=1)
    assert "Loop" not in operators and "Concat" not in operators


def test_no_iteration_leaves_the_initial_states() -> None:
    body = "b (int64 i, bool c, float[n] v) => (bool c, float[n] w) { w = Mul(v, half) }"
    operators = unrolled("y = Loop(count, yes, x)", body, count=0, outputs="float[n] y")
    assert operators == ["Identity"]


def test_a_condition_that_is_true_each_time_ends_nothing() -> None:
    body = "b (int64 i, bool c, float[n] v) => (bool yes2, float[n] w) <bool yes2 = {1}> { w = Mul(v, half) }"
    assert unrolled("y = Loop(count, , x)", body, outputs="float[n] y") == ["Mul"] * 3


@pytest.mark.parametrize(
    ("loop", "body", "count"),
    [
        ("y, all = Loop(t, yes, x)", BODY, 3),  # the caller says how often
        ("y, all = Loop(count, o, x)", BODY, 3),  # or whether at all
        (
            "y, all = Loop(count, yes, x)",
            BODY.replace("Identity(c)", "Less(i, one)").replace("{\n", "<int64 one = {1}> {\n"),
            3,
        ),
        ("y, all = Loop(count, yes, x)", BODY, 0),  # of what type is a scan of nothing?
        ("y, all = Loop(count, yes, x)", BODY, 17),  # too many turns
        (
            "y, all = Loop( , yes, x)",
            BODY.replace("Identity(c)", "Less(i, one)").replace("{\n", "<int64 one = {1}> {\n"),
            3,
        ),
    ],
)
def test_other_loops_stay(loop: str, body: str, count: int) -> None:
    assert unrolled(loop, body, count=count) == ["Loop"]


def test_a_body_that_would_fill_pages_stays() -> None:
    assert unrolled(pipeline="unroll-loops{most-nodes=8},dce") == ["Loop"]


def test_what_becomes_another_type_on_the_way_keeps_the_loop() -> None:
    """An optional that is empty at first is none after the first turn, and not all operators take both."""
    body = """b (int64 i, bool c, optional(seq(float[n])) v) => (bool d, seq(float[n]) w) {
      d = Identity(c)  h = OptionalHasElement(v)  e = SequenceEmpty()  w = SequenceInsert(e, x) }"""
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[n] x, optional(seq(float[n])) o) => (seq(float[n]) y)
      <int64 count = {{2}}, bool yes = {{1}}> {{ y = Loop(count, yes, o) <body = {body}> }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert not Pipeline.parse("unroll-loops").run(model, [VerifyEach()]).rewrites


@pytest.mark.parametrize(
    ("update", "loops"),
    [
        ("w = Unsqueeze(v, axis)  u = Identity(w)", 1),
        ("w = Unsqueeze(v, axis)  k = Size(w)  u = Cast <to = 1> (k)", 0),
    ],
)
def test_rows_that_may_change_their_rank_are_not_stacked(update: str, loops: int) -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[3] x) => (float y) <int64 count = {{2}}, bool yes = {{1}}, int64[1] axis = {{0}}> {{
          z, s = Loop(count, yes, x) <body = b (int64 i, bool c, v) => (bool d, w, u) {{ d = Identity(c)  {update} }}>
          a = ReduceSum <keepdims = 0> (z)  b = ReduceSum <keepdims = 0> (s)  y = Add(a, b) }}""")
    )
    Pipeline.parse("unroll-loops,dce").run(model, [VerifyEach()])
    assert [node.op_type for node in model.graph].count("Loop") == loops


def test_a_loop_whose_condition_is_false_gives_what_it_starts_with() -> None:
    body = BODY.replace(", float[n] u", "").replace("  u = Add(w, x)", "")
    for count in (0, 3):
        left = unrolled("y = Loop(count, no, x)", body, count=count, outputs="float[n] y", constants=", bool no = {0}")
        assert left == ["Identity"]
    assert "Loop" in unrolled("y = Loop(count, o, x)", body, outputs="float[n] y")
