"""Slices take the elements that ONNX Runtime takes: what is known of one, and two that are merged."""

from __future__ import annotations

import itertools
import random

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph.ir.shapes.indexing import slice_indices
from optimize_graph.passes.views.slice_ranges import Range
from optimize_graph.runtime import SessionOptions, open_session

EXTREMES = (-(2**63), -(2**31), 2**31 - 2, 2**31 - 1, 2**63 - 1)


class Slice:
    """One Slice of [0, 1, 2, …] in ONNX Runtime."""

    def __init__(self) -> None:
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 13]> g (int64[n] x, int64[1] start, int64[1] end, int64[1] step) =>'
            " (int64[m] y) <int64[1] axis = {0}> { y = Slice(x, start, end, axis, step) }"
        )
        self.session = open_session(proto.SerializeToString(), SessionOptions(optimize=False))

    def __call__(self, data: np.ndarray, start: int, end: int, step: int) -> np.ndarray:
        numbers = {"start": start, "end": end, "step": step}
        feeds = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
        return np.asarray(self.session.run({"x": data, **feeds})["y"])


@pytest.fixture(scope="module")
def run() -> Slice:
    return Slice()


def test_known_indices_are_those_that_onnx_runtime_takes(run: Slice) -> None:
    known = 0
    for size, step in itertools.product((0, 1, 3), (-3, -1, 1, 2)):
        places = (*range(-size - 2, size + 3), *EXTREMES)
        for start, end in itertools.product(places, places):
            indices = slice_indices(size, start, end, step)
            if indices is not None:
                known += 1
                assert run(np.arange(size), start, end, step).tolist() == list(indices), (size, start, end, step)
    assert known > 1000


def test_a_step_of_zero_and_what_runtimes_disagree_on_are_not_known() -> None:
    assert slice_indices(4, 0, 4, 0) is None
    assert slice_indices(4, 3, 2**63 - 1, -1) is None
    assert slice_indices(0, -1, -5, -1) is None


@pytest.mark.parametrize("is_known", [True, False])
def test_two_slices_take_what_their_one_range_takes(is_known: bool, run: Slice) -> None:
    choose, merged = random.Random(7), 0
    for _ in range(1500):
        size = choose.randrange(7)
        data = np.arange(size)
        inner, outer = (
            Range(*(choose.choice((choose.randint(-8, 8), choose.choice(EXTREMES))) for _ in range(2)), step)
            for step in choose.choices((-2, -1, 1, 2, 3), k=2)
        )
        one = inner.then(outer, size if is_known else None)
        if one is None:
            continue
        merged += 1
        first = run(data, inner.start, inner.stop, inner.step)
        both = run(first, outer.start, outer.stop, outer.step)
        assert run(data, one.start, one.stop, one.step).tolist() == both.tolist(), (size, inner, outer, one)
    assert merged > 50
