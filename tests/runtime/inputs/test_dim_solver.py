"""Sizes of open dims are solved from the weights and constants that they meet."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.ir.shapes.symbolic import Dim, floordiv, named_dim
from optimize_graph.runtime import make_feeds, open_session, usable_feeds
from optimize_graph.runtime.inputs.dim_solver import Equations


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def proto(text: str, opsets: str = '"": 21', **weights: np.ndarray) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{opsets}]> {text}")
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return parsed


def made(model: onnx.ModelProto) -> list[Mapping[str, object]]:
    """The three sets, as ONNX Runtime accepts them; none of them needs a second trial."""
    session = open_session(model.SerializeToString())
    sets = usable_feeds(session, ir.from_proto(model))
    assert len(sets) == 3
    for each in sets:
        assert "not a number" not in each.description
    return [each.feeds for each in sets]


def shapes(model: onnx.ModelProto, name: str = "x") -> list[tuple[int, ...]]:
    return [np.shape(feeds[name]) for feeds in made(model)]  # type: ignore[arg-type]


CASES = {
    "MatMul": ("g (float[B,D] x) => (float[B,E] y) { y = MatMul(x, w) }", {"w": weight(10, 5)}, {1: 10}),
    "Gemm": ("g (float[B,D] x) => (float[B,E] y) { y = Gemm<transB=1>(x, w) }", {"w": weight(5, 11)}, {1: 11}),
    "Conv": ("g (float[N,C,H,W] x) => (float[N,D,P,Q] y) { y = Conv(x, w) }", {"w": weight(8, 7, 3, 3)}, {1: 7}),
    "Conv with groups": (
        "g (float[N,C,H,W] x) => (float[N,D,P,Q] y) { y = Conv<group=4>(x, w) }",
        {"w": weight(8, 5, 3, 3)},
        {1: 20},
    ),
    "Conv 1-D": ("g (float[N,C,L] x) => (float[N,D,P] y) { y = Conv(x, w) }", {"w": weight(8, 40, 9)}, {1: 40}),
    "Conv 3-D": (
        "g (float[N,C,A,B,L] x) => (float[N,D,P,Q,R] y) { y = Conv(x, w) }",
        {"w": weight(8, 2, 3, 3, 3)},
        {1: 2},
    ),
    "convolutions before a classifier": (
        """g (float[N,C,H,W] x) => (float[N,D] y) {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w) b = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
            c = Flatten(b) y = Gemm(c, v) }""",
        {"w": weight(8, 3, 3, 3), "v": weight(8 * 7 * 7, 10)},
        {1: 3},
    ),
    "Concat": (
        "g (float[B,D] x, float[B,E] z) => (float[B,F] y) { c = Concat<axis=1>(x, z) y = MatMul(c, w) }",
        {"w": weight(12, 5)},
        {1: 6},
    ),
    "Split": (
        "g (float[B,D] x) => (float[B,E] y, float[B,F] z) { y, z = Split<axis=1>(x, s) }",
        {"s": np.array([3, 4])},
        {1: 7},
    ),
    "Reshape, rest": (
        "g (float[B,D] x) => (float[A,F] y) { r = Reshape(x, s) y = MatMul(r, w) }",
        {"s": np.array([0, -1]), "w": weight(9, 2)},
        {1: 9},
    ),
    "LayerNormalization": (
        "g (float[N,S,D] x) => (float[N,S,D] y) { y = LayerNormalization(x, s) }",
        {"s": weight(9)},
        {2: 9},
    ),
    "BatchNormalization": (
        "g (float[N,C,L] x) => (float[N,C,L] y) { y = BatchNormalization(x, s, s, s, s) }",
        {"s": np.abs(weight(9))},
        {1: 9},
    ),
    "PRelu": ("g (float[N,C,L] x) => (float[N,C,L] y) { y = PRelu(x, s) }", {"s": weight(9, 1)}, {1: 9}),
    "broadcast": ("g (float[N,C] x) => (float[N,C] y) { y = Sub(s, x) }", {"s": weight(9)}, {1: 9}),
    "Einsum": (
        'g (float[N,S,D] x) => (float[N,H,S,E] y) { y = Einsum<equation="bsd,dhe->bhse">(x, s) }',
        {"s": weight(9, 2, 4)},
        {2: 9},
    ),
    "Scan": (
        """g (float[H] s, float[T,D] x) => (float[H] t, float[T,H] y) { t, y = Scan<num_scan_inputs=1, body =
            b (float[H] a, float[D] e) => (float[H] c, float[H] o) { p = MatMul(e, w) c = Add(a, p) o = Identity(c) }
        >(s, x) }""",
        {"w": weight(5, 6)},
        {1: 5},
    ),
    "Loop": (
        """g (float[B,H] x) => (float[B,H] t) {
            n = Constant<value_int=3>() c = Constant<value=bool {1}>()
            t = Loop<body = b (int64 i, bool d, float[B,H] a) => (bool e, float[B,H] f) {
                e = Identity(d) f = MatMul(a, w) }>(n, c, x) }""",
        {"w": weight(6, 6)},
        {1: 6},
    ),
    "If": (
        """g (bool c, float[B,H] x) => (float[B,K] t) { t = If(c) <
            then_branch = b () => (float[B,K] p) { p = MatMul(x, w) },
            else_branch = d () => (float[B,K] q) { q = Gemm(x, w) }> }""",
        {"w": weight(6, 7)},
        {1: 6},
    ),
    "shapes that are computed": (
        """g (float[N,C,L] x) => (float[N,K] y) {
            s = Shape(x) n = Gather(s, zero) t = Concat<axis=0>(n, rest) r = Reshape(x, t) y = MatMul(r, w) }""",
        {"zero": np.array([0]), "rest": np.array([-1]), "w": weight(36, 4)},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_dim_is_the_size_that_a_weight_asks_for(case: str) -> None:
    text, weights, dims = CASES[case]
    for shape in shapes(proto(text, **weights)):
        assert {axis: shape[axis] for axis in dims} == dims


@pytest.mark.parametrize(
    "operator", ["LSTM<hidden_size = 6>(x, w, r, , n, h, c)", "LSTM<hidden_size = 6>(x, w, r, , , h, c)"]
)
def test_the_state_of_a_recurrent_layer_fits_its_weights_and_batch(operator: str) -> None:
    text = f"""g (float[T,B,D] x, float[L,M,H] h, float[K,P,G] c, int32[Q] n) => (float[T,L,B,H] y, int32[Q] m) {{
        y = {operator} m = Identity(n) }}"""
    for feeds in made(proto(text, w=weight(1, 24, 5), r=weight(1, 24, 6))):
        batch = np.shape(feeds["x"])[1]  # type: ignore[arg-type]
        assert np.shape(feeds["h"]) == np.shape(feeds["c"]) == (1, batch, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "opsets, operator",
    [
        ('"": 23', "Attention<q_num_heads = 3, kv_num_heads = 3>"),
        ('"": 21, "com.microsoft": 1', "com.microsoft.MultiHeadAttention<num_heads = 3>"),
    ],
)
def test_queries_keys_and_values_of_attention_fit_each_other(opsets: str, operator: str) -> None:
    text = f"g (float[B,S,D] x, float[E,F,G] k, float[H,I,J] v) => (float[K,L,M] y) {{ y = {operator}(x, k, v) }}"
    for feeds in made(proto(text, opsets)):
        assert np.shape(feeds["x"])[2] % 3 == 0  # type: ignore[arg-type]


RANKLESS = {
    "MatMul": (oh.make_node("MatMul", ["x", "w"], ["y"]), weight(10, 5), (None, 10)),
    "Conv": (oh.make_node("Conv", ["x", "w"], ["y"]), weight(8, 5, 3, 3), (None, 5, None, None)),
    "Add": (oh.make_node("Add", ["x", "w"], ["y"]), weight(8, 5, 3), (None, None, 3)),
    "Concat": (oh.make_node("Concat", ["x", "w"], ["y"], axis=1), weight(8, 5, 3), (8, None, 3)),
    "Reshape": (oh.make_node("Reshape", ["x", "w"], ["y"]), np.array([-1, 4, 3]), (None, None)),
    "Transpose": (oh.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1]), weight(1), (None, None, None)),
}


@pytest.mark.parametrize("case", RANKLESS)
def test_an_input_without_a_shape_has_the_rank_that_its_operator_asks_for(case: str) -> None:
    node, array, dims = RANKLESS[case]
    x, y = (oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
    graph = oh.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(array, "w")])
    model = oh.make_model(graph, ir_version=10, opset_imports=[oh.make_opsetid("", 21)])
    for shape in shapes(model):
        assert len(shape) == len(dims)
        assert all(size in (dim, 1) for dim, size in zip(dims, shape, strict=True) if dim is not None)


def learned(*nodes: onnx.NodeProto, inputs: str = "x") -> onnx.ModelProto:
    given = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in inputs]
    y = oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = oh.make_graph(nodes, "g", given, [y])
    opsets = [oh.make_opsetid("", 15), oh.make_opsetid("ai.onnx.ml", 3)]
    return oh.make_model(graph, ir_version=8, opset_imports=opsets)


def ml(op: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: object) -> onnx.NodeProto:
    return oh.make_node(op, list(inputs) or ["x"], list(outputs), domain="ai.onnx.ml", **attributes)


NUMBERS = [float(number) for number in range(42)]
FEATURES = {
    "Scaler": (ml("Scaler", offset=NUMBERS[:5], scale=NUMBERS[1:6]), 5),
    "Imputer": (ml("Imputer", imputed_value_floats=NUMBERS[:3], replaced_value_float=float("nan")), 3),
    "LinearRegressor": (ml("LinearRegressor", coefficients=NUMBERS[:14], intercepts=[0.0, 1.0], targets=2), 7),
    "LinearClassifier": (
        ml(
            "LinearClassifier",
            outputs=("label", "y"),
            coefficients=NUMBERS[:21],
            intercepts=NUMBERS[:3],
            classlabels_ints=[0, 1, 2],
        ),
        7,
    ),
    "SVMRegressor": (
        ml(
            "SVMRegressor",
            coefficients=[1.0, 2.0],
            kernel_params=[0.1, 0.0, 3.0],
            kernel_type="RBF",
            n_supports=2,
            support_vectors=NUMBERS[:8],
            rho=[0.1],
        ),
        4,
    ),
}


@pytest.mark.parametrize("case", FEATURES)
def test_features_are_counted_from_the_attributes(case: str) -> None:
    node, count = FEATURES[case]
    assert [shape[1] for shape in shapes(learned(node))] == [count] * 3


def test_a_tree_gets_at_least_the_features_that_it_asks_about() -> None:
    tree = ml(
        "TreeEnsembleRegressor",
        n_targets=1,
        nodes_falsenodeids=[2, 0, 0],
        nodes_featureids=[9000, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_nodeids=[0, 1, 2],
        nodes_treeids=[0, 0, 0],
        nodes_truenodeids=[1, 0, 0],
        nodes_values=[0.1, 0.0, 0.0],
        post_transform="NONE",
        target_ids=[0, 0],
        target_nodeids=[1, 2],
        target_treeids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    assert all(shape[1] > 9000 for shape in shapes(learned(tree)))


def test_what_the_weights_leave_open_differs_between_the_sets() -> None:
    found = shapes(proto("g (float[B,S,D] x) => (float[B,S,E] y) { y = MatMul(x, w) }", w=weight(10, 5)))
    assert len(set(found)) == 3


def test_a_branch_that_the_rank_excludes_says_nothing_about_sizes() -> None:
    text = """g (float[B,S,D] x) => (float[A,E] y) {
        shape = Shape(x) rank = Size(shape) two = Constant<value_int=2>() flat = Equal(rank, two)
        y = If(flat) <then_branch = a () => (float[A,E] p) { p = MatMul(x, v) },
                      else_branch = b () => (float[A,E] q) { r = MatMul(x, w) q = ReduceSum<keepdims=0>(r, i) }> }"""
    model = proto(text, v=weight(7, 5), w=weight(9, 5), i=np.array([0]))
    assert np.shape(make_feeds(ir.from_proto(model))["x"])[2] == 9  # type: ignore[arg-type]


A, B, C = (named_dim(name, least=1) for name in "abc")


@pytest.mark.parametrize(
    "equal, want",
    [
        ([A - 12], {"a": 12}),
        ([A + B - 12], {"a": 8, "b": 4}),
        ([A * B - 36, A - B], {"a": 6, "b": 6}),
        ([A * 3 - B, B - 21], {"a": 7, "b": 21}),
        ([A * B - A * 5], {"a": 8, "b": 5}),
        ([A - 3, A - 4], {"a": 3}),
        ([A * B - 7], {"a": 1, "b": 7}),
    ],
)
def test_equations_are_solved(equal: list[Dim], want: dict[str, int]) -> None:
    equations = Equations(equal=equal)
    found = equations.solve({"a": 8, "b": 16})
    assert {name: found[name] for name in want} == want


def test_a_quotient_is_inverted_to_the_roundest_size_that_gives_it() -> None:
    equations = Equations()
    halved = floordiv(floordiv(A - 1, 2) + 1, 2)
    equations.require_equal(halved, 16)
    assert equations.solve({"a": 5}) == {"a": 64}


def test_sizes_grow_to_what_windows_cover_and_to_multiples() -> None:
    equations = Equations()
    equations.require_least(A - 4, 10)
    equations.require_multiple(B + 1, 7)
    found = equations.solve({"a": 3, "b": 4})
    assert found["a"] >= 14
    assert (found["b"] + 1) % 7 == 0
