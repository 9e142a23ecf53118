"""Passes for the blocked layout: a convolution for each piece, 1-D convolutions as 2-D, whole blocks of channels."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from optimize_graph import ir
from optimize_graph.passes import Pipeline, PipelineResult, Settings, Target, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX text; constants that are declared without content get seeded data."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    random = np.random.default_rng(0)
    made = {name for node in proto.graph.node for name in node.output}
    for value in [each for each in proto.graph.value_info if each.name not in made]:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        content = random.normal(size=dims) / np.sqrt(max(1, int(np.prod(dims[1:]))))
        proto.graph.initializer.append(numpy_helper.from_array(content.astype(np.float32), value.name))
        proto.graph.value_info.remove(value)
    onnx.checker.check_model(proto)
    return proto


def run(
    proto: onnx.ModelProto, name: str, target: str = "ort-cpu", blocks: tuple[int, ...] = (16,)
) -> tuple[ir.Model, PipelineResult]:
    model = ir.from_proto(proto)
    report = Pipeline.parse(f"{name},dce").run(
        model, [VerifyEach()], settings=Settings(Target(target, nchwc_blocks=blocks))
    )
    return model, report


def nodes(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


def weights(model: ir.Model) -> list[tuple[int, ...]]:
    """The dims of the weights of the convolutions, in the order of the graph."""
    found = []
    for node in ir.nodes(model):
        if node.op_type in ("Conv", "ConvTranspose"):
            tensor = ir.constant_tensor(node.inputs[1]) if node.inputs[1] is not None else None
            assert tensor is not None
            found.append(tuple(int(dim) for dim in tensor.shape))
    return found


def assert_same(before: onnx.ModelProto, model: ir.Model) -> None:
    options = SessionOptions(optimize=True)
    feeds = make_feeds(ir.from_proto(before), seed=0)
    wanted = open_session(before.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    assert wanted.keys() == given.keys()
    for name, value in wanted.items():
        assert np.asarray(value).shape == np.asarray(given[name]).shape
        np.testing.assert_allclose(np.asarray(given[name]), np.asarray(value), rtol=1e-4, atol=1e-5)


def assert_unchanged(text: str, name: str, target: str = "ort-cpu") -> PipelineResult:
    before = parse(text)
    untouched, _ = run(before, "dce", target)
    model, report = run(before, name, target)
    assert ir.text(model, canonical=True) == ir.text(untouched, canonical=True)
    return report


# --- a convolution for each piece -------------------------------------------------------------------------------------

SWISH = (
    "g (float[1,3,4,4] x) => (float[1,16,4,4] a, float[1,32,4,4] b) <float[48,3,1,1] w, float[48] v, "
    "int64[2] sizes = {16, 32}> "
    "{ c = Conv(x, w, v)  s = Sigmoid(c)  m = Mul(c, s)  a, b = Split<axis = 1>(m, sizes) }"
)


def test_each_piece_of_a_split_convolution_is_computed_from_its_own_weights() -> None:
    before = parse(SWISH)
    model, _ = run(before, "split-conv")
    assert nodes(model) == ["Conv", "Sigmoid", "Mul", "Conv", "Sigmoid", "Mul"]
    assert weights(model) == [(16, 3, 1, 1), (32, 3, 1, 1)]
    assert_same(before, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Split<axis = 1>(m, sizes) }", "Split<axis = 1>(m, sizes)  z = Exp(c) }"),  # another user
        ("Mul(c, s)", "Mul(x1, s)"),  # not of one convolution
        ("s = Sigmoid(c)", "s = Softmax(c)"),  # not element by element
        ("{16, 32}", "{47, 1}"),  # in whole blocks, a third more to compute
    ],
)
def test_a_split_convolution_stays_where_pieces_are_not_free(old: str, new: str) -> None:
    text = SWISH.replace(old, new)
    if "Exp" in new:
        text = text.replace("float[1,32,4,4] b)", "float[1,32,4,4] b, float[1,48,4,4] z)")
    if "x1" in new:
        text = text.replace("(float[1,3,4,4] x)", "(float[1,3,4,4] x, float[1,48,4,4] x1)")
    if "47" in new:
        text = text.replace("[1,16,4,4] a", "[1,47,4,4] a").replace("[1,32,4,4] b", "[1,1,4,4] b")
    assert_unchanged(text, "split-conv")


def test_another_target_keeps_the_convolution_before_its_split() -> None:
    assert_unchanged(SWISH, "split-conv", target="onnx")


# --- 1-D convolutions -------------------------------------------------------------------------------------------------

CONV_1D = (
    "g (float[1,16,L] x, float[1,16,L] z) => (float[1,16,L] y) "
    "<float[16,16,3] w, float[16] b, float[16,16,5] v, float[16,1] t> "
    "{ c = Conv<pads = [1, 1]>(x, w, b)  r = LeakyRelu(c)  s = Add(r, t)  "
    "d = Conv<pads = [4, 4], dilations = [2], kernel_shape = [5]>(s, v)  y = Add(d, z) }"
)


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_a_chain_of_1d_convolutions_works_on_images(opset: int) -> None:
    before = parse(CONV_1D, opset)
    model, _ = run(before, "conv1d-to-conv2d")
    assert sorted(nodes(model)) == sorted(
        ["Unsqueeze", "Conv", "LeakyRelu", "Add", "Conv", "Unsqueeze", "Add", "Squeeze"]
    )
    assert weights(model) == [(16, 16, 1, 3), (16, 16, 1, 5)]
    assert_same(before, model)


def test_pools_and_transposed_convolutions_between_go_along() -> None:
    text = (
        "g (float[1,16,32] x) => (float[1,16,32] y) <float[16,16,3] w, float[16,16,4] u, float[16,16,1] v> "
        "{ c = Conv<pads = [1, 1]>(x, w)  m = MaxPool<kernel_shape = [2], strides = [2]>(c)  "
        "t = ConvTranspose<strides = [2], pads = [1, 1]>(m, u)  y = Conv(t, v) }"
    )
    before = parse(text)
    model, _ = run(before, "conv1d-to-conv2d")
    assert nodes(model) == ["Unsqueeze", "Conv", "MaxPool", "ConvTranspose", "Conv", "Squeeze"]
    assert weights(model) == [(16, 16, 1, 3), (16, 16, 1, 4), (16, 16, 1, 1)]
    assert_same(before, model)


def test_what_others_read_of_a_chain_becomes_a_sound_again() -> None:
    text = CONV_1D.replace("=> (float[1,16,L] y)", "=> (float[1,16,L] y, float[1,16,L] r)")
    before = parse(text)
    model, _ = run(before, "conv1d-to-conv2d")
    assert nodes(model).count("Squeeze") == 2
    assert_same(before, model)


def test_short_convolutions_of_few_channels_stay_as_they_are() -> None:
    model, report = run(parse(CONV_1D.replace("float[1,16,L]", "float[1,16,8]")), "conv1d-to-conv2d")
    assert "Unsqueeze" not in nodes(model)
    assert [each.because for each in report.missed if each.is_profit] == ["10240"]


def test_a_convolution_alone_stays_one_dimensional() -> None:
    text = "g (float[1,16,8] x) => (float[1,16,8] y) <float[16,16,1] w> { c = Conv(x, w)  y = Relu(c) }"
    (miss,) = assert_unchanged(text, "conv1d-to-conv2d").missed
    assert miss.condition == "a chain of 2 convolutions"


@pytest.mark.parametrize("channels", [8, 20, 17])
def test_ragged_channels_stay_one_dimensional(channels: int) -> None:
    assert_unchanged(CONV_1D.replace("16", str(channels)), "conv1d-to-conv2d")


# --- whole blocks of channels -----------------------------------------------------------------------------------------

POOLED = (
    "g (float[1,3,6,6] x) => (float[1,48,3,3] y) "
    "<float[28,3,3,3] w, float[28] b, float[28,1,1] s, float[28,1,3,3] d, float[48,28,3,3] v> "
    "{ c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  r = Sigmoid(c)  m = Mul(r, s)  "
    "e = Conv<pads = [1, 1, 1, 1], group = 28>(m, d)  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e)  "
    "y = Conv<pads = [1, 1, 1, 1]>(p, v) }"
)


def test_channels_that_are_pooled_fill_whole_blocks() -> None:
    before = parse(POOLED)
    model, report = run(before, "pad-conv-channels")
    assert weights(model) == [(32, 3, 3, 3), (32, 1, 3, 3), (48, 32, 3, 3)]
    assert nodes(model) == ["Conv", "Sigmoid", "Mul", "Conv", "MaxPool", "Conv"]
    assert_same(before, model)
    again, second = run(ir.to_proto(model), "pad-conv-channels")
    assert report.log.by_rule()["pad-conv-channels"] == 1
    assert not second.log.by_rule()
    assert weights(again) == weights(model)


def test_a_squeeze_and_excitation_is_filled_on_both_ways() -> None:
    text = (
        "g (float[1,3,6,6] x) => (float[1,16,6,6] y) "
        "<float[24,3,1,1] w, float[8,24,1,1] d, float[24,8,1,1] e, float[24] f, float[16,24,1,1] v> "
        "{ c = Conv(x, w)  a = GlobalAveragePool(c)  q = Conv(a, d)  r = Relu(q)  u = Conv(r, e, f)  "
        "h = HardSigmoid(u)  m = Mul(c, h)  y = Conv(m, v) }"
    )
    before = parse(text)
    model, _ = run(before, "pad-conv-channels")
    assert weights(model) == [(32, 3, 1, 1), (16, 32, 1, 1), (32, 16, 1, 1), (16, 32, 1, 1)]
    assert_same(before, model)


def test_a_convolution_that_is_both_ends_is_filled_on_both_sides() -> None:
    text = (
        "g (float[1,3,6,6] x) => (float[1,16,1,1] y) <float[12,3,1,1] w, float[12,12,1,1] u, float[12] b, "
        "float[16,12,1,1] v> { c = Conv(x, w)  d = Conv(c, u, b)  s = Add(c, d)  p = GlobalAveragePool(s)  "
        "y = Conv(p, v) }"
    )
    before = parse(text)
    model, _ = run(before, "pad-conv-channels")
    assert weights(model) == [(16, 3, 1, 1), (16, 16, 1, 1), (16, 16, 1, 1)]
    assert_same(before, model)


def test_a_normalization_between_gets_a_variance_of_one() -> None:
    text = (
        "g (float[1,3,6,6] x) => (float[1,16,1,1] y) <float[12,3,1,1] w, float[12] m, float[12] n, "
        "float[12] o = {1,1,1,1,1,1,1,1,1,1,1,1}, float[16,12,1,1] v> "
        "{ c = Conv(x, w)  r = Relu(c)  b = BatchNormalization<epsilon = 0.0>(r, m, n, m, o)  "
        "p = GlobalAveragePool(b)  y = Conv(p, v) }"
    )
    before = parse(text)
    model, _ = run(before, "pad-conv-channels")
    assert weights(model) == [(16, 3, 1, 1), (16, 16, 1, 1)]
    assert_same(before, model)


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        ("r = Sigmoid(c)", "r = Softmax<axis = 1>(c)", "Softmax 'r'"),  # mixes the channels
        ("m = Mul(r, s)", "m = Mul(r, t)", "Mul 'm'"),  # a constant for each column
        ("group = 28>(m, d)", "group = 14>(m, d2)", "Conv 'e'"),  # groups of two
    ],
)
def test_channels_stay_where_something_between_would_mix_them(old: str, new: str, because: str) -> None:
    text = POOLED.replace(old, new).replace("float[28] b,", "float[28] b, float[6] t, float[28,2,3,3] d2,")
    (miss,) = assert_unchanged(text, "pad-conv-channels").missed
    assert (miss.condition, miss.because) == ("a region that can be padded", because)


def test_channels_stay_where_a_caller_reads_them() -> None:
    text = POOLED.replace("y) <", "y, float[1,28,6,6] r) <")
    (miss,) = assert_unchanged(text, "pad-conv-channels").missed
    assert miss.because == "'r' crosses the boundary of the graph"


@pytest.mark.parametrize("channels", [4, 32])
def test_channels_that_would_more_than_double_stay_and_so_do_whole_blocks(channels: int) -> None:
    assert_unchanged(POOLED.replace("28", str(channels)), "pad-conv-channels")


def test_channels_before_windows_grow_by_a_quarter_at_most() -> None:
    assert_unchanged(POOLED.replace("28", "24"), "pad-conv-channels")


@pytest.mark.parametrize(
    ("channels", "blocks", "filled"),
    [
        (28, (16,), 32),
        (28, (8,), 32),
        (24, (8,), 24),
        (20, (8,), 24),
        (10, (8,), 16),
        (10, (16,), 10),
        (28, (8, 16), 32),  # where the CPU is not known, what suits blocks of 8 and of 16
        (24, (8, 16), 24),
        (20, (8, 16), 20),
        (10, (8, 16), 10),
    ],
)
def test_blocks_are_those_of_the_target_cpu(channels: int, blocks: tuple[int, ...], filled: int) -> None:
    before = parse(POOLED.replace("28", str(channels)))
    model, _ = run(before, "pad-conv-channels", blocks=blocks)
    assert weights(model)[0][0] == weights(model)[2][1] == filled
    assert_same(before, model)


def test_channels_in_fours_that_nothing_pools_stay() -> None:
    text = (
        "g (float[1,3,6,6] x) => (float[1,16,6,6] y) <float[28,3,1,1] w, float[16,28,1,1] v> "
        "{ c = Conv(x, w)  r = Relu(c)  y = Conv(r, v) }"
    )
    assert_unchanged(text, "pad-conv-channels")


def test_another_target_keeps_its_channels() -> None:
    assert_unchanged(POOLED, "pad-conv-channels", target="onnx")


ROOTED = (
    "g (float[1,3,6,6] x) => (float[1,16,6,6] y) <float[30,3,1,1] w, float[16,30,1,1] v, float z = {0}, float s = {3}> "
    "{ c = Conv(x, w)  m = Mul(c, c)  r = Sqrt(m)  y = Conv(r, v) }"
)


def test_a_root_of_nothing_is_nothing_and_may_be_filled() -> None:
    before = parse(ROOTED)
    model, _ = run(before, "pad-conv-channels")
    assert weights(model) == [(32, 3, 1, 1), (16, 32, 1, 1)]
    assert_same(before, model)


@pytest.mark.parametrize(
    "between",
    [
        "a = Add(c, s)  m = Mul(a, c)  ",
        "h = HardSigmoid(c)  a = Mul(h, s)  m = Mul(a, c)  ",
        "a = LeakyRelu<alpha = 4.0>(c)  m = Mul(a, c)  ",
        "a = Clip(c, z, s)  m = Mul(a, c)  ",
    ],
)
def test_what_is_finite_times_nothing_is_nothing(between: str) -> None:
    before = parse(ROOTED.replace("m = Mul(c, c)  ", between))
    model, _ = run(before, "pad-conv-channels")
    assert weights(model) == [(32, 3, 1, 1), (16, 32, 1, 1)]
    assert "Sqrt" in nodes(model)


@pytest.mark.parametrize(
    "between",
    [
        "m = Sigmoid(c)  ",  # its root is finite, and its operand unknown
        "a = Add(c, s)  m = Mul(a, a)  ",
        "a = Clip(c, s)  m = Mul(a, a)  ",
        "a = Add(c, big)  b = Mul(a, big)  m = Mul(b, c)  ",  # 1e60 is none of float32
    ],
)
def test_new_channels_that_may_be_infinite_are_not_made(between: str) -> None:
    text = ROOTED.replace("m = Mul(c, c)  ", between).replace("float z", "float big = {1e30}, float z")
    (miss,) = assert_unchanged(text, "pad-conv-channels").missed
    assert miss.condition == "finite numbers in the new channels"
