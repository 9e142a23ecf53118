"""Regions are computed on untransposed data where that saves Transposes, and nowhere else; nothing changes a bit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from optimize_graph import ir
from optimize_graph.passes import Exactness, Pipeline, PipelineResult, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

PIPELINE = "fixpoint(canonicalize,dce,propagate-transposes,constant-fold,cse,dce)"
NHWC, NCHW = "<perm = [0, 2, 3, 1]>", "<perm = [0, 3, 1, 2]>"


def moved(text: str, passes: str = PIPELINE, opset: int = 17) -> tuple[onnx.ModelProto, ir.Model, PipelineResult]:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    onnx.checker.check_model(proto)
    return proto, *optimized(proto, passes)


def optimized(proto: onnx.ModelProto, passes: str = PIPELINE) -> tuple[ir.Model, PipelineResult]:
    model = ir.from_proto(proto)
    report = Pipeline.parse(passes).run(model, [VerifyEach()])
    return model, report


def count(model: ir.Model | onnx.ModelProto) -> Counter[str]:
    nodes = model.graph.node if isinstance(model, onnx.ModelProto) else ir.nodes(model)
    return Counter(node.op_type for node in nodes)


def assert_same_bits(before: onnx.ModelProto, model: ir.Model) -> None:
    options = SessionOptions(optimize=False, prepacking=False)
    feeds = make_feeds(ir.from_proto(before), seed=1)
    wanted = open_session(before.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    for name, value in wanted.items():
        want, got = np.asarray(value), np.asarray(given[name])
        assert (want.shape, want.dtype, want.tobytes()) == (got.shape, got.dtype, got.tobytes()), name


def test_an_island_of_operators_loses_its_transposes() -> None:
    before, model, _ = moved(
        "g (float[n,4,5,6] x) => (float[n,4,5,6] y) <float[4] k = {1.0, 2.0, 3.0, 4.0}> {"
        f"a = Transpose{NHWC}(x)  b = Mul(a, k)  c = Sigmoid(b)  d = Mul(b, c)  y = Transpose{NCHW}(d) }}"
    )
    assert "Transpose" not in count(model)
    assert_same_bits(before, model)


def test_a_residual_between_islands_moves_with_them() -> None:
    before, model, _ = moved(
        "g (float[n,4,5,6] x, float[n,4,5,6] z) => (float[n,4,5,6] y, float[n,4,5,6] w) {"
        f"a = Transpose{NHWC}(x)  b = Relu(a)  c = Transpose{NCHW}(b)  w = Neg(c)"
        f"d = Transpose{NHWC}(z)  e = Add(d, b)  y = Transpose{NCHW}(e) }}"
    )
    assert "Transpose" not in count(model)
    assert_same_bits(before, model)


def test_a_concat_of_equally_transposed_values_is_transposed_once() -> None:
    before, model, _ = moved(
        "g (float[n,4,5,6] x, float[n,2,5,6] z) => (float[n,5,6,6] y) {"
        f"a = Transpose{NHWC}(x)  b = Transpose{NHWC}(z)  y = Concat<axis = -1>(a, b) }}"
    )
    assert count(model) == {"Concat": 1, "Transpose": 1}
    assert_same_bits(before, model)


def test_split_softmax_slice_and_pad_are_told_the_other_axes() -> None:
    before, model, _ = moved(
        "g (float[2,4,5,6] x) => (float[2,2,6,8] y) <int64[1] one = {1}, int64[2] e = {4, 9}, int64[2] axes = {-3, 2},"
        "int64[2] s = {0, 0}, int64[8] pads = {0, 1, 0, 0, 0, 1, 2, 0}> {"
        f"a = Transpose{NHWC}(x)  b, c = Split<axis = 3>(a)  d = Add(b, c)  f = Slice(d, s, e, axes)"
        f"h = Pad(f, pads)  y = Transpose{NCHW}(h) }}"
    )
    assert "Transpose" not in count(model)
    assert_same_bits(before, model)


def test_softmax_stays_along_the_last_axis() -> None:
    _, model, _ = moved(
        f"g (float[n,4,5,6] x) => (float[n,4,5,6] y) {{ a = Transpose{NHWC}(x)  b = Softmax<axis = -1>(a)"
        f"  y = Transpose{NCHW}(b) }}"
    )
    assert count(model) == {"Transpose": 2, "Softmax": 1}


def test_nothing_moves_where_nothing_is_saved() -> None:
    _, _, report = moved(
        f"g (float[n,4,5,6] x) => (float[n,5,6,4] y, float[n,5,6,4] z) {{ a = Transpose{NHWC}(x)"
        "  b = Relu(a)  y = Neg(b)  z = Exp(b) }"
    )
    assert not report.log.rewrites


def test_an_operand_of_lower_rank_that_is_computed_holds_its_user_back() -> None:
    _, model, _ = moved(
        f"g (float[n,4,5,6] x, float[4] k) => (float[n,4,5,6] y) {{ a = Transpose{NHWC}(x)"
        f"  b = Add(a, k)  y = Transpose{NCHW}(b) }}"
    )
    assert count(model) == {"Transpose": 2, "Add": 1}


def test_a_graph_output_in_between_keeps_its_name_and_layout() -> None:
    before, model, _ = moved(
        f"g (float[n,4,5,6] x) => (float[n,5,6,4] b, float[n,4,5,6] y) {{ a = Transpose{NHWC}(x)"
        f"  b = Relu(a)  c = Neg(b)  y = Transpose{NCHW}(c) }}"
    )
    assert [value.name for value in model.graph.outputs] == ["b", "y"]
    assert count(model)["Transpose"] == 1
    assert_same_bits(before, model)


def test_a_value_that_a_branch_captures_keeps_its_layout() -> None:
    before, model, _ = moved(
        f"g (float[n,4,5,6] x, bool k) => (float[n,5,6,4] w, float[n,4,5,6] y) {{ a = Transpose{NHWC}(x)  b = Relu(a)"
        f"  y = Transpose{NCHW}(b)"
        "  w = If(k) <then_branch = t () => (float[n,5,6,4] u) { u = Neg(b) },"
        "  else_branch = e () => (float[n,5,6,4] v) { v = Exp(b) }> }"
    )
    assert count(model)["Transpose"] == 1
    assert_same_bits(before, model)


SUM = (
    f"g (float[n,4,5,6] x) => (float[n,4] y) {{ a = Transpose{NHWC}(x)"
    "  b = Relu(a)  y = ReduceMean<axes = [1, 2], keepdims = 0>(b) }"
)


def test_sums_move_only_where_rounding_may_change() -> None:
    assert count(moved(SUM)[1])["Transpose"] == 1
    _, model, report = moved(SUM, "fixpoint(canonicalize,propagate-transposes{rounding=true},dce)")
    assert "Transpose" not in count(model)
    assert report.log.exactness is Exactness.ROUNDING


@pytest.mark.parametrize(("op_type", "moves"), [("Sqrt", True), ("Log", False), ("Softplus", False)])
def test_what_rounds_by_place_stays_where_every_bit_counts(op_type: str, moves: bool) -> None:
    text = f"g (float[2,4] x) => (float[2,4] y) {{ a = Transpose(x)  b = {op_type}(a)  y = Transpose(b) }}"
    assert ("Transpose" in count(moved(text)[1])) is not moves
    assert "Transpose" not in count(moved(text, PIPELINE.replace("transposes", "transposes{rounding=true}"))[1])


def test_a_reduction_that_leaves_the_dims_in_another_order_stays() -> None:
    text = SUM.replace("axes = [1, 2]", "axes = [0]").replace("float[n,4] y", "float[5,6,4] y")
    _, model, _ = moved(text, "fixpoint(canonicalize,propagate-transposes{rounding=true},dce)")
    assert count(model)["Transpose"] == 1


def test_dims_that_turn_out_one_broadcast_as_before() -> None:
    before, model, _ = moved(
        "g (float[n,c,h,w] x, float[n,c,h,w] z) => (float[p,q,r,s] y) {"
        f"a = Transpose{NHWC}(x)  b = Transpose{NHWC}(z)  d = Add(a, b)  y = Transpose{NCHW}(d) }}"
    )
    assert "Transpose" not in count(model)
    options = SessionOptions(optimize=False, prepacking=False)
    feeds = {"x": np.ones((1, 3, 1, 2), np.float32), "z": np.full((4, 1, 5, 2), np.nan, np.float32)}
    wanted = open_session(before.SerializeToString(), options).run(feeds)["y"]
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)["y"]
    assert np.asarray(wanted).tobytes() == np.asarray(given).tobytes()


# --- random regions ---------------------------------------------------------------------------------------------------


def random_model(seed: int) -> onnx.ModelProto:
    """A tangle of Transposes, elementwise operators, Concats, Splits and Pads over rank 3, all of one size."""
    random = np.random.default_rng(seed)
    size = 3
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [size] * 3) for i in range(2)]
    names, nodes, constants = [value.name for value in inputs], [], []
    perms = [[0, 2, 1], [1, 2, 0], [2, 0, 1]]
    for index in range(int(random.integers(6, 24))):
        a, b = (names[int(i)] for i in random.integers(max(0, len(names) - 6), len(names), 2))
        name = f"v{index}"
        match int(random.integers(0, 9)):
            case 0 | 1 | 2:
                nodes.append(helper.make_node("Transpose", [a], [name], perm=perms[int(random.integers(0, 3))]))
            case 3:
                nodes.append(helper.make_node("Relu", [a], [name]))
            case 4 | 5:
                nodes.append(helper.make_node(str(random.choice(["Add", "Mul", "Sub"])), [a, b], [name]))
            case 6:
                shape = [(size,), (1, size, 1), (size, size), ()][int(random.integers(0, 4))]
                content = random.normal(size=shape).astype(np.float32)
                constants.append(numpy_helper.from_array(content, f"k{index}"))
                nodes.append(helper.make_node("Mul", [f"k{index}", a], [name]))
            case 7:
                axis = int(random.integers(-3, 3))
                parts = [f"{name}a", f"{name}b"]
                nodes.append(helper.make_node("Concat", [a, b], [f"{name}c"], axis=axis))
                nodes.append(helper.make_node("Split", [f"{name}c"], parts, axis=axis))
                nodes.append(helper.make_node("Sub", parts, [name]))
            case _:
                nodes.append(helper.make_node("Softmax", [a], [name], axis=int(random.integers(-3, 3))))
        names.append(name)
    outputs = [names[-1], *{str(random.choice(names[2:]))} - {names[-1]}]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size] * 3) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, infos, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("seed", range(120))
def test_random_regions_keep_every_bit_and_gain_no_transpose(seed: int) -> None:
    before = random_model(seed)
    plain, _ = optimized(before, "fixpoint(canonicalize,constant-fold,cse,dce)")
    model, _ = optimized(before)
    assert_same_bits(before, model)
    assert count(model)["Transpose"] <= count(plain)["Transpose"]
    _, again = optimized(ir.to_proto(model))
    assert not again.log.rewrites


SQUEEZED = [
    (
        "an activation between convolutions that are fed by Unsqueeze",
        "float[n,3,8,1] x",
        "float[n,3,8,1] y",
        "<int64[1] last = {3}> { a = Squeeze(x, last)  b = Elu(a)  y = Unsqueeze(b, last) }",
        {"Elu": 1},
    ),
    (
        "a bias along the channels, which come last",
        "float[1,3,8,7] x",
        "float[1,3,8,7] y",
        f"<int64[1] first = {{-4}}, float[3] k = {{1.0, 2.0, 3.0}}> {{ t = Transpose{NHWC}(x)  a = Squeeze(t, first)"
        f"  b = Add(a, k)  c = Relu(b)  d = Unsqueeze(c, first)  y = Transpose{NCHW}(d) }}",
        {"Add": 1, "Relu": 1},
    ),
    (
        "Reshapes in the place of Squeeze and Unsqueeze",
        "float[n,3,8,1] x",
        "float[n,3,8,1] y",
        "<int64[3] less = {0, 3, 8}, int64[4] more = {-1, 3, 8, 1}, float[8,1] k = {1.,2.,3.,4.,5.,6.,7.,8.}>"
        " { a = Reshape(x, less)  c = Sigmoid(a)  y = Reshape(c, more) }",
        {"Sigmoid": 1},
    ),
    (
        "Softmax, Concat, Split, Slice, Pad and a reduction count other axes",
        "float[2,4,1,6] x",
        "float[2,8,1,8] y, float[2,4] z",
        "<int64[1] two = {2}, int64[1] s = {1}, int64[1] e = {4}, int64[1] one = {1}, int64[6] p = {0,0,1,0,1,1}>"
        " { a = Squeeze(x, two)  b = Softmax <axis = -1> (a)  c, d = Split <axis = 1> (b)  f = Slice(b, s, e, one)"
        "  g = Concat <axis = 1> (c, d, f)  h = Pad(g, p)  y = Unsqueeze(h, two)"
        "  z = ReduceMax <axes = [2], keepdims = 0> (b) }",
        {"Softmax": 1, "Split": 1, "Slice": 1, "Concat": 1, "Pad": 1, "ReduceMax": 1},
    ),
    (
        "a result that is also wanted without the axis",
        "float[n,3,8,1] x",
        "float[n,3,8,1] y, float[n,3,8] b",
        "<int64[1] last = {3}> { a = Squeeze(x, last)  b = Neg(a)  y = Unsqueeze(b, last) }",
        {"Neg": 1, "Squeeze": 1},
    ),
]


@pytest.mark.parametrize(
    ("inputs", "outputs", "body", "left"), [each[1:] for each in SQUEEZED], ids=[each[0] for each in SQUEEZED]
)
def test_operators_between_a_squeeze_and_its_inverse_work_on_all_axes(
    inputs: str, outputs: str, body: str, left: dict[str, int]
) -> None:
    before, model, report = moved(
        f"g ({inputs}) => ({outputs}) {body}",
        "fixpoint(canonicalize,dce,propagate-transposes{rounding=true},constant-fold,cse,dce)",
    )
    assert dict(count(model)) == left
    assert report.log.rewrites
    assert_same_bits(before, model)


def test_opset_12_spells_the_axes_of_squeeze_in_attributes() -> None:
    before, model, _ = moved(
        "g (float[n,3,8,1] x) => (float[n,3,8,1] y, float[n,3,8] b)"
        " { a = Squeeze <axes = [3]> (x)  b = Neg(a)  y = Unsqueeze <axes = [3]> (b) }",
        opset=12,
    )
    assert count(model) == {"Neg": 1, "Squeeze": 1}
    assert_same_bits(before, model)


@pytest.mark.parametrize(
    "body",
    [
        "{ a = Squeeze(x, last)  b = MatMul(a, k)  y = Unsqueeze(b, last) }",  # counts its axes from the end
        "{ a = Squeeze(x, last)  b = Elu(a)  y = Unsqueeze(b, first) }",
        "{ a = Squeeze(x, last)  y = Elu(a) }",
    ],
)
def test_a_squeeze_that_nothing_undoes_stays(body: str) -> None:
    _, _, report = moved(
        "g (float[n,8,8,1] x) => (float y) <int64[1] last = {3}, int64[1] first = {0}, float[8,8] k = {"
        + ", ".join(["1.0"] * 64)
        + f"}}> {body}".replace("float y", "float y")
    )
    assert "propagate-transposes" not in report.log.by_rule()
