"""Convolutions by Winograd's minimal filtering: equal to the plain ones, and only where that is expected to pay."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import Pipeline, PipelineResult, Settings, Target, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

NAME = "decompose-conv-winograd"


def conv(
    size: tuple[int, int] = (16, 12),
    window: tuple[int, int] = (3, 3),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    channels: tuple[int, int] = (16, 32),
    *,
    activation: str = "",
    bias: bool = True,
    opset: int = 17,
    batch: int | str = "n",
    weight: float | None = None,
) -> onnx.ModelProto:
    """A convolution of images of `size` over `channels` (in, out); with `weight` as its largest, if one is given."""
    random = np.random.default_rng(3)
    scale = 1 / np.sqrt(channels[0] * window[0] * window[1])
    weights = random.normal(size=(channels[1], channels[0], *window)) * scale
    if weight is not None:
        weights *= weight / np.abs(weights).max()
    constants = {"w": weights.astype(np.float32), "b": random.normal(size=channels[1]).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"][: 2 + bias], ["c" if activation else "y"], pads=pads)]
    if activation == "Clip":
        constants |= {"low": np.float32(-0.25), "high": np.float32(0.5)}
        nodes.append(helper.make_node("Clip", ["c", "low", "high"], ["y"]))
    elif activation:
        attributes = {"alpha": 0.2} if activation == "LeakyRelu" else {}
        nodes.append(helper.make_node(activation, ["c"], ["y"], **attributes))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels[0], *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, channels[1], "h", "w"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto


def run(proto: onnx.ModelProto, settings: Settings) -> tuple[ir.Model, PipelineResult]:
    model = ir.from_proto(proto)
    report = Pipeline.parse("ort-algorithms,constant-fold,dedup-initializers,cse,dce").run(
        model, [VerifyEach()], settings=settings
    )
    return model, report


def fires(proto: onnx.ModelProto, threads: tuple[int, int]) -> bool:
    return NAME in run(proto, Settings(Target(threads=threads)))[1].log.by_rule()


def refused(proto: onnx.ModelProto) -> str:
    """The condition that did not hold, wherever it would pay."""
    report = run(proto, Settings(force=frozenset({NAME})))[1]
    return next((each.condition for each in report.log.missed if each.rule == NAME), "")


def error(before: onnx.ModelProto, model: ir.Model) -> float:
    """The largest difference, as a share of the largest result; with everything that ONNX Runtime does itself."""
    feeds = make_feeds(ir.from_proto(before), seed=0)
    wanted, given = (
        np.asarray(open_session(each.SerializeToString(), SessionOptions(optimize=True)).run(feeds)["y"])
        for each in (before, ir.to_proto(model))
    )
    assert (wanted.dtype, wanted.shape) == (given.dtype, given.shape)
    return float(np.abs(wanted - given).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("height", "window", "pads"),
    [
        *product((5, 6, 7, 8, 9), [(3, 3)], [(1, 1, 1, 1), (0, 0, 0, 0), (2, 0, 0, 1), (0, 1, 2, 2)]),
        *product((7, 8), [(3, 1), (3, 5), (5, 5), (5, 1)], [(0, 0, 0, 0), (2, 1, 1, 0), (1, 0, 2, 2)]),
    ],
)
def test_every_window_height_and_padding_gives_the_same(
    height: int, window: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    before = conv((height, 9), window, pads)
    model, report = run(before, Settings(force=frozenset({NAME})))
    assert NAME in report.log.by_rule()
    assert error(before, model) < 1e-5


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "HardSwish", "Clip"])
def test_an_activation_is_done_on_the_phases_where_it_is_fused(activation: str) -> None:
    before = conv(activation=activation)
    model, _ = run(before, Settings(force=frozenset({NAME})))
    kinds = [node.op_type for node in ir.nodes(model)]
    assert kinds.count(activation) == 4
    assert kinds[-2:] == ["Concat", "Reshape"]
    assert error(before, model) < 1e-5


@pytest.mark.parametrize("opset", [8, 10, 11, 13, 21])
def test_it_is_written_in_the_operators_of_the_opset(opset: int) -> None:
    before = conv((18, 12), opset=opset, bias=False)
    model, report = run(before, Settings(force=frozenset({NAME})))
    assert NAME in report.log.by_rule()
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert error(before, model) < 1e-5


def test_more_threads_want_larger_convolutions() -> None:
    """They share the memory that the weights come from, and wait for each other at every operator."""
    small, medium, large = (
        conv((size, size), channels=(channels, channels)) for size, channels in ((28, 64), (14, 192), (64, 64))
    )
    assert [fires(each, (1, 1)) for each in (small, medium, large)] == [True, True, True]
    assert [fires(each, (1, 4)) for each in (small, medium, large)] == [False, False, True]
    assert [fires(each, (1, 64)) for each in (small, medium, large)] == [False, False, False]


def test_images_that_no_cache_holds_want_more_channels() -> None:
    """What is moved comes from memory then, which several threads share."""
    few, many = (conv((320, 320), channels=(channels, channels), batch=1) for channels in (32, 128))
    assert [fires(each, (1, 1)) for each in (few, many)] == [False, True]
    middle = conv((320, 320), channels=(64, 64), batch=1)
    assert [fires(middle, threads) for threads in ((1, 1), (4, 4), (1, 4))] == [True, False, False]


def test_many_images_at_once_fill_the_cache_as_large_ones_do() -> None:
    one, many, any_number = (conv((112, 112), channels=(32, 32), batch=batch) for batch in (1, 32, "n"))
    assert [fires(each, (1, 1)) for each in (one, many, any_number)] == [True, False, False]


def test_results_without_kernels_or_without_users_are_left_alone() -> None:
    assert [refused(conv(pads=pads)) for pads in ((-1, 0, 0, 0), (1, -1, 1, 1))] == [
        "explicit pads, less than the window"
    ] * 2
    assert refused(conv(batch=0)) == "an image of known size"  # ONNX Runtime cannot make it a view of nothing


@pytest.mark.parametrize("window", [(3, 3), (5, 5)])
def test_weights_whose_sums_are_no_numbers_are_left_alone(window: tuple[int, int]) -> None:
    assert refused(conv(window=window, weight=3e38)) == "finite weights, also when half as large again"
    assert refused(conv(window=window, weight=1e38)) == ""


def test_a_quantizer_in_the_model_keeps_the_convolution() -> None:
    """The smallest rounding may become a whole step."""
    proto = conv((28, 28), channels=(64, 64))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.02), "step"))
    proto.graph.node.append(helper.make_node("QuantizeLinear", ["y", "step"], ["q"]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("q", TensorProto.UINT8, ["n", 64, "h", "w"]))
    _, report = run(proto, Settings(Target(threads=(1, 1))))
    assert not report.log.by_rule()
    assert [each.condition for each in report.log.missed] == ["no quantizer in the model"]


def test_rows_that_see_no_infinity_may_become_nan_with_those_that_do() -> None:
    """As the rule says: 4 or 8 rows, in place of the 3 that see it."""
    before = conv((16, 12), batch=1)
    model, _ = run(before, Settings(force=frozenset({NAME})))
    after = open_session(ir.to_proto(model).SerializeToString(), SessionOptions())
    feeds = make_feeds(ir.from_proto(before), seed=0)
    spoiled = {}
    for row in (9, 12):
        x = np.array(feeds["x"])
        x[0, 0, row, 5] = np.inf
        y = np.asarray(after.run({"x": x})["y"])
        spoiled[row] = sorted({int(place[2]) for place in np.argwhere(~np.isfinite(y))})
    assert spoiled == {9: [8, 9, 10, 11], 12: [8, 9, 10, 11, 12, 13, 14, 15]}


def test_the_command_is_told_how_many_threads_there_will_be() -> None:
    proto = conv((28, 28), channels=(64, 64))
    assert NAME not in {each.rule for each in optimize(proto).rewrites}
    alone = optimize(proto, options=Options(threads=1))
    assert NAME in {each.rule for each in alone.rewrites}
    assert alone.verification is not None and alone.verification.ok


def test_results_for_the_own_number_of_threads_do_not_depend_on_the_machine() -> None:
    proto = conv((28, 28), channels=(64, 64))
    assert NAME not in {each.rule for each in optimize(proto, options=Options(threads=0, verify=False)).rewrites}


def test_the_result_is_left_as_it_is_when_it_comes_again() -> None:
    proto = conv((28, 28), channels=(64, 64), activation="Relu")
    once = optimize(proto, options=Options(threads=1))
    assert NAME in {each.rule for each in once.rewrites}
    assert not optimize(once.model, options=Options(threads=1)).rewrites


@pytest.mark.parametrize(("rows", "user"), [(28, "Flatten(c)"), (30, "Slice(c, start, end, axis)")])
def test_the_user_of_the_result_is_merged_with_its_last_operator_at_once(rows: int, user: str) -> None:
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 64, {rows}, 28] x, float[64, 64, 3, 3] w) => (float y)
        <int64[1] start = {{1}}, int64[1] end = {{9}}, int64[1] axis = {{2}}>
        {{ c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = {user} }}""")
    weights = np.random.default_rng(3).normal(size=(64, 64, 3, 3)) / 24
    proto.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), "w"))
    del proto.graph.input[1]
    once = optimize(proto, options=Options(threads=1))
    assert NAME in {each.rule for each in once.rewrites}
    assert not optimize(once.model, options=Options(threads=1)).rewrites
