"""Slices that tile an axis become one Split, as the opset writes it; others stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

CONSTANTS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] five = {5}, int64[1] back = {-3}, "
    "int64[1] last = {9223372036854775807}"
)


def optimized(text: str, opset: int = 21) -> tuple[onnx.ModelProto, ir.Model, Counter[str]]:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("slices-to-split,dce").run(model, [VerifyEach()])
    return proto, model, Counter(node.op_type for node in ir.nodes(model))


def assert_same(before: onnx.ModelProto, model: ir.Model) -> None:
    feeds = make_feeds(ir.from_proto(before), seed=0)
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(before.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    assert {name: np.asarray(value).tobytes() for name, value in wanted.items()} == {
        name: np.asarray(value).tobytes() for name, value in given.items()
    }


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("size", [4, 5])
def test_two_slices_that_take_all_are_a_split(opset: int, size: int) -> None:
    text = (
        f"g (float[n,{size}] x) => (float[n,2] a, float[n,{size - 2}] b) <{CONSTANTS}> "
        "{ a = Slice(x, zero, two, one)  b = Slice(x, two, last, one) }"
    )
    before, model, counts = optimized(text, opset)
    assert counts == {"Split": 1}
    assert_same(before, model)


def test_the_parts_come_in_the_order_of_the_axis() -> None:
    text = (
        f"g (float[8] x) => (float[3] c, float[3] b, float[2] a) <{CONSTANTS}> "
        "{ c = Slice(x, back, last, zero)  b = Slice(x, two, five)  a = Slice(x, zero, two) }"
    )
    before, model, counts = optimized(text)
    assert counts == {"Split": 1}
    assert_same(before, model)


def test_a_slice_of_nothing_beside_them_stays() -> None:
    text = (
        f"g (float[5] x) => (float[2] a, float[3] b, float[0] c) <{CONSTANTS}> "
        "{ a = Slice(x, zero, two)  b = Slice(x, two, last)  c = Slice(x, five, last) }"
    )
    _, _, counts = optimized(text)
    assert counts == {"Split": 1, "Slice": 1}


@pytest.mark.parametrize(
    ("shape", "slices"),
    [
        ("float[5]", "a = Slice(x, zero, two)  b = Slice(x, back, last)  c = Slice(x, one, two)"),  # overlap
        ("float[6]", "a = Slice(x, zero, two)  b = Slice(x, back, last)"),  # a gap
        ("float[n]", "a = Slice(x, zero, two)  b = Slice(x, two, last)"),  # an axis of unknown size
        ("float[4]", "a = Slice(x, zero, two, zero, two)  b = Slice(x, two, last)"),  # every other element
        ("float[5,5]", "a = Slice(x, zero, two, zero)  b = Slice(x, two, last, one)"),  # of two axes
    ],
)
def test_slices_that_do_not_tile_an_axis_stay(shape: str, slices: str) -> None:
    kept = slices.count("Slice")
    outputs = ", ".join(f"float[{'p,q' if ',' in shape else name + '1'}] {name}" for name in "abc"[:kept])
    overlap = kept == 3
    _, _, counts = optimized(f"g ({shape} x) => ({outputs}) <{CONSTANTS}> {{ {slices} }}")
    assert counts == ({"Split": 1, "Slice": 1} if overlap else {"Slice": kept})


def test_a_slice_in_a_subgraph_stays_with_its_graph() -> None:
    text = (
        f"g (float[4] x, bool c) => (float[2] a, float[2] y) <{CONSTANTS}> {{ a = Slice(x, zero, two) "
        "y = If(c) <then_branch = t () => (float[2] u) { u = Slice(x, two, last) }, "
        "else_branch = e () => (float[2] v) { v = Slice(x, zero, two) }> }"
    )
    _, _, counts = optimized(text)
    assert counts["Slice"] == 3


def test_splitting_again_does_nothing() -> None:
    slices = "a = Slice(x, zero, two)  b = Slice(x, two, last)"
    text = f"g (float[4] x) => (float[2] a, float[2] b) <{CONSTANTS}> {{ {slices} }}"
    _, model, _ = optimized(text)
    assert not Pipeline.parse("slices-to-split").run(model).log.rewrites
