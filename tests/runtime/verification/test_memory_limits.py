"""What verification holds: the arrays of one set of inputs and outputs, and no whole array in double precision."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir
from optimize_graph.jobs.model_source import Source
from optimize_graph.jobs.optimization import evaluation as jobs_proof
from optimize_graph.runtime import (
    Budget,
    FeedSet,
    SessionOptions,
    TrialOptions,
    check_result,
    feed_sets,
    open_session,
    usable_feeds,
)
from optimize_graph.runtime.benchmark.peak_memory import available_memory
from optimize_graph.runtime.inputs import feed_generator
from optimize_graph.runtime.verification.comparison import EXACT, Tolerance, compare, scale_of
from optimize_graph.runtime.verification.noise_floor import noise_floor, rms_change
from optimize_graph.runtime.verification.probes import holds_whole_numbers, perturb
from optimize_graph.runtime.verification.reference import Reference

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
        monkeypatch.setattr("optimize_graph.runtime.arrays.PIECE", piece)
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
    reference = Reference(data)
    assert check_result(reference, data, sets).ok
    one = 4 * SIZE  # bytes of the input, and of the output
    assert peak() - before < 7 * one  # input, moved input, and at most four outputs
    assert not reference.expectations and not reference.truths


def test_what_small_sets_give_is_kept_for_other_results() -> None:
    data = proto("g (float[N,8] x) => (float[N,8] y) { y = Tanh(x) }").SerializeToString()
    reference = Reference(data)
    sets = [FeedSet({"x": np.ones((2, 8), np.float32)}, "ones")]
    assert check_result(reference, data, sets).ok
    assert [id(each) for each in reference.expectations] and feed_generator.KEPT > 128
    first = dict(reference.expectations)
    assert check_result(reference, data, sets).ok
    assert list(reference.expectations.values()) == list(first.values())


OUTER = "g (float[N] x) => (float[N,N] y) { a = Constant<value_ints = [1]>() c = Unsqueeze(x, a) y = Mul(c, x) }"


def budget(limit: int) -> Budget:
    return Budget(limit, lambda shapes: 4 * shapes["x"][0] ** 2)


def test_sizes_are_chosen_so_that_a_run_stays_within_its_budget() -> None:
    model = proto(OUTER)
    session = open_session(model.SerializeToString(), SessionOptions(optimize=False))
    free = usable_feeds(session, ir.from_proto(model), options=TrialOptions(budget=budget(1 << 40)))
    assert [np.shape(each.feeds["x"]) for each in free] == [(1,), (2,), (3,)]
    assert "GiB" not in " ".join(each.description for each in free)
    tight = usable_feeds(session, ir.from_proto(model), options=TrialOptions(budget=budget(4 * 2**2)))
    assert [np.shape(each.feeds["x"]) for each in tight] == [(1,), (2,), (1,)]
    assert "larger sizes would need about 0.0 GiB of memory" in tight[2].description
    with pytest.raises(ir.ModelError, match=r"no inputs were generated: larger sizes would need .*no-usable-inputs"):
        usable_feeds(session, ir.from_proto(model), options=TrialOptions(budget=budget(3)))


def test_a_budget_counts_the_activations_that_live_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_proof, "available_memory", lambda: 1 << 20)
    made = jobs_proof.Evaluation(Source.of(proto(OUTER), Options()), Options(), tmp_path, lambda step: None).budget
    assert made is not None and made.limit == 1 << 19
    assert made.needed({"x": (100,)}) >= 3 * 4 * 100**2
    fixed = proto("g (float[3] x) => (float[3] y) { y = Neg(x) }")
    assert jobs_proof.Evaluation(Source.of(fixed, Options()), Options(), tmp_path, lambda step: None).budget is None


@pytest.mark.parametrize(
    "files, available",
    [
        ({}, None),
        ({"proc/meminfo": "MemAvailable: 1000 kB"}, 1_024_000),
        ({"proc/meminfo": "MemAvailable: 1000 kB", "sys/fs/cgroup/memory.max": "max"}, 1_024_000),
        (
            {
                "proc/meminfo": "MemAvailable: 1000 kB",
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/memory.max": "5000",
                "sys/fs/cgroup/a/memory.current": "1000",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/b/memory.current": "700",
            },
            4000,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 1000 kB",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "3500",
            },
            0,
        ),
    ],
)
def test_available_memory_is_that_of_the_machine_or_of_a_control_group(
    files: dict[str, str], available: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available_memory(tmp_path) == available
