"""What verification holds: the arrays of one set of inputs and outputs, and no whole array in double precision."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import FeedSet, SessionOptions, check, feed_sets, feeds, open_session, usable_feeds
from optimize_graph.runtime.comparison import EXACT, Tolerance, compare, scale_of
from optimize_graph.runtime.tolerance import holds_whole_numbers, noise_floor, perturb, rms_change

SIZE = 3_000_000
TEXT = f"g (float[{SIZE}] x) => (float[{SIZE}] y) {{ s = Sigmoid(x) y = Mul(x, s) }}"


def proto(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak() -> int:
    """Bytes of arrays that were held at once since tracing started: NumPy tells `tracemalloc` of its own."""
    return tracemalloc.get_traced_memory()[1]


def test_comparing_large_arrays_takes_a_part_of_their_size(traced: None) -> None:
    want = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    got = want + np.float32(1e-7)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    assert not compare({"y": want}, {"y": got}, EXACT)
    assert compare({"y": want}, {"y": got}, Tolerance(atol=1e-5))
    assert noise_floor({"y": want}, [{"y": got}], [{"y": got}]).relative > 0
    assert not holds_whole_numbers(want)
    assert peak() - before < 2.5 * want.nbytes


@pytest.mark.parametrize("size", [1, 5, 64, 129])
def test_pieces_say_what_whole_arrays_say(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(size)
    want = random.standard_normal((size, 3)).astype(np.float32)
    want[random.random(want.shape) < 0.1] = np.nan
    got = want * np.float32(1.001)
    got[-1, -1] += 1
    found = []
    for piece in (1 << 18, 7):
        monkeypatch.setattr("optimize_graph.runtime.comparison.PIECE", piece)
        floor = noise_floor({"y": want}, [{"y": got}]).floors["y"]
        found.append(
            (
                scale_of(want),
                round(rms_change(want, got), 9),
                (floor.absolute, floor.scale, floor.share),
                compare({"y": want}, {"y": got}, EXACT),
                compare({"y": want}, {"y": got}, Tolerance(rtol=1e-2)),
                compare({"y": want}, {"y": want}, EXACT),
            )
        )
    assert found[0] == found[1]


def test_every_element_is_moved_by_one_ulp_whatever_its_layout() -> None:
    array = np.asfortranarray(np.random.default_rng(0).standard_normal((700, 500)).astype(np.float32))
    moved = perturb({"x": array}, 1)
    assert moved is not None
    other = np.asarray(moved["x"])
    assert np.all(
        (other == np.nextafter(array, np.float32(np.inf))) | (other == np.nextafter(array, -np.float32(np.inf)))
    )


def test_large_inputs_of_several_sets_are_made_when_they_are_asked_for() -> None:
    model = proto(TEXT)
    session = open_session(model.SerializeToString(), SessionOptions(optimize=False))
    for sets in (usable_feeds(session, ir.from_proto(model)), feed_sets(ir.from_proto(model))):
        assert len(sets) == 3
        assert all(callable(each.source) for each in sets)
        assert all(np.array_equal(np.asarray(each.feeds["x"]), np.asarray(each.feeds["x"])) for each in sets)
        assert not np.array_equal(np.asarray(sets[0].feeds["x"]), np.asarray(sets[1].feeds["x"]))


def test_verification_holds_one_set_of_inputs_and_outputs_at_a_time(traced: None) -> None:
    data = proto(TEXT).SerializeToString()
    sets = feed_sets(ir.from_proto(data))
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    reference = check.Reference(data)
    assert reference.verify(data, sets).ok
    one = 4 * SIZE  # bytes of the input, and of the output
    assert peak() - before < 7 * one  # input, moved input, and at most four outputs
    assert not reference.known and not reference.truths


def test_what_small_sets_give_is_kept_for_other_results() -> None:
    data = proto("g (float[N,8] x) => (float[N,8] y) { y = Tanh(x) }").SerializeToString()
    reference = check.Reference(data)
    sets = [FeedSet({"x": np.ones((2, 8), np.float32)}, "ones")]
    assert reference.verify(data, sets).ok
    assert [id(each) for each in reference.known] and feeds.KEPT > 128
    first = dict(reference.known)
    assert reference.verify(data, sets).ok
    assert list(reference.known.values()) == list(first.values())
