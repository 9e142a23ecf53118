"""What no turn of a loop changes is computed in front of it, where a loop that does not run would not miss it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

LOOP = "y, all = Loop(t, , x)"
KEPT = "d = Identity(c)  u = Add(v, e)  w = Identity(u)"


def hoisted(
    inner: str, loop: str = LOOP, *, outputs: str = "float[n] y, float[m,n] all", more: str = "", turns: int = 2
) -> tuple[list[str], list[str]]:
    """The operators in front of the loop and those in its body, after both models have given the same."""
    body = f"b (int64 i, bool c, float[n] v) => (bool d, float[n] u, float[n] w) {{ {inner} {KEPT} }}"
    return checked(f"{loop} <body = {body}>", outputs, more, turns)


def checked(call: str, outputs: str, more: str, turns: int) -> tuple[list[str], list[str]]:
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g (float[n] x, float[n] z, float[3] q, int64[3] k, float[n,3] a, int64 t) => ({outputs})
      <float[3,3] r = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, int64[1] far = {{5}}, int64 one = {{1}}, int64 zero = {{0}},
       bool yes = {{1}}, int64[2] wide = {{1000, 3}}, int64[2] huge = {{10000, 3}}> {{ {more} {call} }}"""
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    report = Pipeline.parse("fixpoint(hoist-loop-invariants,dce)").run(model, [VerifyEach()])
    assert not Pipeline.parse("hoist-loop-invariants").run(model, [VerifyEach()]).rewrites, report.rewrites
    random = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {name: random.normal(size=3).astype(np.float32) for name in "xzq"}
    feeds |= {"a": random.normal(size=(3, 3)).astype(np.float32), "k": np.array([2, 0, 1]), "t": np.array(turns)}
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(proto.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    for name, value in wanted.items():
        assert np.asarray(value).tobytes() == np.asarray(given[name]).tobytes(), name
    bodies = [node.op_type for graph in list(ir.graphs(model))[1:] for node in graph]
    return [node.op_type for node in model.graph], bodies


def test_a_chain_moves_as_a_whole() -> None:
    outside, inside = hoisted("p = Exp(z)  e = Mul(p, z)")
    assert outside == ["Exp", "Mul", "Loop"]
    assert inside == ["Identity", "Add", "Identity"]


def test_values_that_an_iteration_changes_stay() -> None:
    assert hoisted("e = Exp(v)")[0] == ["Loop"]


def test_what_chance_makes_stays() -> None:
    body = "b (int64 i, bool c, float[n] v) => (bool d, float[n] v) { d = Identity(c)  e = RandomNormalLike(z) }"
    assert checked(f"y = Loop(t, , x) <body = {body}>", "float[n] y", "", 2)[0] == ["Loop"]


def test_views_move_for_others_alone() -> None:
    assert hoisted("s = Shape(z)  e = Reshape(z, s)")[0] == ["Loop"]
    assert hoisted("s = Identity(z)  e = Exp(s)")[0] == ["Identity", "Exp", "Loop"]


def test_what_the_body_gives_out_is_handed_on() -> None:
    body = """b (int64 i, bool c, float[n] v) => (bool d, float[n] w, float[n] e) {
      d = Identity(c)  e = Exp(z)  w = Mul(v, e) }"""
    outside, inside = checked(f"{LOOP} <body = {body}>", "float[n] y, float[m,n] all", "", 2)
    assert outside == ["Exp", "Loop"] and sorted(inside) == ["Identity", "Identity", "Mul"]


@pytest.mark.parametrize("turns", [0, 2])
def test_what_may_fail_moves_only_where_the_loop_runs(turns: int) -> None:
    """The fifth of three elements cannot be picked: a loop that does not run does not notice."""
    gather = "p = Gather(q, far)  e = Squeeze(p)"
    if turns == 0:
        assert hoisted(gather, turns=0)[0] == ["Loop"]
    fitting = gather.replace("far", "k").replace("Squeeze(p)", "Exp(p)")
    assert hoisted(fitting, turns=turns)[0] == ["Loop"]
    assert hoisted(fitting, LOOP.replace("t", "one"))[0] == ["Gather", "Exp", "Loop"]
    assert hoisted(fitting, LOOP.replace("t, ", "one, yes"))[0] == ["Gather", "Exp", "Loop"]


@pytest.mark.parametrize(
    "inner",
    [
        "e = Add(z, q)",  # n is 3 or 1, or else it fails
        "p = ReduceMax<axes = [1], keepdims = 0>(a)  e = Add(v, p)",
        "s = Mod(k, k)  p = Cast<to = 1>(s)  e = Add(v, p)",
        "p = Mod(z, z)  e = Add(v, p)",  # of floats, with the sign of integers: refused
        "p = MatMul(z, q)  e = Add(z, p)",
        "p = Gather(q, k)  e = Exp(p)",
    ],
)
def test_in_a_loop_that_may_not_run_only_what_cannot_fail_moves(inner: str) -> None:
    assert [each for each in hoisted(inner, turns=0)[0] if each not in ("MatMul", "Loop")] == []


def test_a_product_of_fitting_matrices_moves() -> None:
    assert hoisted("p = MatMul(a, r)  s = Gather(p, i)  e = Relu(s)")[0] == ["MatMul", "Loop"]


def test_what_is_much_larger_than_what_it_is_made_from_stays() -> None:
    loop = LOOP.replace("t", "one")
    assert hoisted("h = Expand(q, wide)  s = Exp(h)  e = Gather(s, i)", loop)[0] == ["Expand", "Exp", "Loop"]
    assert hoisted("h = Expand(q, huge)  s = Exp(h)  e = Gather(s, i)", loop)[0] == ["Loop"]


def test_a_state_that_no_iteration_changes_becomes_its_initial_value() -> None:
    body = """b (int64 i, bool c, float[n] s, float[n] v) => (bool d, float[n] s2, float[n] w) {
      d = Identity(c)  e = Exp(s)  s2 = Identity(s)  w = Mul(v, e) }"""
    call = f"f, y = Loop(t, , z, x) <body = {body}>  o = Neg(f)"
    outside, inside = checked(call, "float[n] y, float[n] o", "", 2)
    assert outside == ["Exp", "Loop", "Neg"]
    assert inside.count("Exp") == 0


def test_a_scan_is_a_loop() -> None:
    body = "b (float[n] v, float h) => (float[n] w, float h2) { e = Exp(z)  g = Mul(v, e)  w = Add(g, h)  h2 = Neg(h) }"
    call = f"y, all = Scan(x, q) <body = {body}, num_scan_inputs = 1>"
    assert checked(call, "float[n] y, float[3] all", "", 2)[0] == ["Exp", "Scan"]


def test_what_fits_in_an_inner_loop_leaves_both() -> None:
    inner = """b2 (int64 i2, bool c2, float[n] v2) => (bool d2, float[n] w2) {
      d2 = Identity(c2)  p = Exp(z)  w2 = Mul(v2, p) }"""
    outside, inside = hoisted(f"e = Loop(t, , v) <body = {inner}>")
    assert outside == ["Exp", "Loop"] and "Exp" not in inside
