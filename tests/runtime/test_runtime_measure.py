"""Measuring: structure and arithmetic, never a clock's verdict."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import pytest
from optimize_graph import ir
from optimize_graph.ir.extract import files_of
from optimize_graph.runtime import Peak, SessionOptions, bytes_of, peak_memory, race
from optimize_graph.runtime.measure import alternate, ratio

FLOAT = onnx.TensorProto.FLOAT


def saved(path: Path, elements: int, **options: object) -> Path:
    weight = onnx.numpy_helper.from_array(np.ones(elements, np.float32), "w")
    x, y = (oh.make_tensor_value_info(name, FLOAT, [1]) for name in "xy")
    nodes = [oh.make_node("ReduceSum", ["w"], ["s"], keepdims=0), oh.make_node("Add", ["x", "s"], ["y"])]
    model = oh.make_model(
        oh.make_graph(nodes, "g", [x], [y], [weight]), ir_version=10, opset_imports=[oh.make_opsetid("", 21)]
    )
    onnx.save(model, path, **options)
    return path


FEEDS = {"x": np.ones(1, np.float32)}


def test_a_race_against_itself_is_structurally_sound(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", 64)
    found = race(path, path, FEEDS, budget_s=0.1, loads=3)
    assert found.speed.pairs >= 3 and found.load.pairs == 3
    for each in (found.speed, found.load):
        assert 0 < each.low <= each.median <= each.high
        assert not (each.is_faster and each.is_slower)
    for latency in (found.before, found.after, found.load_before, found.load_after):
        assert 0 < latency.lower_ms <= latency.median_ms <= latency.upper_ms
    assert found.bytes_before == found.bytes_after == path.stat().st_size
    assert json.loads(json.dumps(found.to_json()))["speed"]["pairs"] == found.speed.pairs
    assert "95 %" in found.summary()


def test_the_interval_holds_the_median_of_equal_times_and_follows_the_seed() -> None:
    before = np.random.default_rng(0).uniform(0.9, 1.1, 101)
    equal = ratio(before, before)
    assert (equal.low, equal.median, equal.high) == (1, 1, 1)
    assert not equal.is_faster and not equal.is_slower
    after = before[::-1]
    assert ratio(before, after, seed=1) == ratio(before, after, seed=1)
    twice = ratio(2 * before, before)
    assert (twice.low, twice.high, twice.is_faster) == (2, 2, True)
    assert ratio(before, 2 * before).is_slower


def test_runs_come_in_pairs_whose_order_alternates() -> None:
    calls: list[str] = []
    first, second = alternate(lambda: calls.append("a"), lambda: calls.append("b"), 10.0, 4, warm_up=0)
    assert "".join(calls) == "abbaabba"
    assert len(first) == len(second) == 4


def test_three_pairs_are_run_whatever_the_budget() -> None:
    first, _ = alternate(lambda: None, lambda: None, 0.0, 100)
    assert len(first) == 3


def test_the_size_counts_external_data_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", 4096, save_as_external_data=True, location="m.data", size_threshold=0)
    assert files_of(path) == (path, tmp_path / "m.data")
    assert bytes_of(path) == path.stat().st_size + 4096 * 4


def test_a_big_weight_raises_the_peak_of_the_child(tmp_path: Path) -> None:
    small = peak_memory(saved(tmp_path / "small.onnx", 16), FEEDS)
    large = peak_memory(saved(tmp_path / "large.onnx", 16 << 20), FEEDS, SessionOptions(optimize=False))
    assert 0 < small.start <= small.load <= small.run
    assert large.load - small.load > 60 << 20  # the weight has 64 MiB
    assert json.loads(json.dumps(large.to_json()))["run"] == large.run


def test_a_child_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(ir.ModelError) as caught:
        peak_memory(path, {})
    assert caught.value.diagnostic.code == "memory-not-measured"
    assert "\n" not in str(caught.value)


def test_a_peak_reads_in_mebibytes() -> None:
    assert Peak(48 << 20, 86 << 20, 100 << 20).summary() == "100 MiB (86 MiB once loaded, 48 MiB empty)"
