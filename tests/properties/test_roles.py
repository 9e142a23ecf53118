"""Extreme but legal contents of inputs, by the role that an input plays: the optimized model agrees with the original.

Both run with ONNX Runtime's optimizations off. What the original refuses says nothing; every case has contents that it
takes, and the test counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph.runtime import EXACT, Tolerance
from optimize_graph.runtime import compare as compare_outputs
from optimize_graph.testing.differential import attends_to_nothing, optimized, outputs_of, session_of

pytestmark = pytest.mark.slow

Feeds = dict[str, np.ndarray]
LOWEST = float(np.finfo(np.float32).min)
NEAR = 1e-4  # of what is computed in float32 from numbers of size 1


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def floats(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """A small model and the contents of its inputs; `runs`: how many of them the original takes."""

    text: str
    contents: Callable[[], Iterator[Feeds]]
    runs: int
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    opset: int = 21

    def proto(self) -> onnx.ModelProto:
        parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {self.opset}]> {self.text}')
        parsed.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in self.weights.items()
        )
        onnx.checker.check_model(parsed)
        return parsed


# --- masks ------------------------------------------------------------------------------------------------------------

B, S, D, HEADS = 3, 5, 8, 2
PROJECTIONS = {name: weight(D, D, seed=seed) for seed, name in enumerate(("wq", "wk", "wv", "wo"))}
SPLIT = {"split": ints(0, 0, HEADS, D // HEADS), "join": ints(0, 0, D)}
ATTENTION = """
    q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
    q1 = Reshape(q0, split) k1 = Reshape(k0, split) v1 = Reshape(v0, split)
    q = Transpose<perm = [0,2,1,3]>(q1) k = Transpose<perm = [0,2,3,1]>(k1) v = Transpose<perm = [0,2,1,3]>(v1)
    qk = MatMul(q, k) s = Mul(qk, scale) m = MASKED p = Softmax<axis = -1>(m) o1 = MatMul(p, v)
    o2 = Transpose<perm = [0,2,1,3]>(o1) o3 = Reshape(o2, join) y = MatMul(o3, wo)
"""


def attention(inputs: str, before: str, masked: str) -> str:
    return f"g (float[B,S,{D}] x, {inputs}) => (float[B,S,{D}] y) {{ {before} {ATTENTION.replace('MASKED', masked)} }}"


def keeps() -> Iterator[np.ndarray]:
    """Right padding, left padding, one sample masked wholly, all of them, and none."""
    for rows in ((0, 2, 0), (0, -2, 0), (0, S, -1), (S, S, S), (0, 0, 0)):
        keep = np.ones((B, S), dtype=np.bool_)
        for sample, padding in enumerate(rows):
            keep[sample, S - padding if padding > 0 else 0 : S if padding > 0 else -padding] = False
        yield keep


def padding_masks(dtype: type) -> Callable[[], Iterator[Feeds]]:
    def contents() -> Iterator[Feeds]:
        for keep in keeps():
            yield {"x": floats(B, S, D), "mask": keep.astype(dtype)}

    return contents


def additive_masks(fill: float) -> Callable[[], Iterator[Feeds]]:
    """Masks of keys, and with a causal part; where the fill is -inf, rows without any key have no softmax."""

    def contents() -> Iterator[Feeds]:
        causal = np.tri(S, dtype=np.bool_)
        for keep in keeps():
            for part in (np.ones((S, S), dtype=np.bool_), causal):
                both = keep[:, np.newaxis, np.newaxis, :] & part
                yield {"x": floats(B, S, D), "mask": np.where(both, 0, np.float32(fill)).astype(np.float32)}

    return contents


MASK_WEIGHTS = {
    **PROJECTIONS,
    **SPLIT,
    "scale": np.float32((D // HEADS) ** -0.5).reshape(()),
    "one": np.float32(1).reshape(()),
    "lowest": np.float32(LOWEST).reshape(()),
    "minus_infinity": np.float32(-np.inf).reshape(()),
    "large": np.float32(-1e4).reshape(()),
    "axes": ints(1, 2),
}
ONE_MINUS = "f = Cast<to = 1>(mask) u = Unsqueeze(f, axes) i = Sub(one, u) a = Mul(i, {})"

MASKS = {
    **{
        f"added {fill:.2g}": Case(
            attention("float[B,1,S,T] mask", "", "Add(s, mask)"), additive_masks(fill), 10, MASK_WEIGHTS
        )
        for fill in (-1e4, -1e9, LOWEST, -np.inf)
    },
    "transformers, -1e4": Case(
        attention("int64[B,S] mask", ONE_MINUS.format("large"), "Add(s, a)"), padding_masks(np.int64), 5, MASK_WEIGHTS
    ),
    "transformers, finfo.min": Case(
        attention("int64[B,S] mask", ONE_MINUS.format("lowest"), "Add(s, a)"), padding_masks(np.int64), 5, MASK_WEIGHTS
    ),
    "where, -inf": Case(
        attention("bool[B,S] mask", "u = Unsqueeze(mask, axes)", "Where(u, s, minus_infinity)"),
        padding_masks(np.bool_),
        5,
        MASK_WEIGHTS,
    ),
    "where, finfo.min": Case(
        attention("bool[B,S] mask", "u = Unsqueeze(mask, axes)", "Where(u, s, lowest)"),
        padding_masks(np.bool_),
        5,
        MASK_WEIGHTS,
    ),
    "where chooses the addend": Case(
        attention(
            "bool[B,S] mask", "u = Unsqueeze(mask, axes) zero = Sub(one, one) a = Where(u, zero, lowest)", "Add(s, a)"
        ),
        padding_masks(np.bool_),
        5,
        MASK_WEIGHTS,
    ),
}


# --- lengths ----------------------------------------------------------------------------------------------------------


def lengths() -> Iterator[Feeds]:
    for numbers in ((4, 4), (4, 1), (1, 2), (0, 4), (0, 0)):
        yield {"x": floats(4, 2, 3), "n": np.array(numbers, dtype=np.int32)}


def reversals() -> Iterator[Feeds]:
    for numbers in ((4, 4), (4, 1), (1, 3)):
        yield {"x": floats(4, 2, 3), "n": ints(*numbers)}


RECURRENT = """g (float[T,B,3] x, int32[B] n) => (float[T,B,8] y, float[2,B,4] h) {{
    a, h{} = {}<hidden_size = 4, direction = "bidirectional">(x, w, r, b, n)
    t = Transpose<perm = [0,2,1,3]>(a) y = Reshape(t, s) }}"""


def recurrent(op: str, gates: int, more: str) -> Case:
    weights = {
        "w": weight(2, 4 * gates, 3),
        "r": weight(2, 4 * gates, 4),
        "b": weight(2, 8 * gates),
        "s": ints(0, 0, 8),
    }
    return Case(RECURRENT.format(more, op), lengths, 3, weights)


# --- indices ----------------------------------------------------------------------------------------------------------


def indices() -> Iterator[Feeds]:
    for numbers in ((0, 6), (-7, -1), (6, -7), (3, 3)):
        yield {"i": ints(*numbers).reshape(1, 2)}
    yield {"i": np.zeros((0, 2), dtype=np.int64)}


def classes() -> Iterator[Feeds]:
    for numbers in ((0, 4), (-5, -1), (5, -6), (2, 2)):
        yield {"i": ints(*numbers)}
    yield {"i": ints()}


def boxes() -> Iterator[Feeds]:
    corner = np.abs(floats(1, 6, 2))
    good = np.concatenate([corner, corner + 0.5], axis=-1)
    for box, score in (
        (good, np.abs(floats(1, 2, 6))),
        (np.repeat(good[:, :1], 6, axis=1), np.abs(floats(1, 2, 6))),  # all the same
        (good, np.full((1, 2, 6), 0.5, np.float32)),  # all scores the same
        (good, np.zeros((1, 2, 6), np.float32)),  # none kept
        (good[:, :0], np.zeros((1, 2, 0), np.float32)),
        (np.concatenate([corner, corner], axis=-1), np.abs(floats(1, 2, 6))),  # boxes without an area
    ):
        yield {"b": box.astype(np.float32), "s": score.astype(np.float32)}


def counts() -> Iterator[Feeds]:
    for array in (floats(2, 5), np.zeros((2, 5), np.float32), np.full((2, 5), np.inf, np.float32), floats(0, 5)):
        for count in (0, 1, 5):
            yield {"x": array, "k": ints(count)}


def trips() -> Iterator[Feeds]:
    for count in (0, 1, 7):
        for condition in (False, True):
            yield {"n": np.array(count), "c": np.array(condition), "x": floats(2, 3)}
    yield {"n": np.array(3), "c": np.array(True), "x": floats(0, 3)}


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers() -> Iterator[Feeds]:
    tiny = float(np.finfo(np.float32).tiny)
    for row in ([0.0, -0.0, 1.0, tiny], [-1.0, 4.0, 0.25, 1e30], [np.inf, 1.0, 2.0, 3.0], [np.nan, 1.0, -np.inf, 0.0]):
        yield {"x": np.array([row, [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)}
    yield {"x": np.zeros((2, 4), np.float32)}
    yield {"x": np.zeros((0, 4), np.float32)}


def angles() -> Iterator[Feeds]:
    for scale in (0.0, 1.0, np.pi, 100.0, 1e7):
        yield {"x": (scale * floats(2, 4)).astype(np.float32)}
    yield {"x": np.array([[np.inf, -np.inf, np.nan, -0.0]], np.float32)}


def images() -> Iterator[Feeds]:
    for low, high in ((0, 1), (255, 256), (0, 256), (127, 129)):
        yield {"x": np.random.default_rng(high).integers(low, high, (1, 6, 6, 3)).astype(np.uint8)}


def durations() -> Iterator[Feeds]:
    for row in ([3, 1, 2], [6], [1, 1, 1, 1, 1, 1], [0, 6, 0]):
        for other in ([6], [2, 4], [0, 0, 6]):
            yield {"notes": ints(*row), "phones": ints(*other)}
    yield {"notes": ints(0, 0), "phones": ints(0)}


def number_case(body: str, **weights: np.ndarray) -> Case:
    return Case(f"g (float[N,4] x) => (float[N,M] y) {{ {body} }}", numbers, 6, weights)


SCALE = {"s": weight(4), "axes": ints(-1), "eps": np.float32(1e-5).reshape(()), "two": np.float32(2).reshape(())}
OTHERS = {
    "LSTM with lengths": recurrent("LSTM", 4, ", c"),
    "GRU with lengths": recurrent("GRU", 3, ""),
    "RNN with lengths": recurrent("RNN", 1, ""),
    "ReverseSequence": Case(
        "g (float[T,B,3] x, int64[B] n) => (float[T,B,3] y) { a = ReverseSequence(x, n) b = ReverseSequence(a, n) "
        "y = Add(a, b) }",
        reversals,
        3,
    ),
    "Gather": Case(
        "g (int64[A,B] i) => (float[C,D] y) { a = Gather(t, i) b = Reshape(a, s) y = MatMul(b, w) }",
        indices,
        5,
        {"t": weight(7, 4), "s": ints(-1, 4), "w": weight(4, 3)},
    ),
    "Gather twice": Case(
        "g (int64[A,B] i) => (float[A,B,4] y) { e = Gather(t, i) f = Gather(u, i) a = Add(e, f) "
        "y = LayerNormalization(a, s) }",
        indices,
        5,
        {"t": weight(7, 4), "u": weight(7, 4, seed=5), "s": weight(4)},
    ),
    "OneHot as MatMul": Case(
        "g (int64[N] i) => (float[N,3] y) { h = OneHot(i, d, v) y = MatMul(h, w) }",
        classes,
        5,
        {"d": ints(5), "v": np.array([0, 1], np.float32), "w": weight(5, 3)},
    ),
    "NonMaxSuppression": Case(
        "g (float[N,B,4] b, float[N,C,B] s) => (int64[K] y) { k = NonMaxSuppression(b, s, m, i, t) "
        "y = Gather<axis=1>(k, z) }",
        boxes,
        6,
        {"m": ints(3), "i": np.array([0.5], np.float32), "t": np.array([0.1], np.float32), "z": np.array(2)},
    ),
    "TopK": Case(
        "g (float[N,D] x, int64[1] k) => (float[N,K] v, int64[N,K] i) { a = Relu(x) v, i = TopK(a, k) }", counts, 12
    ),
    "Loop": Case(
        """g (int64 n, bool c, float[N,3] x) => (float[N,3] y, float[T,N,3] z) {
            y, z = Loop(n, c, x) <body = b (int64 i, bool d, float[N,3] a) => (bool e, float[N,3] f, float[N,3] o) {
                e = Identity(d) m = MatMul(a, w) f = Add(m, x) o = Relu(f) }> }""",
        trips,
        7,
        {"w": weight(3, 3)},
    ),
    "CTC": Case(
        """g (float[N,4] x) => (float[N,M] y, int64[N] z) { p = LogSoftmax<axis=-1>(x)
            z = ArgMax<axis=-1,keepdims=0>(p) y = Exp(p) }""",
        numbers,
        6,
    ),
    "angles": Case("g (float[N,4] x) => (float[N,8] y) { s = Sin(x) c = Cos(x) y = Concat<axis=1>(s, c) }", angles, 6),
    "image of bytes": Case(
        """g (uint8[1,6,6,3] x) => (float[1,4,4,4] y) { f = Cast<to=1>(x) d = Div(f, n) t = Transpose<perm=[0,3,1,2]>(d)
            y = Conv(t, k) }""",
        images,
        4,
        {"n": np.float32(255).reshape(()), "k": weight(4, 3, 3, 3)},
    ),
    "durations": Case(
        """g (int64[N] notes, int64[M] phones) => (int64[M] y) { e = CumSum(notes, z) a = Concat<axis=0>(o, e)
            l = Gather<axis=0>(a, m) t = Squeeze(l) f = Range(z, t, i) s = CumSum<exclusive=1>(phones, z)
            y = Gather<axis=0>(f, s) }""",
        durations,
        8,
        {"z": np.array(0), "i": np.array(1), "o": ints(0), "m": ints(-1)},
    ),
    "Log": number_case("a = Abs(x) y = Log(a)"),
    "log of a product": number_case("a = Mul(x, two) b = Log(a) y = Mul(b, two)", two=SCALE["two"]),
    "Sqrt": number_case("a = Mul(x, x) y = Sqrt(a)"),
    "power and root": number_case("a = Pow(x, two) y = Sqrt(a)", two=SCALE["two"]),
    "division": number_case("a = Sqrt(x) b = Div(x, a) y = Reciprocal(b)"),
    "layer normalization, written out": number_case(
        """m = ReduceMean(x, axes) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, axes) e = Add(v, eps) r = Sqrt(e)
           n = Div(d, r) y = Mul(n, s)""",
        **SCALE,
    ),
    "RMS normalization, written out": number_case(
        "q = Mul(x, x) v = ReduceMean(q, axes) e = Add(v, eps) r = Sqrt(e) n = Div(x, r) y = Mul(n, s)", **SCALE
    ),
    "Softmax, written out": number_case(
        "m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) t = ReduceSum(e, axes) y = Div(e, t)", axes=SCALE["axes"]
    ),
    "norm": number_case("n = ReduceL2(x, axes) c = Clip(n, eps) y = Div(x, c)", axes=SCALE["axes"], eps=SCALE["eps"]),
    "SiLU": number_case("g1 = Sigmoid(x) y = Mul(x, g1)"),
    "clips": number_case("a = Relu(x) b = Clip(a, eps, two) y = Neg(b)", eps=SCALE["eps"], two=SCALE["two"]),
}
CASES = {**MASKS, **OTHERS}


def disagreements(case: Case) -> tuple[int, list[str]]:
    """How many contents the original takes, and what is said about those where the optimized model differs."""
    model = case.proto()
    _, data = optimized(model, "default")
    produced = onnx.load_from_string(data)
    before, after = session_of(model.SerializeToString()), session_of(data)
    names = [output.name for output in model.graph.output]
    taken, problems = 0, []
    for nth, feeds in enumerate(case.contents()):
        want = outputs_of(before, feeds)
        if want is None:
            continue
        taken += 1
        if attends_to_nothing(produced, feeds):
            continue
        got = after.run(None, feeds)
        near = {
            name: Tolerance(NEAR, NEAR) if array.dtype.kind == "f" else EXACT
            for name, array in zip(names, want, strict=True)
        }
        verdict = compare_outputs(dict(zip(names, want, strict=True)), dict(zip(names, got, strict=True)), near)
        if not verdict:
            problems.append(f"contents {nth}: {verdict.problem}")
    return taken, problems


@pytest.mark.parametrize("name", CASES)
def test_extreme_contents_of_a_role_give_what_the_original_gives(name: str) -> None:
    taken, problems = disagreements(CASES[name])
    assert taken >= CASES[name].runs
    assert not problems
