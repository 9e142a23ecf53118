"""The evaluator that constant folding is given."""

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import OrtEvaluator, open_session


def load(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}'))


def evaluate(model: ir.Model, constants: dict[str, np.ndarray], *results: str) -> dict[str, np.ndarray] | None:
    graph = model.graph
    values = {value.name: value for value in graph.inputs} | {v.name: v for node in graph for v in node.outputs}
    given = {values[name]: array for name, array in constants.items()}
    found = OrtEvaluator().evaluate(list(graph), given, [values[name] for name in results], model.opset_imports)
    return None if found is None else {value.name or "": array for value, array in found.items()}


def test_a_region_is_computed_at_once_and_stays_in_its_graph() -> None:
    model = load("g (float[2] x, float[2] w) => (float[2] y) { a = Add(x, w) b = Mul(a, w) y = Neg(b) }")
    x, w = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    found = evaluate(model, {"x": x, "w": w}, "a", "y")
    assert found is not None
    np.testing.assert_array_equal(found["a"], x + w)
    np.testing.assert_array_equal(found["y"], -(x + w) * w)
    assert [node.op_type for node in model.graph] == ["Add", "Mul", "Neg"]


def test_values_are_those_of_onnxruntime_s_own_kernels() -> None:
    model = load("g (float[64] x) => (float[64] y) { a = Erf(x) y = Exp(a) }")
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    found = evaluate(model, {"x": x}, "y")
    assert found is not None
    assert found["y"].tobytes() == open_session(ir.to_bytes(model)).run({"x": x})["y"].tobytes()


def test_a_body_may_capture_the_constants() -> None:
    model = load("""g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = Neg(x) }, else_branch = e () => (float[2] q) { q = Abs(x) }>
    }""")
    found = evaluate(model, {"c": np.array(True), "x": np.array([1, -2], np.float32)}, "y")
    assert found is not None
    np.testing.assert_array_equal(found["y"], [-1, 2])


def test_strings_may_go_in() -> None:
    model = load("g (string[2] x, string[2] w) => (bool[2] y) { y = Equal(x, w) }")
    found = evaluate(model, {"x": np.array(["a", "b"], object), "w": np.array(["a", "c"], object)}, "y")
    assert found is not None
    assert found["y"].tolist() == [True, False]


def test_zero_sized_and_scalar_constants_keep_their_shape() -> None:
    model = load("g (float[0,3] x, int64 n) => (float[3,0] y, int64 m) { y = Transpose(x) m = Add(n, n) }")
    found = evaluate(model, {"x": np.empty((0, 3), np.float32), "n": np.array(2)}, "y", "m")
    assert found is not None
    assert found["y"].shape == (3, 0)
    assert found["m"].shape == () and found["m"] == 4


@pytest.mark.parametrize("name, code", [("bfloat16", 16), ("float8e4m3fn", 17), ("int4", 22)])
def test_results_that_numpy_cannot_carry_are_none(name: str, code: int) -> None:
    model = load(f"g (float[2] x) => ({name}[2] y) {{ y = Cast<to = {code}>(x) }}")
    assert evaluate(model, {"x": np.ones(2, np.float32)}, "y") is None


def test_constants_that_numpy_cannot_carry_are_none() -> None:
    model = load("g (bfloat16[2] x) => (float[2] y) { y = Cast<to = 1>(x) }")
    assert evaluate(model, {"x": np.ones(2, ml_dtypes.bfloat16)}, "y") is None


def test_sequences_and_computed_strings_as_results_are_none() -> None:
    model = load("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x) }")
    assert evaluate(model, {"x": np.ones(2, np.float32)}, "y") is None
    model = load("g (string[2] x) => (string[2] y) { y = StringConcat(x, x) }")
    assert evaluate(model, {"x": np.array(["a", "b"], object)}, "y") is None


MOVES = "t = Transpose(x)  r = Reshape(t, s)  c = Concat<axis = 0>(r, r)  y = Gather(c, i)"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("bfloat16", ml_dtypes.bfloat16),
        ("float8e4m3fn", ml_dtypes.float8_e4m3fn),
        ("float8e5m2", ml_dtypes.float8_e5m2),
        ("int4", ml_dtypes.int4),
        ("uint4", ml_dtypes.uint4),
        ("string", object),
    ],
)
def test_elements_that_kernels_do_not_take_are_moved_all_the_same(kind: str, dtype: np.dtype[np.generic]) -> None:
    texts = np.array([["a", "é"], ["c", "d"], ["", "f\0"]], object)
    content = texts if kind == "string" else np.arange(6).reshape(3, 2).astype(dtype)
    model = load(f"g ({kind}[3,2] x, int64[1] s, int64[3] i) => ({kind}[3] y) {{ {MOVES} }}")
    found = evaluate(model, {"x": content, "s": np.array([6]), "i": np.array([0, 7, -1])}, "y")
    assert found is not None
    assert found["y"].tolist() == np.tile(content.T.reshape(-1), 2)[[0, 7, -1]].tolist()
    assert found["y"].dtype == content.dtype


def test_a_type_that_kernels_do_not_take_is_not_computed_with() -> None:
    model = load("g (bfloat16[3] x, int64[1] s) => (bfloat16[3] y) { t = Reshape(x, s)  y = Neg(t) }")
    assert evaluate(model, {"x": np.ones(3, ml_dtypes.bfloat16), "s": np.array([3])}, "y") is None


def test_what_onnxruntime_has_no_kernel_for_or_fails_on_is_none() -> None:
    model = load("g (int16[2,2] x) => (int16[2,2] y) { y = MatMul(x, x) }")
    assert evaluate(model, {"x": np.ones((2, 2), np.int16)}, "y") is None
    model = load("g (float[4] x, int64[1] s) => (float[K] y) { y = Reshape(x, s) }")
    assert evaluate(model, {"x": np.ones(4, np.float32), "s": np.array([3])}, "y") is None


def test_a_region_that_reads_what_it_was_not_given_is_none() -> None:
    model = load("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }")
    assert evaluate(model, {"x": np.ones(2, np.float32)}, "y") is None
