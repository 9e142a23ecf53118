"""Outputs that hardly depend on what is computed for them: a wrong result is caught inside, a right one passes."""

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.ir.partition import CUT, cut_at, piece_inputs, same_piece
from optimize_graph.runtime import FeedSet, Verification, open_session, verify

RANDOM = np.random.default_rng(0)
W = (RANDOM.standard_normal((16, 16)) / 4).astype(np.float32)
X = RANDOM.standard_normal((4, 16)).astype(np.float32)


def proto(text: str, **weights: np.ndarray) -> bytes:
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return bytes(parsed.SerializeToString())


def checked(original: bytes, result: bytes, **feeds: np.ndarray) -> Verification:
    return verify(original, result, [FeedSet(feeds or {"x": X}, "given")])


def net(tail: str, output: str = "float[4,16] y", factor: str = "") -> str:
    """A product, a shift and `tail`, which computes y from z; with `factor`, a Mul by s between the first two."""
    product = f"p = MatMul(x, w)  m = Mul(p, {factor})" if factor else "m = MatMul(x, w)"
    return f"g (float[4,16] x) => ({output}) {{ {product}  z = Add(m, b)  {tail} }}"


LOW, HIGH = np.full(16, -25.0, np.float32), np.full(16, 40.0, np.float32)
ONE = np.where(np.arange(16) == 3, 60, 0).astype(np.float32)
CLIP = "l = Constant<value_float = 0.0>() h = Constant<value_float = 6.0>() y = Clip(z, l, h)"
WEAK = {
    "sigmoid near zero": (net("y = Sigmoid(z)"), LOW),
    "sigmoid at one": (net("y = Sigmoid(z)"), HIGH),
    "tanh at one": (net("y = Tanh(z)"), HIGH),
    "rectifier off": (net("y = Relu(z)"), LOW),
    "clip at its bound": (
        net("l = Constant<value_float = 0.0>() h = Constant<value_float = 6.0>() y = Clip(z, l, h)"),
        HIGH,
    ),
    "softmax of one class": (net("y = Softmax<axis = 1>(z)"), ONE),
    "a label alone": (net("y = ArgMax<axis = 1, keepdims = 0>(z)", "int64[4] y"), ONE),
    "a comparison alone": (net("t = Constant<value_float = 5.0>() y = Greater(z, t)", "bool[4,16] y"), HIGH),
}


@pytest.mark.parametrize("name", WEAK)
def test_a_wrong_product_before_an_output_that_hides_it_is_caught(name: str) -> None:
    text, bias = WEAK[name]
    original = proto(text, w=W, b=bias)
    found = checked(original, proto(text, w=W * np.float32(1.5), b=bias))
    assert not found.ok and found.weak
    assert "the outputs hardly depend on what is computed for them" in found.problem
    assert checked(original, original).ok


@pytest.mark.parametrize("name", WEAK)
def test_a_right_rewrite_before_an_output_that_hides_it_is_confirmed_inside(name: str) -> None:
    text, bias = WEAK[name]
    tail = text[text.index("z = Add(m, b)") + len("z = Add(m, b)") : -1]
    output = text[text.index("=> (") + 4 : text.index(") {")]
    original = proto(net(tail, output, factor="s"), w=W, b=bias, s=np.array(0.7, np.float32))
    found = checked(original, proto(text, w=W * np.float32(0.7), b=bias))
    assert found.ok, found.summary()
    assert "compared at inner values, too" in found.summary()


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_product_that_its_bias_outweighs_is_compared_on_large_values(factor: float) -> None:
    tiny = W * np.float32(1e-10)
    original = proto("g (float[4,16] x) => (float[4,16] y) { y = Gemm(x, w, b) }", w=tiny, b=HIGH)
    text = "g (float[4,16] x) => (float[4,16] y) { half = Mul(x, s)  y = Gemm(half, w, b) }"
    result = proto(text, w=tiny * np.float32(2 * factor), s=np.array(0.5, "f4"), b=HIGH)
    assert checked(original, result).ok == (factor == 1.0)


def test_what_scaled_values_show_to_be_another_function_is_not_confirmed() -> None:
    text = net("h = Relu(z)  y = Sigmoid(h)")
    found = checked(
        proto(text, w=W, b=LOW), proto(net("h = Mul(z, k)  y = Sigmoid(h)"), w=W, b=LOW, k=np.array(0, "f4"))
    )
    assert not found.ok


PHASE = """g (float[1,400] x) => (float[1,400] y) <int64 axis = {1}, float turn = {400.0}> {
    c = CumSum(x, axis)  q = Mul(c, c)  p = Mul(q, turn)  o = Sin(p)  e = Mul(o, s)  y = FILTER }"""


def test_a_chaotic_output_may_not_move_visibly_whatever_its_noise_is() -> None:
    x = np.abs(RANDOM.standard_normal((1, 400))).astype(np.float32)
    plain = PHASE.replace("FILTER", "Neg(e)")
    original = proto(plain, s=np.array(0.5, np.float32))
    assert checked(original, original, x=x).ok
    moved = plain.replace("q = Mul(c, c)  p = Mul(q, turn)", "r = Mul(c, turn)  p = Mul(r, c)")
    found = checked(original, proto(moved, s=np.array(0.5, np.float32)), x=x)
    assert not found.ok and found.weak
    after = plain.replace("e = Mul(o, s)  y = Neg(e)", "y = Mul(o, s)")
    found = checked(original, proto(after, s=np.array(-0.5, np.float32)), x=x)
    assert found.ok, found.summary()
    found = checked(original, proto(after, s=np.array(-0.75, np.float32)), x=x)
    assert not found.ok


def test_models_are_cut_where_their_values_are_given() -> None:
    model = ir.from_proto(proto("g (float[2] x) => (float[2] y, float[2] z) { a = Neg(x)  y = Exp(a)  z = Abs(y) }"))
    cut = cut_at(model, {"a": (ir.DataType.FLOAT, [2]), "y": (ir.DataType.FLOAT, [2])})
    x, a, y = (np.array(each, np.float32) for each in ([1, 2], [0, 0], [-3, 4]))
    found = open_session(cut).run({"x": x, "a": a, "y": y})
    assert np.array_equal(found[f"a{CUT}"], -x)
    assert np.array_equal(found[f"y{CUT}"], np.ones(2, np.float32))
    assert np.array_equal(found["z"], np.array([3, 4], np.float32))
    z = model.graph.outputs[1]
    assert {value.name for value in piece_inputs(z, {"a"})} == {"a"}
    assert {value.name for value in piece_inputs(z, ())} == {"x"}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("a = Neg(x)  y = Concat<axis = 0>(a, c)", True),
        ("b = Neg(x)  y = Concat<axis = 0>(b, c)", True),  # a name of a value that is not cut means nothing
        ("a = Neg(x)  y = Concat<axis = -1>(a, c)", False),
        ("a = Abs(x)  y = Concat<axis = 0>(a, c)", False),
        ("a = Neg(x)  y = Concat<axis = 0>(c, a)", False),
    ],
)
def test_a_piece_is_the_same_when_its_operators_and_constants_are(other: str, same: bool) -> None:
    texts = ("a = Neg(x)  y = Concat<axis = 0>(a, c)", other)
    one, two = (ir.from_proto(proto(f"g (float[2] x) => (float[4] y) {{ {t} }}", c=W[0, :2])) for t in texts)
    assert same_piece(one.graph.outputs[0], two.graph.outputs[0], ()) is same
    third = ir.from_proto(proto(f"g (float[2] x) => (float[4] y) {{ {other} }}", c=W[1, :2]))
    assert not same_piece(one.graph.outputs[0], third.graph.outputs[0], ())
