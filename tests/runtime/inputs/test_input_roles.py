"""Contents of made inputs by what a model does with them, beside the near miss that is something else."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import SessionOptions, make_feeds, open_session, usable_feeds
from optimize_graph.runtime.inputs.feed_plans import SIZINGS, FeedPlan
from optimize_graph.runtime.inputs.input_roles import Role, usage_of

HEADER = '<ir_version: 10, opset_import: ["": 20]>'
ROLES = {
    "angle": (Role.ANGLE, "g (float[N,4] x) => (float[N,4] y) { y = Sin(x) }"),
    "angle times frequencies": (
        Role.PLAIN,
        "g (float[N,4] x, float[4] f) => (float[N,4] y) { m = Mul(x, f) y = Cos(m) }",
    ),
    "angle of a root": (Role.POSITIVE, "g (float[N,4] x) => (float[N,4] y) { s = Sqrt(x) c = Cos(x) y = Add(s, c) }"),
    "image over 255": (
        Role.PIXELS,
        "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { d = Constant<value = float {255.0}>() y = Div(x, d) }",
    ),
    "image times 1 / 255": (
        Role.PIXELS,
        "g (float[1,8,8,3] x) => (float[1,3,8,8] y) "
        "{ d = Constant<value = float {0.003921569}>() t = Transpose<perm = [0,3,1,2]>(x) y = Mul(d, t) }",
    ),
    "a number over 2": (
        Role.PLAIN,
        "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { d = Constant<value = float {2.0}>() y = Div(x, d) }",
    ),
    "255 over a number": (
        Role.POSITIVE,
        "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { d = Constant<value = float {255.0}>() y = Div(d, x) }",
    ),
    "durations": (
        Role.DURATION,
        "g (int64[N] x) => (int64[N] y) { a = Constant<value = int64 {0}>() y = CumSum(x, a) }",
    ),
    "numbers that are summed": (
        Role.PLAIN,
        "g (float[N] x) => (float[N] y) { a = Constant<value = int64 {0}>() y = CumSum(x, a) }",
    ),
    "a mask that is summed": (
        Role.MASK,
        "g (int64[N,8] attention_mask) => (int64[N,8] y) { a = Constant<value = int64 {1}>() "
        "y = CumSum(attention_mask, a) }",
    ),
}


def proto(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER} {text}")


@pytest.mark.parametrize("name", ROLES)
def test_an_input_has_the_role_that_its_users_give_it(name: str) -> None:
    role, text = ROLES[name]
    model = ir.from_proto(proto(text))
    assert usage_of(model.graph.inputs[0], model).role is role


def made(text: str, **plan: object) -> dict[str, np.ndarray]:
    model = ir.from_proto(proto(text))
    return {name: np.asarray(each) for name, each in make_feeds(model, plan=FeedPlan(SIZINGS[1], **plan)).items()}  # type: ignore[arg-type]


def test_angles_go_beyond_one_turn() -> None:
    (x,) = made("g (float[400,4] x) => (float[400,4] y) { y = Sin(x) }").values()
    assert 0.8 < np.mean(np.abs(x) <= np.pi) < 1
    assert 4 * np.pi < np.abs(x).max() <= 8 * np.pi


@pytest.mark.parametrize(
    "text",
    [
        "g (uint8[1,64,64,3] x) => (float[1,64,64,3] y) { y = Cast<to = 1>(x) }",
        "g (float[1,3,64,64] x) => (float[1,3,64,64] y) { d = Constant<value = float {255.0}>() y = Div(x, d) }",
    ],
)
def test_images_have_the_range_of_bytes_and_neighbours_that_are_alike(text: str) -> None:
    (x,) = made(text).values()
    pixels = x.astype(np.float64)
    assert pixels.min() == 0 and pixels.max() == 255
    rows = pixels if x.dtype == np.uint8 else pixels.transpose(0, 2, 3, 1)
    assert np.abs(np.diff(rows, axis=1)).mean() < 0.5 * np.abs(rows - rows.mean()).mean()
    assert len(np.unique(pixels)) > 100


DURATIONS = """g (int64[N] notes, int64[M] phones) => (int64[T] y) {
    zero = Constant<value = int64 {0}>() one = Constant<value = int64 {1}>() ends = CumSum(notes, zero)
    last = Constant<value_ints = [-1]>() all = Gather<axis = 0>(ends, last) total = Squeeze(all)
    starts = CumSum<exclusive = 1>(phones, zero) frames = Range(zero, total, one)
    y = Gather<axis = 0>(frames, starts)
}"""


@pytest.mark.parametrize("values", ["normal", "unit", "ones"])
def test_durations_of_several_inputs_add_up_to_the_same_total(values: str) -> None:
    notes, phones = made(DURATIONS, values=values).values()
    assert notes.sum() == phones.sum() >= 8
    assert notes.min() > 0 and phones.min() > 0
    assert values == "normal" or np.ptp(notes[:-1]) == 0


def test_positions_computed_from_durations_of_another_input_are_within_its_frames() -> None:
    model = proto(DURATIONS)
    session = open_session(model.SerializeToString(), SessionOptions(optimize=False))
    sets = usable_feeds(session, ir.from_proto(model))
    assert len(sets) == 3
    assert len({np.asarray(each.feeds["notes"]).tobytes() for each in sets}) == 3
