"""States of a loop that are redundant, and conditions that the trip count implies, go; what decides something stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

WALK = "x = Gather(xs, k)  h2 = Add(h, x)"
NEXT = "k2 = Add(k, one)"
IMPLIED = f"{NEXT}  kf = Cast<to = 1>(k2)  d = Less(kf, nf)"
HANDED = f"{NEXT}  d = Identity(go)"
AHEAD = "n32 = Cast<to = 6>(n)  nf = Cast<to = 1>(n32)  any = Less(zerof, nf)"
CONSTANTS = """int32 zero = {0}, int32 one = {1}, int32 two = {2}, int32 three = {3}, float zerof = {0.0},
  int64 zerol = {0}, int64 onel = {1}, int64 twol = {2}, int64 threel = {3}, float half = {0.5}, bool yes = {1},
  float[2] ones = {1, 1}, float[2] alike = {1, 1}"""


def simplified(
    body: str,
    *,
    states: str = "int32 k",
    starts: str = "zero",
    ends: str = "int32 k2",
    condition: str = "any",
    results: str = "",
    count: str = "n",
    outputs: str = "float[2] hn, float[t,2] rows",
    ahead: str = AHEAD,
) -> tuple[ir.Node, list[str]]:
    """The Loop and the operators of its body, after both models have given the same bit for bit."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g (float[9,2] xs, float[2] h0, int64 n, float[2] other, float stop) => ({outputs})
      <{CONSTANTS}> {{ {ahead}
        hn{results or "".join(f", r{index}" for index, _ in enumerate(filter(None, states.split(","))))}, rows =
          Loop({count}, {condition}, h0{", " * bool(starts)}{starts}) <body = body
          (int64 i, bool go, float[2] h{", " * bool(states)}{states}) =>
          (bool d, float[2] h2{", " * bool(ends)}{ends}, float[2] row) {{ {body}  row = Identity(h2) }}> }}"""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("fixpoint(simplify-loop-states,cse,dce)").run(model, [VerifyEach()])
    assert not Pipeline.parse("simplify-loop-states").run(model, [VerifyEach()]).rewrites
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(proto.SerializeToString(), options)
    found = open_session(ir.to_proto(model).SerializeToString(), options)
    random = np.random.default_rng(0)
    for count_fed in (4, 1, 0, -1):
        feeds = {"xs": random.normal(size=(9, 2)), "h0": random.normal(size=2), "other": random.normal(size=2)}
        every: dict[str, np.ndarray] = {name: value.astype(np.float32) for name, value in feeds.items()}
        every |= {"n": np.array(count_fed), "stop": np.array(2.5, dtype=np.float32)}
        given = found.run(every)
        for name, value in wanted.run(every).items():
            if name == "rows" and not np.asarray(value).size:  # ONNX Runtime knows no dims of what did not run
                assert not np.asarray(given[name]).size
            else:
                assert np.asarray(value).tobytes() == np.asarray(given[name]).tobytes(), (name, count_fed)
    (loop,) = (node for node in model.graph if node.op_type == "Loop")
    return loop, [node.op_type for node in loop.attributes["body"].as_graph()]


def test_a_counter_and_the_conditions_that_compare_it_go() -> None:
    loop, body = simplified(f"{WALK}  {IMPLIED}")
    assert body == ["Gather", "Add", "Identity", "Identity"]
    assert len(loop.outputs) == 2
    assert ir.scalar(loop.inputs[1]) is None and loop.inputs[1] is None


@pytest.mark.parametrize(
    ("start", "step", "operators"),
    [
        ("zerol", "onel", []),
        ("zerol", "twol", ["Mul"]),
        ("twol", "onel", ["Add"]),
    ],
)
def test_an_induction_variable_is_made_of_the_counter(start: str, step: str, operators: list[str]) -> None:
    loop, body = simplified(
        f"{WALK}  k2 = Add(k, {step})  d = Identity(go)", states="int64 k", starts=start, ends="int64 k2", condition=""
    )
    assert sorted(body) == sorted([*operators, "Gather", "Add", "Identity", "Identity"])
    assert len(loop.outputs) == 2


def test_an_induction_variable_may_count_down() -> None:
    step = "j = Mul(k, k)  x = Gather(xs, j)  h2 = Add(h, x)  k2 = Sub(k, onel)  d = Identity(go)"
    loop, body = simplified(step, states="int64 k", starts="zerol", ends="int64 k2", condition="", count="threel")
    assert "Sub" not in body and len(loop.outputs) == 2


@pytest.mark.parametrize(
    "step",
    [
        "k2 = Mul(k, one)",  # no sum
        "k2 = Add(k, k)",
        "k2 = Sub(one, k)",
    ],
)
def test_what_is_no_induction_variable_stays(step: str) -> None:
    loop, _ = simplified(f"{WALK}  {step}  d = Identity(go)", condition="")
    assert len(loop.outputs) == 3


def test_an_induction_variable_that_takes_two_operators_stays() -> None:
    step = f"{WALK}  k2 = Add(k, two)  d = Identity(go)"
    assert len(simplified(step, condition="")[0].outputs) == 3


def test_an_induction_variable_whose_last_value_is_read_stays() -> None:
    outputs = "float[2] hn, float[t,2] rows, int32 r0"
    loop, body = simplified(f"{WALK}  {IMPLIED}", outputs=outputs)
    assert len(loop.outputs) == 3 and "Less" not in body


@pytest.mark.parametrize(
    "condition",
    [
        "kf = Cast<to = 1>(k2)  d = LessOrEqual(kf, nf)",
        "kf = Cast<to = 1>(k2)  d = Greater(nf, kf)",
        "kf = Cast<to = 1>(k2)  a = Less(kf, nf)  jf = Cast<to = 1>(i)  b = Less(jf, nf)  d = And(a, b)",
        "d = Less(k, n32)",
        "k3 = Sub(n32, one)  d = LessOrEqual(k2, k3)",
        "a = Less(k2, n32)  d = And(a, go)",
    ],
)
def test_a_condition_that_the_trip_count_implies_goes(condition: str) -> None:
    _, body = simplified(f"{WALK}  {NEXT}  {condition}")
    assert not {"Less", "LessOrEqual", "Greater", "And"} & set(body)


@pytest.mark.parametrize(
    "condition",
    [
        "k3 = Add(k2, one)  d = Less(k3, n32)",  # one iteration early
        "d = Less(k2, three)",  # another limit
        "kf = Cast<to = 1>(k2)  d = Less(kf, stop)",
        "d = Less(n32, k2)",
        "kf = Cast<to = 1>(k2)  d = Greater(kf, nf)",
        "a = Less(k2, n32)  b = Less(k2, two)  d = Or(a, b)",
        "k3 = Sub(n32, one)  d = Less(k2, k3)",
    ],
)
def test_a_condition_that_ends_the_loop_early_stays(condition: str) -> None:
    _, body = simplified(f"{WALK}  {NEXT}  {condition}", condition="")
    assert {"Less", "Greater"} & set(body)


def test_of_a_conjunction_what_the_trip_count_does_not_imply_stays() -> None:
    step = f"{WALK}  {NEXT}  a = Less(k2, n32)  s = ReduceSum<keepdims = 0>(h2)  b = Less(s, stop)  d = And(a, b)"
    _, body = simplified(step)
    assert body.count("Less") == 1 and "And" not in body


def test_a_comparison_that_another_node_reads_stays() -> None:
    step = f"{WALK}  {NEXT}  d = Less(k2, n32)  df = Cast<to = 1>(d)  m2 = Add(m, df)"
    outputs = "float[2] hn, float[t,2] rows, float r1"
    _, body = simplified(
        step, states="int32 k, float m", starts="zero, half", ends="int32 k2, float m2", outputs=outputs
    )
    assert "Less" in body  # it is false in the last iteration


def test_a_condition_of_a_loop_that_is_known_to_be_long_stays() -> None:
    ahead = "big = Identity(far)  nf = Cast<to = 1>(far)"
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g (float[2] h0) => (float[2] hn) <int64 far = {{16777217}}, int32 zero = {{0}}, int32 one = {{1}}> {{ {ahead}
        hn, kn = Loop(far, , h0, zero) <body = body (int64 i, bool go, float[2] h, int32 k) =>
          (bool d, float[2] h2, int32 k2) {{ h2 = Sin(h)  {IMPLIED} }}> }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    Pipeline.parse("fixpoint(simplify-loop-states,dce)").run(model, [VerifyEach()])
    assert "Less" in [node.op_type for node in ir.nodes(model)]


PAIR = {"states": "float[2] g", "ends": "float[2] g2", "condition": ""}


@pytest.mark.parametrize(
    ("start", "step"),
    [
        ("h0", "h2 = Sin(h)  g2 = Sin(g)"),
        ("h0", "h2 = Add(h, other)  g2 = Add(other, g)"),
        ("h0", "s = Sin(g)  h2 = Mul(s, h)  t = Sin(h)  g2 = Mul(g, t)"),  # crosswise
        ("h0", "h2 = Sin(g)  g2 = Identity(h2)"),
    ],
)
def test_congruent_states_are_one(start: str, step: str) -> None:
    loop, _ = simplified(f"{step}  d = Identity(go)  q = Mul(g2, half)", starts=start, **PAIR)
    assert len(loop.outputs) == 2


@pytest.mark.parametrize(
    ("start", "step"),
    [
        ("other", "h2 = Sin(h)  w = Mul(h2, g)  g2 = Sin(g)"),
        ("h0", "h2 = Sin(h)  g2 = Cos(g)"),
        ("h0", "h2 = Add(h, other)  g2 = Add(g, half)"),
        ("h0", "h2 = Max(h, other)  g2 = Max(other, g)"),  # of 0.0 and -0.0 they take one by its place
    ],
)
def test_states_that_differ_at_some_time_stay(start: str, step: str) -> None:
    outputs = "float[2] hn, float[t,2] rows, float[2] r0"
    loop, _ = simplified(f"{step}  d = Identity(go)", starts=start, outputs=outputs, **PAIR)
    assert len(loop.outputs) == 3
    assert all(value.uses() for value in loop.attributes["body"].as_graph().inputs[2:])


@pytest.mark.parametrize(("filling", "count"), [("0.5", 2), ("0.25", 3)])
def test_starts_that_are_filled_with_one_number_are_equal(filling: str, count: int) -> None:
    """tf2onnx writes one as Expand, the other as ConstantOfShape."""
    ahead = f"s = Shape(other)  a = Expand(half, s)  b = ConstantOfShape<value = float[1] {{{filling}}}>(s)"
    step = "u = Mul(f, g)  h2 = Add(h, u)  f2 = Sin(f)  g2 = Sin(g)  d = Identity(go)"
    states, ends = "float[2] f, float[2] g", "float[2] f2, float[2] g2"
    loop, _ = simplified(step, states=states, starts="a, b", ends=ends, condition="", ahead=ahead)
    assert len(loop.outputs) == 1 + count


def test_states_that_only_feed_each_other_are_dead() -> None:
    step = f"{WALK.replace('k)', 'i)')}  f2 = Sin(g)  g2 = Cos(f)  d = Identity(go)"
    loop, body = simplified(
        step, states="float[2] f, float[2] g", starts="h0, other", ends="float[2] f2, float[2] g2", condition=""
    )
    assert len(loop.outputs) == 2 and "Sin" not in body


def test_a_state_that_a_subgraph_reads_is_live() -> None:
    step = """p = Greater(stop, half)  d = Identity(go)  f2 = Sin(f)
      h2 = If(p) <then_branch = a () => (float[2] u) { u = Mul(h, f) },
        else_branch = b () => (float[2] v) { v = Neg(h) }>"""
    loop, body = simplified(step, states="float[2] f", starts="other", ends="float[2] f2", condition="")
    assert len(loop.outputs) == 3 and "Sin" in body


def test_a_loop_of_one_dead_state_keeps_it() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
      g (float[2] h0, int64 n) => (float[2] y) <bool yes = {1}> { y = Neg(h0)
        hn = Loop(n, yes, h0) <body = body (int64 i, bool go, float[2] h) => (bool d, float[2] h2)
          { h2 = Sin(h)  d = Identity(go) }> }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    Pipeline.parse("simplify-loop-states").run(model, [VerifyEach()])
    assert [node.op_type for node in model.graph] == ["Neg", "Loop"]


def test_a_loop_without_states_keeps_two_inputs() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
      g (float[2] h0, int64 n) => (float[t,2] rows) <int64 zero = {0}, int64 one = {1}> {
        any = Less(zero, n)
        kn, rows = Loop(n, any, zero) <body = body (int64 i, bool go, int64 k) => (bool d, int64 k2, float[2] row)
          { k2 = Add(k, one)  d = Less(k2, n)  f = Cast<to = 1>(k)  row = Mul(h0, f) }> }"""
    proto = onnx.parser.parse_model(text)
    model = ir.from_proto(proto)
    Pipeline.parse("fixpoint(simplify-loop-states,dce)").run(model, [VerifyEach()])
    (loop,) = (node for node in model.graph if node.op_type == "Loop")
    assert len(loop.inputs) == 2 and len(loop.outputs) == 1
    feeds = {"h0": np.ones(2, dtype=np.float32), "n": np.array(3)}
    for each in (proto, ir.to_proto(model)):
        np.testing.assert_array_equal(
            open_session(each.SerializeToString()).run(feeds)["rows"], [[0, 0], [1, 1], [2, 2]]
        )


def test_congruent_states_of_a_scan_are_one() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
      g (float[9,2] xs, float[2] h0) => (float[2] hn, float[2] gn) {
        hn, gn, rows = Scan(h0, h0, xs) <num_scan_inputs = 1, body = body (float[2] h, float[2] g, float[2] x) =>
          (float[2] h2, float[2] g2, float[2] row) { h2 = Add(h, x)  g2 = Add(x, g)  row = Mul(h2, g2) }> }"""
    proto = onnx.parser.parse_model(text)
    model = ir.from_proto(proto)
    Pipeline.parse("fixpoint(simplify-loop-states,cse,dce)").run(model, [VerifyEach()])
    (scan,) = (node for node in model.graph if node.op_type == "Scan")
    assert [node.op_type for node in scan.attributes["body"].as_graph()].count("Add") == 1
    feeds = {"xs": np.ones((9, 2), dtype=np.float32), "h0": np.zeros(2, dtype=np.float32)}
    for each in (proto, ir.to_proto(model)):
        found = open_session(each.SerializeToString()).run(feeds)
        assert np.array_equal(found["hn"], [9, 9]) and np.array_equal(found["gn"], [9, 9])
