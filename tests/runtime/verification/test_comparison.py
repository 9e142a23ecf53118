"""Comparison: what counts as agreeing, near misses beside hits."""

import ml_dtypes
import numpy as np
import pytest
from optimize_graph.runtime.verification.comparison import EXACT, Tolerance, compare, scale_of
from optimize_graph.runtime.verification.noise_floor import FACTOR, noise_floor
from optimize_graph.runtime.verification.probes import perturb


def floats(*values: float, dtype: str = "float32") -> np.ndarray:
    return np.array(values, dtype=dtype)


def test_equal_arrays_agree_bit_for_bit() -> None:
    array = floats(1.0, np.nan, -np.inf, -0.0)
    assert compare({"y": array}, {"y": array.copy()}, EXACT)


def test_a_nan_with_another_payload_is_still_a_nan() -> None:
    other = np.array([0x7FC00001], dtype=np.uint32).view(np.float32)
    assert compare({"y": floats(np.nan)}, {"y": other}, EXACT)


def test_one_ulp_is_too_much_under_exact() -> None:
    want = floats(1.0, 2.0)
    got = np.nextafter(want, np.float32(3))
    verdict = compare({"y": want}, {"y": got}, EXACT)
    assert not verdict
    assert "2 of 2" in verdict.problem
    assert compare({"y": want}, {"y": got}, Tolerance(rtol=1e-6))


def test_negative_zero_is_not_zero_under_exact() -> None:
    assert not compare({"y": floats(0.0)}, {"y": floats(-0.0)}, EXACT)
    assert compare({"y": floats(0.0)}, {"y": floats(-0.0)}, Tolerance())


@pytest.mark.parametrize(
    "got",
    [
        np.array([1, 2], dtype=np.float64),
        np.array([1, 2], dtype=np.float16),
        np.array([[1, 2]], dtype=np.float32),
        np.array([1, 2, 3], dtype=np.float32),
        np.array([1, np.nan], dtype=np.float32),
        np.array([1, np.inf], dtype=np.float32),
    ],
    ids=["wider", "narrower", "rank", "size", "nan", "infinity"],
)
def test_types_shapes_and_places_of_nan_are_exact_under_any_tolerance(got: np.ndarray) -> None:
    assert not compare({"y": floats(1, 2)}, {"y": got}, Tolerance(rtol=100, atol=100))


def test_infinities_agree_only_with_the_same_sign() -> None:
    loose = Tolerance(atol=1e30)
    assert compare({"y": floats(np.inf, np.nan)}, {"y": floats(np.inf, np.nan)}, loose)
    assert not compare({"y": floats(np.inf)}, {"y": floats(-np.inf)}, loose)


def test_discrete_outputs_are_exact_under_any_tolerance() -> None:
    loose = Tolerance(rtol=1, atol=10)
    assert not compare({"y": np.array([3])}, {"y": np.array([4])}, loose)
    assert not compare({"y": np.array([True])}, {"y": np.array([False])}, loose)
    assert not compare({"y": np.array(["a"], object)}, {"y": np.array(["b"], object)}, loose)
    assert compare({"y": np.array(["a"], object)}, {"y": np.array(["a"], object)}, loose)


def test_as_many_flips_as_the_model_itself_makes_are_tolerated() -> None:
    allowed = Tolerance(flips=1, step=1)
    want = np.array([3, 5, 7])
    assert compare({"y": want}, {"y": np.array([3, 6, 7])}, allowed)
    assert not compare({"y": want}, {"y": np.array([3, 7, 7])}, allowed)
    assert not compare({"y": want}, {"y": np.array([4, 6, 7])}, allowed)


def test_the_worst_element_is_named() -> None:
    verdict = compare({"y": np.array([[1.0, 4.0]])}, {"y": np.array([[1.0, 3.0]])}, Tolerance())
    assert not verdict
    assert verdict.worst is not None
    assert (verdict.worst.output, verdict.worst.index) == ("y", (0, 1))
    assert (verdict.worst.error, verdict.worst.relative) == (1.0, 0.25)
    assert "y[0, 1]: 3.0 instead of 4.0" in str(verdict.worst)


def test_sequences_maps_and_absent_values_are_compared_inside() -> None:
    want = {"y": [floats(1), floats(2)], "z": [{"cat": 0.5}], "o": None}
    assert compare(want, {"y": [floats(1), floats(2)], "z": [{"cat": 0.5}], "o": None}, EXACT)
    assert not compare(want, {**want, "y": [floats(1)]}, EXACT)
    assert not compare(want, {**want, "y": [floats(1), floats(3)]}, EXACT)
    assert not compare(want, {**want, "z": [{"dog": 0.5}]}, EXACT)
    assert not compare(want, {**want, "z": [{"cat": 0.25}]}, EXACT)
    assert not compare(want, {**want, "o": floats(1)}, EXACT)


def test_outputs_in_another_order_do_not_agree() -> None:
    assert not compare({"a": floats(1), "b": floats(1)}, {"b": floats(1), "a": floats(1)}, Tolerance())


def test_bfloat16_is_compared_as_a_float() -> None:
    want = np.array([1.0, 2.0], dtype=ml_dtypes.bfloat16)
    got = np.array([1.0, 2.015625], dtype=ml_dtypes.bfloat16)
    assert not compare({"y": want}, {"y": got}, EXACT)
    assert compare({"y": want}, {"y": got}, Tolerance(atol=0.02))
    assert not compare({"y": want}, {"y": got}, Tolerance(atol=0.01))


def test_empty_outputs_agree() -> None:
    empty = np.empty((0, 3), np.float32)
    for tolerance in (EXACT, Tolerance()):
        assert compare({"y": empty}, {"y": empty}, tolerance)
        assert not compare({"y": empty}, {"y": np.empty((3, 0), np.float32)}, tolerance)


def test_a_model_without_noise_still_has_a_floor_of_a_few_eps() -> None:
    want = {"y": floats(1.0, 8.0)}
    noise = noise_floor(want, [want], [want])
    assert noise.floors["y"].absolute == pytest.approx(8 * 4 * 2.0**-23)
    off = {"y": floats(1.0, 8.0 + 2.0**-20)}
    assert compare(want, off, noise.tolerances())
    assert not compare(want, {"y": floats(1.0, 8.01)}, noise.tolerances())


def test_the_floor_is_what_the_probes_change() -> None:
    want = {"y": floats(1.0, -1.0, 0.5)}
    noise = noise_floor(want, [{"y": floats(1.0, -1.0, 0.501)}])
    assert noise.floors["y"].absolute == pytest.approx(0.001, rel=1e-2)
    assert compare(want, {"y": floats(1.0, -1.0 + 0.001 * FACTOR * 0.9, 0.5)}, noise.tolerances())
    assert not compare(want, {"y": floats(1.0, -1.0 + 0.001 * FACTOR * 1.2, 0.5)}, noise.tolerances())


def test_levels_that_differ_by_more_than_rounding_do_not_widen_the_floor() -> None:
    want = {"y": floats(1.0, -1.0)}
    noise = noise_floor(want, [], [{"y": floats(1.5, -1.0)}])
    assert noise.relative < 1e-5
    assert any("own optimizations" in note for note in noise.notes)


def test_a_masked_logit_does_not_hide_errors_in_the_others() -> None:
    masked = float(np.finfo(np.float32).min)
    assert scale_of(floats(1.0, 2.0, 3.0, masked)) == 3.0
    want = {"y": floats(1.0, 2.0, 3.0, masked)}
    noise = noise_floor(want, [want])
    assert compare(want, want, noise.tolerances())
    assert not compare(want, {"y": floats(1.0, 2.1, 3.0, masked)}, noise.tolerances())


def test_flips_of_the_model_itself_are_reported_and_tolerated() -> None:
    want, probe = {"y": np.array([1, 2, 3])}, {"y": np.array([1, 2, 4])}
    noise = noise_floor(want, [probe])
    assert any("1 of 3" in note for note in noise.notes)
    assert compare(want, probe, noise.tolerances())
    assert not compare(want, probe, noise_floor(want, [want]).tolerances())


def test_given_tolerances_replace_the_floor() -> None:
    want = {"y": floats(100.0, 1.0)}
    allowed = noise_floor(want).tolerances(rtol=1e-2)
    assert compare(want, {"y": floats(100.9, 1.0)}, allowed)
    assert not compare(want, {"y": floats(100.0, 1.1)}, allowed)


def test_perturbing_moves_floats_by_one_ulp_and_leaves_whole_numbers() -> None:
    feeds = {"x": floats(0.5, -1.25, np.inf), "mask": floats(0, 1), "ids": np.array([3])}
    moved = perturb(feeds, seed=0)
    assert moved is not None
    ulps = moved["x"].view(np.int32).astype(int) - feeds["x"].view(np.int32).astype(int)
    assert sorted(abs(ulps).tolist()) == [0, 1, 1]
    assert moved["mask"] is feeds["mask"]
    assert perturb({"ids": np.array([3])}, seed=0) is None
