"""Measuring: structure and arithmetic, never a clock's verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import pytest
from optimize_graph import ir
from optimize_graph.ir.subgraph import files_of
from optimize_graph.runtime import Peak, SessionOptions, bytes_of, peak_memory, race, time_models
from optimize_graph.runtime.benchmark.latency import FEWEST_SESSIONS, MOST_SESSIONS, Numbers, alternate, ratio, turn
from optimize_graph.runtime.benchmark.peak_memory import command, device_used

pytestmark = pytest.mark.slow

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
    found = race(path, path, FEEDS, budget_s=0.1)
    assert found.speed.sessions == found.load.sessions >= FEWEST_SESSIONS
    assert found.load.pairs == found.load.sessions
    assert found.speed.pairs >= 2 * found.speed.sessions
    for each in (found.speed, found.load):
        assert 0 < each.low <= each.median <= each.high
        assert not (each.is_faster and each.is_slower)
    for latency in (found.before, found.after, found.load_before, found.load_after):
        assert 0 < latency.lower_ms <= latency.median_ms <= latency.upper_ms
    assert found.bytes_before == found.bytes_after == path.stat().st_size
    assert json.loads(json.dumps(found.to_json()))["speed"]["pairs"] == found.speed.pairs
    assert "95 %" in found.summary()


def test_several_models_are_compared_with_the_first(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{elements}.onnx", elements) for elements in (16, 64, 256)]
    found = time_models(paths, FEEDS, budget_s=0.0)
    assert [each.speed.sessions for each in found] == [FEWEST_SESSIONS] * 3
    assert (found[0].speed.low, found[0].speed.median, found[0].speed.high) == (1, 1, 1)


def test_rounds_go_on_until_the_interval_is_as_narrow_as_asked_or_the_sessions_are_used_up(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", 64)
    coarse = time_models([path, path], FEEDS, budget_s=10.0, precision=1e9)
    assert coarse[1].speed.sessions == 6
    never = time_models([path, path], FEEDS, SessionOptions(optimize=False), budget_s=0.0, precision=0.0)
    assert never[1].speed.sessions == FEWEST_SESSIONS < MOST_SESSIONS


def test_the_interval_holds_the_median_of_equal_times_and_follows_the_seed() -> None:
    before = np.random.default_rng(0).uniform(0.9, 1.1, 100)
    equal = ratio([pairs(before, before)])
    assert (equal.low, equal.median, equal.high) == (1, 1, 1)
    assert not equal.is_faster and not equal.is_slower
    noisy = [pairs(before, before[::-1]), pairs(before, np.roll(before, 1))]
    assert ratio(noisy, seed=1) == ratio(noisy, seed=1) != ratio(noisy, seed=2)
    twice = ratio([pairs(2 * before, before)] * 3)
    assert (twice.low, twice.high, twice.is_faster) == (pytest.approx(2), pytest.approx(2), True)
    assert ratio([pairs(before, 2 * before)] * 3).is_slower


def pairs(first: Numbers, second: Numbers) -> Numbers:
    return np.stack([first, second], axis=1)


def simulated(seed: int, sessions: int, rounds: int, truth: float) -> list[Numbers]:
    """Times as machines give them: sessions differ by a percent, the clock drifts, and at times something else runs.

    The second run of a round is 3 % faster: the cache is warm.
    """
    random = np.random.default_rng(seed)
    found = []
    for nth in range(sessions):
        speed = np.exp(random.normal(0, 0.01, 2)) * (truth, 1.0)
        drift = np.exp(np.cumsum(random.normal(0, 0.01, (rounds, 1)), axis=0))
        noise = np.exp(random.normal(0, 0.03, (rounds, 2))) * (1 + 0.5 * (random.random((rounds, 2)) < 0.05))
        second = np.array([turn(2, nth, row)[1] for row in range(rounds)])
        warm = np.where(second[:, None] == np.arange(2), 0.97, 1.0)
        found.append(speed * drift * noise * warm)
    return found


@pytest.mark.parametrize(("sessions", "rounds"), [(3, 2), (4, 8), (6, 40), (12, 60)])
def test_nine_of_ten_intervals_hold_the_truth_of_simulated_times(sessions: int, rounds: int) -> None:
    found = [ratio(simulated(seed, sessions, rounds, 1.0), seed=seed, resamples=300) for seed in range(200)]
    held = sum(each.low <= 1 <= each.high for each in found)
    assert held >= 180


def test_a_gain_of_a_twentieth_is_seen_in_simulated_times() -> None:
    found = [ratio(simulated(seed, 12, 60, 1.05), seed=seed, resamples=300) for seed in range(50)]
    assert sum(each.is_faster for each in found) >= 48
    assert sum(each.low <= 1.05 <= each.high for each in found) >= 45


def test_pairs_of_one_session_alone_would_promise_too_much() -> None:
    pooled = [[np.concatenate(simulated(seed, 3, 400, 1.0))] for seed in range(100)]
    assert sum(each.low <= 1 <= each.high for each in (ratio(times, resamples=300) for times in pooled)) < 80


def test_rounds_are_mirrored_and_each_model_begins_as_often() -> None:
    assert [turn(2, session, nth) for session in (0, 1) for nth in (0, 1)] == [[0, 1], [1, 0], [1, 0], [0, 1]]
    assert [turn(3, session, 0) for session in range(3)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert [turn(3, session, 1) for session in range(3)] == [[2, 1, 0], [0, 2, 1], [1, 0, 2]]


def test_runs_come_in_rounds_whose_order_is_mirrored() -> None:
    calls: list[str] = []
    times = alternate([lambda: calls.append("a"), lambda: calls.append("b")], 10.0, 4, warm_up=0)
    assert "".join(calls) == "abbaabba"
    assert times.shape == (4, 2)


def test_two_rounds_are_run_whatever_the_budget() -> None:
    assert alternate([lambda: None], 0.0, 100).shape == (2, 1)


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


def test_device_memory_is_asked_of_nvml_and_unknown_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device_used() is None
    used = SimpleNamespace(used=5 << 30)
    nvml = SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda handle: used,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert device_used() == 5 << 30
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(OSError("no driver"))
    assert device_used() is None


def test_on_the_cpu_no_device_memory_is_claimed(tmp_path: Path) -> None:
    assert peak_memory(saved(tmp_path / "m.onnx", 16), FEEDS).device is None


# Between this process and the one that is watched: `ru_maxrss` starts at what the process held that forked.
WATCHER = (
    "import os, sys; pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); print(os.wait4(pid, 0)[2].ru_maxrss)"
)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the operating system does not tell what a child took")
def test_the_peak_is_what_the_operating_system_says_of_the_child(tmp_path: Path) -> None:
    child = command(saved(tmp_path / "m.onnx", 16 << 20), FEEDS, SessionOptions(), tmp_path)
    line = [sys.executable, "-I", "-S", "-c", WATCHER, *child]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    said, seen = done.stdout.splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    assert json.loads(said)["run"] == pytest.approx(int(seen) * unit, rel=0.05)
