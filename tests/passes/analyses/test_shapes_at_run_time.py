"""Everything that `Shapes` claims is true in ONNX Runtime: of the standard's own test models with their sizes made
symbolic, and of small graphs that set traps, at several sizes, 0 and 1 among them."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx.backend.test.loader
import onnx.parser
import onnx_ir
import onnxruntime as ort
import pytest
from optimize_graph import ir
from optimize_graph.ir.shapes import symbolic as d
from optimize_graph.ir.shapes.evaluate import evaluate
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager

pytestmark = pytest.mark.slow

Feeds = dict[str, np.ndarray]
SHARE = 6
"""One in so many of the standard's models is run each time, chosen by a fixed seed."""

BAD_AT_EMPTY = ("Arg", "Attention", "ConvTranspose", "GRU", "LSTM", "MatMul", "RNN", "Reduce")
"""With an empty input ONNX Runtime 1.31 gives these wrong dims, or dies of a division by zero."""

INVALID = ("test_sce", "test_nllloss", "test_negative_log")
"""ONNX Runtime runs losses whose inputs disagree, which the standard forbids."""


def expose(model: onnx.ModelProto) -> None:
    """Make every result of the main graph an output; drop what the file says about inner values and outputs."""
    del model.graph.value_info[:]
    have = {output.name for output in model.graph.output}
    for name in dict.fromkeys(name for node in model.graph.node for name in node.output):
        if name and name not in have:
            model.graph.output.add().name = name
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")


def session_of(model: onnx.ModelProto) -> ort.InferenceSession | None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever it refuses cannot be checked
        return None


def run(session: ort.InferenceSession, feeds: Feeds) -> Feeds | None:
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception:  # facts are about runs that succeed
        return None


class Claims:
    """What is claimed of the values of one model, checked against one run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx_ir.from_proto(model)
        ir.stamp_versions(self.model)
        self.shapes = AnalysisManager(self.model).get(Shapes)
        self.checked = 0

    def violations(self, feeds: Feeds, results: Feeds) -> Iterator[str]:
        bindings: dict[str, int] = {}
        claimed: list[tuple[str, d.Dim, int]] = []
        for value in [*self.model.graph.inputs, *(out for node in self.model.graph for out in node.outputs)]:
            found, fact = results.get(value.name or "", feeds.get(value.name or "")), self.shapes.fact(value)
            if not isinstance(found, np.ndarray):
                continue
            if fact.dtype is not None and found.dtype != object and fact.dtype.numpy() != found.dtype:
                yield f"{value.name} is {found.dtype}, not {fact.dtype}"
            if fact.dims is not None:
                if len(fact.dims) != found.ndim:
                    yield f"{value.name} is {found.shape}, not {self.shapes.show(value)}"
                    continue
                claimed += [(f"{value.name} {fact.dims}", *pair) for pair in zip(fact.dims, found.shape, strict=True)]
            if fact.elements is not None:
                numbers = found.astype(np.int64).ravel().tolist()
                claimed += [
                    (f"{value.name} = {fact.elements}", *pair) for pair in zip(fact.elements, numbers, strict=True)
                ]
        for _, dim, number in claimed:
            if (name := symbol(dim)) is not None:
                bindings.setdefault(name, number)
        for where, dim, number in claimed:
            self.checked += 1
            if evaluate(dim, bindings) not in (None, number):
                yield f"{where}: {dim} is {number}, not {evaluate(dim, bindings)} ({bindings})"
            if (lowest := d.low(dim)) is not None and number < lowest:
                yield f"{where}: {dim} is {number}, less than {lowest}"


def symbol(dim: d.Dim) -> str | None:
    """The name by which `evaluate` knows a dim that is one symbol and nothing else."""
    if not isinstance(dim, d.Expr) or len(dim.terms) != 1:
        return None
    ((atoms, factor),) = dim.terms.items()
    if factor != 1 or len(atoms) != 1 or atoms[0].arguments:
        return None
    return atoms[0].text if atoms[0].born else atoms[0].name


# --- the standard's models --------------------------------------------------------------------------------------------


@functools.cache
def backend_cases() -> list[tuple[str, onnx.ModelProto, tuple[np.ndarray, ...]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = onnx.backend.test.loader.load_model_tests(kind="node")
    found = sorted((case for case in cases if not case.name.startswith(INVALID)), key=lambda case: case.name)
    return [(case.name, case.model, tuple(case.data_sets[0][0])) for case in found]


def symbolic(model: onnx.ModelProto, shared: bool) -> onnx.ModelProto:
    """The model with a symbol for each input dim: one for equal sizes, or one for each place."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    places = 0
    for value in copy.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_param = f"d{dim.dim_value}" if shared else f"s{places}"
            places += 1
    expose(copy)
    return copy


def resized(model: onnx.ModelProto, feeds: Feeds, sizes: Mapping[str, int]) -> Feeds | None:
    """The feeds with dims of these sizes, by repeating or dropping slices."""
    made: Feeds = {}
    for value in model.graph.input:
        array = feeds[value.name]
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            size = sizes.get(dim.dim_param, array.shape[axis])
            if size and not array.shape[axis]:
                return None
            if size != array.shape[axis]:
                array = np.take(array, np.arange(size) % max(array.shape[axis], 1), axis=axis)
        made[value.name] = array
    return made


def sizes_to_try(model: onnx.ModelProto, rng: random.Random) -> list[dict[str, int]]:
    names = sorted({dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim})
    some = rng.sample(names, min(3, len(names)))
    risky = any(node.op_type.startswith(BAD_AT_EMPTY) for node in model.graph.node)
    one_at_a_time = [{name: size} for name in some for size in ((1,) if risky else (0, 1))]
    low = 1 if risky else 0
    return [{}, dict.fromkeys(names, 1), *one_at_a_time, {name: rng.randint(low, 4) for name in names}]


def test_claims_about_the_standards_models_hold() -> None:
    rng = random.Random(20231)
    cases = backend_cases()
    runs = checked = 0
    for name, model, arrays in rng.sample(cases, len(cases) // SHARE):
        if not all(isinstance(each, np.ndarray) for each in arrays) or len(arrays) != len(model.graph.input):
            continue
        if not all(value.type.HasField("tensor_type") for value in model.graph.input):
            continue
        feeds = {value.name: array for value, array in zip(model.graph.input, arrays, strict=True)}
        for shared in (True, False):
            variant = symbolic(model, shared)
            claims, session = Claims(variant), session_of(variant)
            for sizes in sizes_to_try(variant, rng) if session is not None else []:
                given = resized(variant, feeds, sizes)
                results = run(session, given) if given is not None and session is not None else None
                if given is None or results is None:
                    continue
                runs += 1
                assert not list(claims.violations(given, results)), (name, shared, sizes)
            checked += claims.checked
    assert runs > 500
    assert checked > 5000


# --- traps ------------------------------------------------------------------------------------------------------------

TRAPS = {
    "two symbols that broadcast": """g (float[N, M] x, float[M] y, float[K, 1] z) => (float[a, b] r) {
        p = Add(x, y) q = Mul(p, z) r = Sub(q, p) s = Shape(r) t = Expand(y, s) u = Reshape(r, s) }""",
    "reshape by the shape of another": """g (float[N, M, 4] x, float[K] z) => (float[a, b, c] r)
        <int64[1] rest = {-1}, int64[2] flat = {-1, 4}, int64[1] zero = {0}, int64[1] two = {2}> {
        s = Shape(x) h = Slice(s, zero, two) t = Concat<axis = 0>(h, rest)
        f = Reshape(x, flat) r = Reshape(f, t) w = Reshape(x, t) v = Add(r, w) }""",
    "zeros that copy": """g (float[N, M] x, float[M, N] z) => (float[a, b] r)
        <int64[2] keep = {0, -1}, int64[1] rest = {-1}> {
        r = Reshape(x, keep) s = Shape(z) t = Reshape(x, s) u = Add(t, z) }""",
    "slices at the edge": """g (float[N, 5] x) => (float[a, b] r)
        <int64[1] one = {1}, int64[1] far = {9223372036854775807}, int64[1] back = {-2}, int64[1] zero = {0},
         int64[1] three = {3}, int64[1] two = {2}> {
        p = Slice(x, one, far, zero) q = Slice(x, back, far, zero) r = Slice(x, zero, back, zero)
        s = Slice(x, one, three, zero) t = Slice(x, three, one, zero) u = Slice(x, zero, far, zero, two)
        v = Concat<axis = 0>(p, q, s) w = Shape(v) y = Shape(u) }""",
    "two pieces": """g (float[N, 6] x) => (float[a, b] r)
        <int64 two = {2}, int64 zero = {0}, int64[1] first = {0}, int64[1] far = {9223372036854775807}> {
        s = Shape(x) n = Gather(s, zero) h = Div(n, two) e = Mod(n, two) m = Sub(n, h) c = Max(h, e) b = Min(m, c)
        hv = Unsqueeze(h, first) r = Slice(x, first, hv, first) q = Slice(x, hv, far, first)
        back = Concat<axis = 0>(r, q) sum = Add(back, x) }""",
    "range and its users": """g (float[N, M] x) => (int64[a] r) <int64 one = {1}, int64 zero = {0}, int64 two = {2}> {
        s = Shape(x) n = Gather(s, zero) m = Gather(s, one) r = Range(zero, n, one) q = Range(n, zero, one)
        t = Range(one, m, two) u = Range(n, m, one) }""",
    "comparisons": """g (float[N, M] x) => (int64[a] r) <int64[1] rest = {-1}, int64[2] ones = {1, 1}> {
        s = Shape(x) w = Equal(s, rest) v = Equal(s, ones) l = Less(s, ones) r = Where(v, s, ones)
        q = Where(w, ones, s) y = Expand(x, q) z = Expand(x, r) }""",
    "branches": """g (bool[1] c, float[N, 4] x, float[M, 4] z) => (float[a, b] r) {
        r = If(c) <then_branch = t () => (float[p, q] u) { u = Relu(x) },
                   else_branch = e () => (float[p, q] v) { v = Concat<axis = 0>(z, x) }> s = Shape(r) }""",
    "loops": """g (int64 n, bool c, float[N, 4] x, float[M, 4] z) => (float[a, b] r) {
        r, same, all = Loop(n, c, x, z) <body = b (int64 i, bool go, float[p, q] u, float[o, l] w)
            => (bool on, float[p, q] v, float[o, l] k, float[h, j] each) {
            on = Identity(go) v = Concat<axis = 0>(u, w) k = Relu(w) each = Exp(w) }> s = Shape(r) t = Shape(same) }""",
    "windows": """g (float[N, 2, H, W] x, float[3, 2, 3, 2] w) => (float[a, b, c, e] r) {
        r = Conv<strides = [2, 3], pads = [1, 0, 1, 1], dilations = [1, 2]>(x, w)
        p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
        q = AveragePool<kernel_shape = [2, 2], strides = [2, 3], auto_pad = "SAME_LOWER">(x)
        m = MaxPool<kernel_shape = [2, 2], strides = [3, 3], ceil_mode = 1>(x) s = Shape(r) }""",
    "splits": """g (float[N, 7] x) => (float[a, b] r) <int64[2] parts = {3, 4}> {
        r, q = Split<axis = 1>(x, parts) s = Shape(x) u, v = Split<axis = 0>(s) y = Expand(q, u) }""",
}


def trap_feeds(session: ort.InferenceSession, sizes: Mapping[str, int], rng: np.random.Generator) -> Feeds:
    feeds: Feeds = {}
    for given in session.get_inputs():
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in given.shape]
        if given.type == "tensor(bool)":
            feeds[given.name] = rng.integers(0, 2, shape).astype(bool)
        elif given.type == "tensor(int64)":
            feeds[given.name] = rng.integers(0, 4, shape).astype(np.int64)
        else:
            feeds[given.name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


@pytest.mark.parametrize("name", TRAPS)
def test_claims_about_traps_hold_at_every_small_size(name: str) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{TRAPS[name]}')
    expose(model)
    claims, session = Claims(model), session_of(model)
    assert session is not None
    rng, runs = np.random.default_rng(0), 0
    for _ in range(60):
        sizes = {symbol_name: int(rng.integers(0, 6)) for symbol_name in "NMKHW"}
        feeds = trap_feeds(session, sizes, rng)
        results = run(session, feeds)
        if results is not None:
            runs += 1
            assert not list(claims.violations(feeds, results)), sizes
    assert runs >= 5


def test_a_false_claim_is_an_error() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, M] x) => (float[a, b] y) { y = Relu(x) }'
    )
    expose(model)
    claims, session = Claims(model), session_of(model)
    assert session is not None
    fact = claims.shapes.fact(claims.model.graph.outputs[0])
    claims.shapes.assume(claims.model.graph.outputs[0], type(fact)(fact.dtype, (fact.dims or ())[::-1]))
    feeds = {"x": np.zeros((2, 3), np.float32)}
    assert list(claims.violations(feeds, run(session, feeds) or {}))
