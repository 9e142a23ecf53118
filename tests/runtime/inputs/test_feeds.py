"""Made inputs: within tables, with padding, dims bound consistently."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import feed_sets, make_feeds, open_session, read_feeds, usable_feeds, write_feeds
from optimize_graph.runtime.inputs.bind_dims import Binding, OpenInput, Sizing, bind, symbols
from optimize_graph.runtime.inputs.feed_plans import SIZINGS, FeedPlan
from optimize_graph.runtime.ort.session import Session
from optimize_graph.runtime.ort.session_options import Feeds, Outputs


def proto(text: str, opsets: str = '"": 21', **weights: np.ndarray) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{opsets}]> {text}")
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return parsed


def load(text: str, **weights: np.ndarray) -> ir.Model:
    return ir.from_proto(proto(text, **weights))


def table(rows: int) -> np.ndarray:
    return np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)


def all_values(model: ir.Model, name: str, count: int = 20) -> np.ndarray:
    return np.concatenate([np.asarray(make_feeds(model, seed=seed)[name]).reshape(-1) for seed in range(count)])


def test_indices_stay_within_the_table_that_they_gather_from() -> None:
    model = load("g (int64[B,S] ids) => (float[B,S,4] y) { y = Gather(t, ids) }", t=table(7))
    assert set(all_values(model, "ids")) == set(range(7))


def test_the_axis_of_the_gather_decides_the_bound() -> None:
    model = load("g (int64[B,S] ids) => (float[7,B,S] y) { y = Gather<axis = 1>(t, ids) }", t=table(7))
    assert set(all_values(model, "ids")) == set(range(4))


def test_the_smallest_of_several_tables_decides_through_casts_and_reshapes() -> None:
    text = """g (int32[B,S] ids) => (float[N,4] y, float[B,S,4] z) {
        wide = Cast<to = 7>(ids) shape = Constant<value_ints = [-1]>() flat = Reshape(wide, shape)
        y = Gather(small, flat) z = Gather(large, wide) }"""
    model = load(text, small=table(3), large=table(50))
    assert all_values(model, "ids").max() == 2


def test_what_is_added_to_an_index_is_taken_off_the_bound() -> None:
    text = "g (int64[B,S] i) => (float[B,S,4] y) { two = Constant<value_int = 2>() j = Add(i, two) y = Gather(t, j) }"
    assert set(all_values(load(text, t=table(7)), "i")) == set(range(5))


def test_indices_into_another_input_stay_within_its_dynamic_dim() -> None:
    model = load("g (float[nodes,4] x, int64[2,edges] e) => (float[2,edges,4] y) { y = Gather(x, e) }")
    feeds = make_feeds(model)
    assert 0 < feeds["e"].max() < feeds["x"].shape[0] != feeds["e"].shape[1]


def test_indices_are_followed_into_bodies_and_functions() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (int64[B,S] ids, bool c) => (float[B,S,4] y, float[B,S,4] z) {
            y = own.Look (t, ids)
            z = If(c) <then_branch = a () => (float[B,S,4] p) { p = Gather(u, ids) },
                       else_branch = b () => (float[B,S,4] q) { q = Gather(u, ids) }>
        }
        <domain: "own", opset_import: ["": 21]> Look (data, indices) => (out) { out = Gather(data, indices) }"""
    parsed = onnx.parser.parse_model(text)
    weights = {"t": table(9), "u": table(5)}
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    assert set(all_values(ir.from_proto(parsed), "ids")) == set(range(5))


@pytest.mark.parametrize(
    "text",
    [
        "g (int64[B,S] attention_mask) => (float[B,S] y) { y = Cast<to = 1>(attention_mask) }",
        "g (int64[B,S] m) => (bool[B,S] y) { y = Cast<to = 9>(m) }",
        "g (int64[B,S] m) => (float[B,S] y) { f = Cast<to = 1>(m) c = Constant<value_float = 1.0>() y = Sub(c, f) }",
        "g (int64[B,S] m) => (bool[B,S] y) { zero = Constant<value_int = 0>() y = Equal(m, zero) }",
    ],
    ids=["by name", "cast to bool", "one minus", "compared with zero"],
)
def test_masks_are_zeros_and_ones_that_pad_the_end_of_some_row(text: str) -> None:
    (mask,) = make_feeds(load(text), plan=FeedPlan(Sizing(batch=3, length=9))).values()
    assert mask.tolist() == [[1] * 9, [1] * 6 + [0] * 3, [1] * 9]


def test_an_image_that_is_inverted_is_no_mask() -> None:
    text = "g (float[2,3,8,8] x) => (float[2,3,8,8] y) { one = Constant<value_float = 1.0>() y = Sub(one, x) }"
    assert len(set(make_feeds(load(text))["x"].reshape(-1))) > 100


def test_a_dim_of_the_same_name_has_the_same_size_in_every_input() -> None:
    model = load("g (float[B,S] x, float[B,S,8] z, float[B] w) => (float[B] y) { y = Identity(w) }")
    shapes = [[feed_set.feeds[name].shape for name in "xzw"] for feed_set in feed_sets(model, count=3)]
    for x, z, w in shapes:
        assert x == z[:2] and w == x[:1] and z[2] == 8
    assert len({str(each) for each in shapes}) == 3


def test_declared_numbers_are_kept_and_scalars_have_no_dims() -> None:
    feeds = make_feeds(load("g (float[2,3] x, float s, uint8[4] u) => (float[2,3] y) { y = Mul(x, s) }"))
    assert [feeds[name].shape for name in "xsu"] == [(2, 3), (), (4,)]
    assert feeds["u"].dtype == np.uint8


def test_a_cache_and_its_mask_agree_on_the_total_length() -> None:
    text = """g (int64[batch,seq] input_ids, int64[batch,total] attention_mask, int64[batch,seq] position_ids,
               float[batch,4,past_len,8] past_key) => (float[batch,seq,4] y) { y = Gather(t, input_ids) }"""
    feeds = make_feeds(load(text, t=table(9)), plan=FeedPlan(SIZINGS[1]))
    past, new = feeds["past_key"].shape[2], feeds["input_ids"].shape[1]
    assert feeds["attention_mask"].shape[1] == past + new
    assert feeds["position_ids"][0].tolist() == list(range(past, past + new))


@pytest.mark.parametrize(
    "dim, size", [("2*batch", 6), ("past + seq", 12), ("batch - 1", 2), ("(seq + 1) // 2", 4), ("p2o.Dim.0", 5)]
)
def test_expressions_of_symbols_are_computed(dim: str, size: int) -> None:
    each = OpenInput("x", True, (dim,))
    binding = bind([each], Sizing())
    assert set(symbols(dim)) == set(binding.sizes)
    sizes = {"batch": 3, "past": 5, "seq": 7, "p2o.Dim.0": 5}
    assert Binding({symbol: sizes[symbol] for symbol in binding.sizes}).shape(each.dims) == (size,)


def test_dims_without_a_name_are_all_their_own() -> None:
    x = oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3, "?", "?"])
    y = oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = oh.make_graph([oh.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    feeds = make_feeds(ir.from_proto(oh.make_model(graph, ir_version=10)))
    assert feeds["x"].shape == (1, 3, 64, 96)


def runs(model: onnx.ModelProto, count: int = 3) -> list[dict[str, object]]:
    opened = open_session(model.SerializeToString())
    return [dict(each.feeds) for each in usable_feeds(opened, ir.from_proto(model), count=count)]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,6] x, int64[K] s) => (float[M] y) { y = Reshape(x, s) }",
        "g (float[2,6] x, int64[2] s) => (float[M,N] y) { y = Expand(x, s) }",
        "g (float[2,6] x, int64[2] s) => (float[M,N] y) { y = Tile(x, s) }",
        "g (int64[2] s) => (float[M,N] y) { y = ConstantOfShape(s) }",
        "g (int64 a, int64 b, int64 c) => (int64[N] y) { y = Range(a, b, c) }",
        "g (float[2,6] x, int64[1] k) => (float[2,K] v, int64[2,K] i) { v, i = TopK(x, k) }",
        "g (float[2,6] x, int64[2] s, int64[2] e) => (float[M,N] y) { y = Slice(x, s, e) }",
        "g (float[2,6] x, int64[4] p) => (float[M,N] y) { y = Pad(x, p) }",
        "g (int64[5] i, float[2] v, int64 d) => (float[5,D] y) { y = OneHot(i, d, v) }",
        "g (float[1,3,8,8] x, float[8] r, float[4] s) => (float[A,B,C,D] y) { y = Resize(x, r, s) }",
        "g (seq(float[2]) x) => (float[N] y) { y = ConcatFromSequence<axis = 0>(x) }",
        "g (optional(float[2]) x) => (float[2] y) { y = OptionalGetElement(x) }",
        "g (string[N] x) => (string[M] y) { y = Concat<axis = 0>(x, x) }",
        "g (int64[N] x, int64[N] z) => (int64[N] y) { y = Div(x, z) }",
        """g (int64 n, float[2] x) => (float[2] y) { c = Constant<value = bool {1}>()
           y = Loop(n, c, x) <body = b (int64 i, bool d, float[2] v) => (bool e, float[2] w) {
             e = Identity(d) w = Add(v, v) }> }""",
    ],
    ids=lambda text: next(op for op in text.split() if op.partition("(")[0].partition("<")[0][:1].isupper()),
)
def test_inputs_that_are_shapes_counts_and_axes_are_values_that_run(text: str) -> None:
    assert len(runs(proto(text))) == 3


def test_sizes_are_tried_until_the_model_runs() -> None:
    model = proto("g (float[N,H] x) => (float[N,4] y) { y = MatMul(x, w) }", w=np.ones((576, 4), np.float32))
    (feeds,) = runs(model, count=1)
    assert feeds["x"].shape[1] == 576


def test_a_size_that_would_have_to_grow_with_every_repair_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """g (int64[N] counts, float[N] x) => (float[M] y) {
        zero = Constant<value_int = 0>() one = Constant<value_int = 1>() four = Constant<value_int = 4>()
        m = Max(counts, four) s = ReduceSum<keepdims = 0>(m) r = Range(zero, s, one) f = Cast<to = 1>(r)
        y = Add(f, x) }"""
    sizes: list[int] = []
    run = Session.run

    def counting(session: Session, feeds: Feeds, *more: float | None) -> Outputs:
        sizes.append(len(np.asarray(feeds["x"])))
        return run(session, feeds, *more)

    monkeypatch.setattr(Session, "run", counting)
    parsed = proto(text)
    sets = usable_feeds(open_session(parsed.SerializeToString()), ir.from_proto(parsed))
    assert {len(np.asarray(each.feeds["x"])) for each in sets} == {1}
    assert max(sizes) < 256


def test_a_number_that_a_scalar_is_compared_with_is_what_it_gets() -> None:
    text = "g (int64 sr) => (bool y) { rate = Constant<value_int = 16000>() y = Equal(sr, rate) }"
    assert make_feeds(load(text))["sr"] == 16000


def test_values_without_nan_are_preferred() -> None:
    (feeds,) = runs(proto("g (float[64] x) => (float[64] y) { a = Log(x) y = Cast<to = 1>(a) }"), count=1)
    assert feeds["x"].min() > 0


def test_a_model_that_runs_on_nothing_says_what_to_do() -> None:
    text = """g (float[N] x) => (float[3] y, float[5] z) {
        s = Constant<value_ints = [3]>() t = Constant<value_ints = [5]>() y = Reshape(x, s) z = Reshape(x, t) }"""
    with pytest.raises(ir.ModelError, match=r"--inputs.*dim 'N' of input 'x' with --dim N=.*no-usable-inputs"):
        runs(proto(text))


def test_a_model_whose_inputs_have_no_shape_says_which_option_gives_one() -> None:
    text = "g (float[N] x) => (float[3] y) { y = Squeeze(x, a) }"
    model = proto(text, a=np.array([0, 1, 2, 3, 4, 5]))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ir.ModelError, match="input 'x' with --input-shape x:"):
        runs(model)


def test_overridable_initializers_are_not_given() -> None:
    model = proto("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", w=np.ones(2, np.float32))
    assert list(make_feeds(ir.from_proto(model))) == ["x"]


def test_the_same_seed_makes_the_same_inputs() -> None:
    model = load("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    one, two, other = (make_feeds(model, seed=seed)["x"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_user_s_own_come_first(tmp_path: Path) -> None:
    own = tmp_path / "own.npz"
    np.savez(own, x=np.ones(5, np.float32))
    model = load("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    first, *others = feed_sets(model, [own], count=3)
    assert first.description == "read from own.npz"
    np.testing.assert_array_equal(first.feeds["x"], np.ones(5, np.float32))
    assert len(others) == 2


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({}, "has no 'x'"),
        ({"x": np.ones((2, 3), np.float32), "y": np.ones(1)}, "has 'y'"),
        ({"x": np.ones((2, 3), np.float64)}, "float64"),
        ({"x": np.ones((2, 4), np.float32)}, "shape"),
        ({"x": np.ones(3, np.float32)}, "shape"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(ir.ModelError) as caught:
        read_feeds(path, load("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))
    assert caught.value.diagnostic.code == "inputs-do-not-fit"
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"no archive"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(ir.ModelError, match="inputs-do-not-fit"):
        read_feeds(path, load("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))


def test_plans_of_one_kind_of_dim_differ_between_symbols_unless_told_otherwise() -> None:
    inputs = [OpenInput("x", True, ("b", "s", 4)), OpenInput("z", True, ("b", "t", 4))]
    apart = bind(inputs, Sizing()).sizes
    together = bind(inputs, replace(Sizing(), apart=False)).sizes
    assert apart["s"] != apart["t"]
    assert together["s"] == together["t"]


@pytest.mark.parametrize("shift", [np.inf, -np.inf, np.nan])
def test_a_constant_that_is_no_number_is_no_offset_of_indices(shift: float) -> None:
    text = "g (float[2] x) => (float[2] y) { y = Add(x, c) }"
    model = ir.from_proto(proto(text, c=np.array([1.0, shift], np.float32)))
    assert make_feeds(model)["x"].shape == (2,)  # type: ignore[union-attr]


def test_inputs_are_written_whatever_they_are_called(tmp_path: Path) -> None:
    model = load(
        "g (float[2] file, float[2] allow_pickle, bfloat16[2] b) => (float[2] y) { y = Add(file, allow_pickle) }"
    )
    model.graph.inputs[1].name = "a/b:0.npy"
    feeds = make_feeds(model, seed=0)
    write_feeds(tmp_path / "inputs.npz", feeds)  # type: ignore[arg-type]
    found = read_feeds(tmp_path / "inputs.npz", model).feeds
    assert found.keys() == {"file", "a/b:0.npy", "b"}
    for name, array in feeds.items():
        assert np.asarray(found[name]).dtype == np.asarray(array).dtype
        assert np.asarray(found[name]).tobytes() == np.asarray(array).tobytes()


ATTENTION = """g (float[B,H,S,4] q, float[B,H,S,4] k, {mask}) => (float[B,H,S,S] p) {{
    t = Transpose<perm = [0,1,3,2]>(k) s = MatMul(q, t) {masked} p = Softmax(m) }}"""


def masks_of(text: str) -> list[np.ndarray]:
    return [np.asarray(feeds["mask"]) for feeds in runs(proto(text))]


def test_a_mask_that_is_added_to_scores_holds_zeros_and_what_stands_for_minus_infinity() -> None:
    text = ATTENTION.format(mask="float[B,1,S,S] mask", masked="m = Add(s, mask)")
    found = masks_of(text)
    lowest = np.finfo(np.float32).min
    assert set(np.unique(found[0])) == {0, lowest}
    np.testing.assert_array_equal(found[0][0, 0] == 0, np.tri(found[0].shape[-1], dtype=np.bool_))
    assert set(np.unique(found[1])) == {0, np.float32(-1e4), np.float32(-1e9)}
    assert (found[2][1] == lowest).all(), "a sample is masked wholly"


def test_boolean_masks_pad_either_side_and_hide_samples_wholly() -> None:
    text = ATTENTION.format(
        mask="bool[B,1,1,S] mask", masked="f = Constant<value_float = -10000.0>() m = Where(mask, s, f)"
    )
    _, mixed, extreme = masks_of(text)
    assert not mixed[0, 0, 0, 0] and mixed[0, 0, 0, -1]
    assert mixed[1, 0, 0, 0] and not mixed[1, 0, 0, -1]
    assert extreme[0].all() and not extreme[1].any()


def test_a_mask_that_hides_is_true_where_one_that_keeps_is_false() -> None:
    text = ATTENTION.format(
        mask="bool[B,1,1,S] mask", masked="f = Constant<value_float = -10000.0>() m = Where(mask, f, s)"
    )
    _, _, extreme = masks_of(text)
    assert not extreme[0].any() and extreme[1].all()


def test_a_sample_whose_results_are_no_numbers_is_not_masked_wholly() -> None:
    text = ATTENTION.format(
        mask="bool[B,1,1,S] mask",
        masked="o = Constant<value_float = -1.0>() z = Constant<value_float = 0.0>() f = Div(o, z) "
        "m = Where(mask, s, f)",
    )
    for each in runs(proto(text)):
        assert "not a number" not in str(each)


@pytest.mark.parametrize(
    "text, low, high",
    [
        ("g (float[N] x) => (float[N] y) { y = Log(x) }", 0.0, 10.0),
        ("g (float[N] x) => (float[N] y) { y = Acos(x) }", -1.0, 1.0),
        ("g (float[N] x) => (float[N] y) { h = Constant<value_float = 0.5>() y = Pow(x, h) }", 0.0, 10.0),
    ],
)
def test_numbers_are_within_what_their_operator_is_defined_for(text: str, low: float, high: float) -> None:
    for feeds in runs(proto(text)):
        assert low < np.asarray(feeds["x"]).min() and np.asarray(feeds["x"]).max() < high


def test_boxes_have_their_second_corner_beyond_the_first() -> None:
    text = """g (float[B,N,4] b, float[B,C,N] s) => (int64[K,3] y) {
        m = Constant<value_ints = [2]>() y = NonMaxSuppression(b, s, m) }"""
    for feeds in runs(proto(text)):
        boxes = np.asarray(feeds["b"])
        assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_the_indices_of_a_batch_are_within_it() -> None:
    text = "g (float[N,C,H,W] x, float[R,4] r, int64[R] b) => (float[R,C,P,Q] y) { y = RoiAlign(x, r, b) }"
    for feeds in runs(proto(text, '"": 16')):
        assert np.asarray(feeds["b"]).max() < np.shape(feeds["x"])[0]  # type: ignore[arg-type]
