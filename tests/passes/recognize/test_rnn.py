"""A loop over a sequence whose turns are steps of a recurrent network becomes its operator; other loops stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from optimize_graph import ir
from optimize_graph.passes import Pipeline, Settings, Target, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

SHAPES = {
    "w": (2, 12), "r": (3, 12), "b": (12,), "w1": (2, 3), "r1": (3, 3), "b1": (3,), "b2": (3,), "xh": (5, 12),
    "rzr": (3, 6), "wt": (12, 2), "bs": (1, 12),
}  # fmt: skip
TURN = "z0 = MatMul(x, w)  z1 = MatMul(h, r)  z2 = Add(z0, z1)  z = Add(z2, b)  zi, zf, zg, zo = Split<axis = 1>(z)"
GATES = "i = Sigmoid(zi)  f = Sigmoid(zf)  g = Tanh(zg)  o = Sigmoid(zo)"
CARRY = "p = Mul(f, c)  q = Mul(i, g)  c2 = Add(p, q)  t = Tanh(c2)  h2 = Mul(o, t)"
LSTM = f"{TURN}  {GATES}  {CARRY}"
GRU = """z0 = MatMul(x, wr)  z1 = MatMul(h, rzr)  zx, rx, nx = Split<axis = 1>(z0)  zh, rh = Split<axis = 1>(z1)
  z2 = Add(zx, zh)  u = Sigmoid(z2)  r2 = Add(rx, rh)  s = Sigmoid(r2)  m = Mul(s, h)  n1 = MatMul(m, r1)
  n2 = Add(nx, n1)  n = Tanh(n2)  k = Mul(u, h)  v = Sub(one, u)  a = Mul(v, n)  h2 = Add(k, a)"""
LATE_GRU = GRU.replace("m = Mul(s, h)  n1 = MatMul(m, r1)", "n3 = MatMul(h, r1)  n4 = Add(n3, b2)  n1 = Mul(n4, s)")
RNN = "z0 = MatMul(x, w1)  z1 = MatMul(h, r1)  z2 = Add(z0, b1)  z = Add(z2, z1)  h2 = Tanh(z)"

FLAGS = "int64 far = {9223372036854775807}, int64 first = {0}, int64 next = {1}, bool yes = {1}, float one = {1.0}"
READ = "float[s,b,3] y"
SIZE = "d = Shape<start = 0, end = 1>(xs)  ds = Squeeze(d)"
COUNTED = "e = Identity(go)  x = Gather(xs, turn)"


class Parts:
    """How the states of a cell are spelled around its loop."""

    def __init__(self, cell: str) -> None:
        count = 1 + ("c2" in cell)
        self.given = ", ".join(["h0", "c0"][:count])
        self.last = ", ".join(["hn", "cn"][:count])
        self.formal = ", ".join(["float[b,3] h", "float[b,3] c"][:count])
        self.ends = ", ".join(["float[b,3] h2", "float[b,3] c2"][:count])


def loop(cell: str, *, head: str = SIZE, count: str = "ds", turn: str = COUNTED, stacked: str = "h2") -> str:
    """A Loop over the elements of xs."""
    parts = Parts(cell)
    body = f"""body (int64 turn, bool go, {parts.formal}) => (bool e, {parts.ends}, float[b,3] row)
      {{ {turn}  {cell}  row = Identity({stacked}) }}"""
    return f"{head}  {parts.last}, y = Loop({count}, , {parts.given}) <body = {body}>"


def counting(cell: str, *, step: str = "next", limit: str = "tf") -> str:
    """The Loop of tf2onnx: a counter of its own, compared as float32, and no trip count."""
    parts = Parts(cell)
    body = f"""body (int64 turn, bool go, int64 at, {parts.formal}) => (bool e, int64 at2, {parts.ends}, float[b,3] row)
      {{ x = Gather(xs, at)  {cell}  row = Identity(h2)  at2 = Add(at, {step})  af = Cast<to = 1>(at2)
         e = Less(af, {limit}) }}"""
    head = f"{SIZE}  tf = Cast<to = 1>(ds)  ff = Cast<to = 1>(first)  any = Less(ff, tf)"
    return f"{head}  an, {parts.last}, y = Loop( , any, first, {parts.given}) <body = {body}>"


def scan(cell: str, more: str = "") -> str:
    parts = Parts(cell)
    body = f"""body ({parts.formal}, float[b,2] x) => ({parts.ends}, float[b,3] row)
      {{ {cell}  row = Identity(h2) }}"""
    return f"{parts.last}, y = Scan({parts.given}, xs) <body = {body}, num_scan_inputs = 1{more}>"


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes: Mapping[str, tuple[int, ...]] = {**SHAPES, "wr": (2, 9)}
    return {name: random.normal(size=size).astype(np.float32) / 2 for name, size in shapes.items()}


def recognized(
    nodes: str,
    *,
    outputs: str = READ,
    xs: str = "float[s,b,2] xs",
    opset: int = 17,
    sizes: tuple[tuple[int, int], ...] = ((4, 2), (1, 1)),
    more: Mapping[str, np.ndarray] = {},
    target: str = "ort-cpu",
) -> tuple[list[ir.Node], set[str]]:
    """The nodes of the result, after both models have given the same up to rounding, and why loops stayed."""
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
      g ({xs}, float[b,3] h0, float[b,3] c0, float[1,3] one_h, int64 turns, float[b,2] extra) => ({outputs})
      <{FLAGS}> {{ {nodes} }}"""
    proto = onnx.parser.parse_model(text)
    content = {**weights(), **more}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in content.items())
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    report = Pipeline.parse("recognize-rnn,dce").run(model, [VerifyEach()], settings=Settings(Target(target)))
    assert not Pipeline.parse("recognize-rnn").run(model, [VerifyEach()], settings=Settings(Target(target))).rewrites
    wanted = open_session(proto.SerializeToString(), SessionOptions(optimize=False))
    given = open_session(ir.to_proto(model).SerializeToString(), SessionOptions(optimize=False))
    random = np.random.default_rng(1)
    for steps, batch in sizes:
        shapes = {"xs": (steps, batch, 2), "h0": (batch, 3), "c0": (batch, 3), "one_h": (1, 3), "extra": (batch, 2)}
        feeds = {name: random.normal(size=size).astype(np.float32) for name, size in shapes.items()}
        every = {**feeds, "turns": np.array(steps)}
        for name, value in wanted.run(every).items():
            want, got = np.asarray(value), np.asarray(given.run(every)[name])
            if want.size or got.size:  # a Loop that does not run stacks nothing, of dims that it does not know
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return list(model.graph), {each.condition for each in report.missed}


def operators(nodes: str, **options: object) -> list[str]:
    return [node.op_type for node in recognized(nodes, **options)[0]]  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [loop, counting, scan])
@pytest.mark.parametrize(("cell", "operator"), [(LSTM, "LSTM"), (GRU, "GRU"), (LATE_GRU, "GRU"), (RNN, "RNN")])
def test_each_cell_in_each_loop_becomes_its_operator(write: object, cell: str, operator: str) -> None:
    sizes = ((4, 2), (1, 1), (0, 2))[: 2 if operator == "GRU" or write is scan else 3]  # those do not take it
    found = operators(write(cell), sizes=sizes)  # type: ignore[operator]
    assert operator in found and "Loop" not in found and "Scan" not in found


def test_a_reset_after_the_product_is_told() -> None:
    nodes, _ = recognized(scan(LATE_GRU))
    gru = next(node for node in nodes if node.op_type == "GRU")
    assert ir.attribute(gru, "linear_before_reset") == 1


@pytest.mark.parametrize("opset", [11, 13, 22])
def test_last_states_are_given_where_the_sequence_is_not_empty(opset: int) -> None:
    cell = LSTM.replace("axis = 1", "axis = 1, num_outputs = 4") if opset > 17 else LSTM
    outputs = "float[4,b,3] y, float[b,3] hn, float[b,3] cn"
    found = operators(scan(cell), outputs=outputs, xs="float[4,b,2] xs", opset=opset, sizes=((4, 2),))
    assert "LSTM" in found and found.count("Squeeze") == 3


def test_last_states_keep_the_loop_where_the_sequence_may_be_empty() -> None:
    nodes, refused = recognized(loop(RNN), outputs="float[b,3] hn", sizes=((4, 2), (0, 2)))
    assert "Loop" in [node.op_type for node in nodes]
    assert refused == {"a sequence that is not empty, where the last state is read"}


def test_a_scan_from_the_end_is_a_reverse_network() -> None:
    backwards = ", scan_input_directions = [1], scan_output_directions = [1]"
    nodes, _ = recognized(scan(LSTM, backwards))
    lstm = next(node for node in nodes if node.op_type == "LSTM")
    assert ir.attribute(lstm, "direction") == "reverse"
    assert "Scan" in operators(scan(LSTM, ", scan_input_directions = [1]"))
    assert "Scan" in operators(scan(LSTM, ", scan_output_directions = [1]"))


@pytest.mark.parametrize(
    "gates",
    [
        LSTM.replace("z = Add(z2, b)", "y0 = Add(b, z2)  z = Identity(y0)").replace("Identity(y0)", "Add(y0, bs)"),
        LSTM.replace(TURN, "j = Concat<axis = 1>(x, h)  z = MatMul(j, xh)  zi, zf, zg, zo = Split<axis = -1>(z)"),
        LSTM.replace("z0 = MatMul(x, w)  z1 = MatMul(h, r)  z2 = Add(z0, z1)  z = Add(z2, b)",
                     "z0 = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, wt, b)  z = Gemm(h, r, z0)"),
        LSTM.replace("i = Sigmoid(zi)  f = Sigmoid(zf)  g = Tanh(zg)  o = Sigmoid(zo)",
                     """i = HardSigmoid<alpha = 0.25, beta = 0.4>(zi)  f1 = Mul(zf, fifth)  f2 = Add(f1, half)
                        f3 = Min(f2, one)  f = Max(f3, zero)  o1 = Add(half, zo)  o = Clip(o1, zero, one)
                        g = Relu(zg)"""),
        LSTM.replace("p = Mul(f, c)  q = Mul(i, g)  c2 = Add(p, q)", "p = Mul(c, f)  q = Mul(g, i)  c2 = Add(q, p)"),
    ],
)  # fmt: skip
def test_gates_may_be_spelled_in_many_ways(gates: str) -> None:
    more = {name: np.float32(number) for name, number in (("fifth", 0.2), ("half", 0.5), ("zero", 0.0))}
    assert "LSTM" in operators(scan(gates), more={name: np.asarray(each) for name, each in more.items()})


@pytest.mark.parametrize(
    "cell",
    [
        LSTM.replace("Sigmoid(zo)", "Tanh(zo)"),  # other activations for the gates
        LSTM.replace("p = Mul(f, c)", "p = Mul(f, h)"),
        LSTM.replace("t = Tanh(c2)", "t = Tanh(c)"),
        LSTM.replace("t = Tanh(c2)", "t = Softsign(c2)"),
        LSTM.replace("z = Add(z2, b)", "z = Mul(z2, z0)"),
        LSTM.replace("MatMul(x, w)", "MatMul(extra, w)"),
        GRU.replace("v = Sub(one, u)", "v = Sub(one, s)"),
        GRU.replace("k = Mul(u, h)", "k = Mul(u, n)"),
        GRU.replace("s = Sigmoid(r2)", "s = Tanh(r2)"),
        LATE_GRU.replace("n2 = Add(nx, n1)", "n2 = Sub(nx, n1)"),
        RNN.replace("z = Add(z2, z1)", "z = Sub(z2, z1)"),
        RNN.replace("Tanh(z)", "Sin(z)"),
    ],
)
def test_another_step_keeps_the_loop(cell: str) -> None:
    assert "Scan" in operators(scan(cell))


@pytest.mark.parametrize(
    ("cell", "sizes"),
    [
        # A number with more axes than a matrix gives the state one more.
        (RNN.replace("h2 = Tanh(z)", "z3 = Min(z, deep)  h2 = Max(z3, deep0)"), ((4, 2), (1, 1))),
        (GRU.replace("Sub(one, u)", "Sub(deep, u)"), ((1, 1),)),
        # What the state is multiplied by is broadcast.
        (LATE_GRU.replace("MatMul(h, r1)", "MatMul(h, thin)").replace("Add(n3, b2)", "Add(n3, one)"), ((4, 2),)),
    ],
)
def test_what_broadcasting_widens_keeps_the_loop(cell: str, sizes: tuple[tuple[int, int], ...]) -> None:
    deep = np.ones((1, 1, 1), np.float32)
    more = {"deep": deep, "deep0": 0 * deep, "thin": np.ones((3, 1), np.float32)}
    assert "Loop" in operators(loop(cell), more=more, sizes=sizes, outputs="float y")


@pytest.mark.parametrize("kind", ["int8", "uint8", "float16"])
def test_a_counter_that_may_be_too_narrow_keeps_the_loop(kind: str) -> None:
    """The 128th turn of an int8 reads the element -128; 2048 + 1 is 2048 in float16."""
    zero, one = (np.array(number, kind) for number in (0, 1))
    body = f"""body (int64 turn, bool go, {kind} at, float[b,3] h) => (bool e, {kind} a2, float[b,3] h2, float[b,3] row)
      {{ e = Identity(go)  i = Cast<to = 7>(at)  x = Gather(xs, i)  {RNN}  row = Identity(h2)  a2 = Add(at, at1) }}"""
    nodes = f"{SIZE}  an, hn, y = Loop(ds, , at0, h0) <body = {body}>"
    assert "Loop" in operators(nodes, sizes=((300, 1),), more={"at0": zero, "at1": one})


@pytest.mark.parametrize(
    "nodes",
    [
        loop(RNN, count="turns"),  # the caller says how often
        loop(RNN, count="first"),
        loop(RNN, turn=COUNTED.replace("Gather(xs, turn)", "Gather<axis = 1>(xs, turn)")),
        loop(RNN, turn=COUNTED.replace("Gather(xs, turn)", "Gather(xs, first)")),
        loop(RNN, turn=COUNTED.replace("e = Identity(go)", "m = Cast<to = 9>(turn)  e = Not(m)")),
        counting(RNN, step="first"),
        counting(RNN, limit="ff"),
    ],
)
def test_a_loop_that_does_not_go_from_element_to_element_stays(nodes: str) -> None:
    assert "Loop" in operators(nodes, sizes=())


@pytest.mark.parametrize(
    ("nodes", "condition"),
    [
        (scan(RNN).replace("h0", "one_h"), "a state for each element of the batch"),
        (scan(RNN.replace("MatMul(x, w1)", "Tanh(h)").replace("z0 = Tanh(h)", "z0 = MatMul(h, r1)")),
         "gates of the input and the state"),
        (scan(RNN.replace("MatMul(x, w1)", "MatMul(x, narrow)").replace("MatMul(h, r1)", "MatMul(h, thin)")
              .replace("b1", "one").replace("h2 = Tanh(z)", "h3 = Tanh(z)  h2 = Identity(h3)")),
         "gates as wide as the state"),
        (loop(LSTM, stacked="c2"), "only results of a recurrent operator are read"),
    ],
)  # fmt: skip
def test_what_the_operator_would_do_otherwise_is_said(nodes: str, condition: str) -> None:
    more = {"narrow": np.ones((2, 1), np.float32), "thin": np.ones((3, 1), np.float32)}
    assert recognized(nodes, sizes=(), more=more)[1] == {condition}


def test_weights_that_are_not_finite_keep_the_loop() -> None:
    r1 = np.full((3, 3), np.inf, np.float32)
    assert recognized(scan(RNN), more={"r1": r1}, sizes=())[1] == {"finite weights"}


def test_factors_whose_product_is_beyond_float32_keep_the_loop() -> None:
    cell = RNN.replace("z0 = MatMul(x, w1)", "z3 = MatMul(x, w1)  z4 = Mul(z3, large)  z0 = Mul(z4, large)")
    large = np.full(3, 1e25, np.float32)
    assert recognized(scan(cell), more={"large": large}, sizes=())[1] == {"finite weights"}


def test_doubles_keep_the_loop() -> None:
    text = scan(RNN).replace("float[", "double[")
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
      g (double[s,b,2] xs, double[b,3] h0) => (double[s,b,3] y) <float one = {{1.0}}> {{ {text} }}""")
    content = {name: array.astype(np.float64) for name, array in weights().items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in content.items())
    report = Pipeline.parse("recognize-rnn").run(ir.from_proto(proto), [VerifyEach()])
    assert {each.condition for each in report.missed} == {"float32"}


def test_a_quantizer_in_the_model_keeps_the_loop() -> None:
    nodes = f"{scan(RNN)}  q = QuantizeLinear(y, one)"
    assert recognized(nodes, outputs="float[s,b,3] y, uint8[s,b,3] q")[1] == {"no quantizer in the model"}


def test_cuda_keeps_the_loop() -> None:
    assert recognized(scan(RNN), target="ort-cuda", sizes=())[1] == {"another provider than CUDA"}


def test_the_next_layer_is_recognized_too() -> None:
    second = loop(RNN, turn="e = Identity(go)  x = Gather(y, turn)", head="").replace("hn, y =", "hm, y2 =")
    both = f"{loop(RNN)}  {second.replace('w1', 'w3')}"
    assert operators(both, outputs="float[s,b,3] y2", more={"w3": weights()["r1"]}).count("RNN") == 2
