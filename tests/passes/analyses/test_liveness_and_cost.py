"""When values live, and what nodes cost."""

import onnx.parser
import onnx_ir
import pytest
from optimize_graph import ir
from optimize_graph.passes.analyses import Cost, Liveness
from optimize_graph.passes.analyses.manager import AnalysisManager


def analyses_of(text: str, opset: int = 17) -> tuple[ir.Model, AnalysisManager]:
    model = onnx_ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'))
    ir.stamp_versions(model)
    return model, AnalysisManager(model)


# --- liveness ---------------------------------------------------------------------------------------------------------


def test_a_value_lives_until_its_last_user() -> None:
    _, analyses = analyses_of("g (float[4] x) => (float[4] d) { a = Relu(x) b = Exp(a) c = Exp(b) d = Add(a, c) }")
    liveness = analyses.get(Liveness)
    lives = {value.name: (first, liveness.last[value]) for value, first in liveness.first.items()}
    assert lives == {"a": (0, 3), "b": (1, 2), "c": (2, 3), "d": (3, 3)}
    assert liveness.live_bytes() == [16, 32, 48, 48]
    assert liveness.peak_bytes() == 48


def test_outputs_live_to_the_end() -> None:
    _, analyses = analyses_of("g (float[4] x) => (float[4] a, float[4] c) { a = Relu(x) b = Exp(x) c = Exp(b) }")
    assert analyses.get(Liveness).live_bytes() == [16, 32, 48]


def test_a_view_is_the_memory_of_what_it_views() -> None:
    _, analyses = analyses_of(
        """g (float[4] x) => (float[2, 2] d, float[4] e) <int64[2] s = {2, 2}, int64[1] f = {-1}> {
            a = Relu(x) b = Reshape(a, s) c = Flatten(b) d = Exp(c) g = Reshape(d, f) h = Exp(g) e = Reshape(h, f) }"""
    )
    liveness = analyses.get(Liveness)
    lives = {value.name: (first, liveness.last[value]) for value, first in liveness.first.items()}
    assert lives == {"a": (0, 3), "d": (3, 6), "h": (5, 6), "e": (6, 6)}
    assert liveness.peak_bytes() == 48


def test_what_a_body_reads_lives_until_the_node_that_holds_it() -> None:
    model, analyses = analyses_of(
        """g (bool c, float[4] x) => (float[4] y) { a = Relu(x) b = Exp(x)
            y = If(c) <then_branch = t () => (float[4] u) { u = Exp(a) },
                       else_branch = e () => (float[4] v) { v = Exp(b) }> }"""
    )
    liveness = analyses.get(Liveness)
    assert [liveness.last[node.outputs[0]] for node in model.graph] == [2, 2, 2]


def test_weights_inputs_and_constants_are_no_activations() -> None:
    _, analyses = analyses_of(
        """g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
            k = Constant<value_float = 1.0>() z = Add(x, w) y = Mul(z, k) }"""
    )
    assert {value.name for value in analyses.get(Liveness).first} == {"z", "y"}


def test_symbols_are_bound_by_name_and_unbound_ones_leave_the_peak_unknown() -> None:
    _, analyses = analyses_of("g (float[N, 4] x) => (float[a, b] y) { y = Relu(x) }")
    liveness = analyses.get(Liveness)
    assert liveness.peak_bytes({"N": 3}) == 48
    assert liveness.peak_bytes({"N": 0}) == 0
    assert liveness.peak_bytes() is None


def test_elements_smaller_than_a_byte_are_packed() -> None:
    _, analyses = analyses_of(
        "g (float[5] x) => (int4[5] y) <float s = {1.0}> { y = QuantizeLinear<output_dtype = 22>(x, s) }", 21
    )
    assert analyses.get(Liveness).peak_bytes() == 3


# --- cost -------------------------------------------------------------------------------------------------------------

COSTS = {
    "MatMul": (
        "g (float[2, 3, 4] x, float[4, 5] w) => (float[a] y) { y = MatMul(x, w) }",
        2 * 30 * 4,
        4 * (24 + 20 + 30),
    ),
    "Gemm": (
        "g (float[4, 3] x, float[5, 4] w, float[5] b) => (float[a] y) { y = Gemm<transA = 1, transB = 1>(x, w, b) }",
        15 * 9,
        208,
    ),
    "Conv": (
        "g (float[1, 4, 8, 8] x, float[6, 2, 3, 3] w) => (float[a] y) { y = Conv<group = 2>(x, w) }",
        2 * 216 * 18,
        4 * (256 + 108 + 216),
    ),
    "ConvTranspose": (
        "g (float[1, 4, 5] x, float[4, 3, 2] w) => (float[a] y) { y = ConvTranspose(x, w) }",
        2 * 20 * 6,
        4 * (20 + 24 + 18),
    ),
    "Add": ("g (float[8, 1] x, float[4] w) => (float[a] y) { y = Add(x, w) }", 32, 4 * 44),
    "ReduceMean": ("g (float[8, 4] x) => (float[a] y) { y = ReduceMean<axes = [1]>(x) }", 32, 4 * 40),
    "Softmax": ("g (float[8, 4] x) => (float[a] y) { y = Softmax(x) }", 160, 4 * 64),
    "Transpose": ("g (float[8, 4] x) => (float[a] y) { y = Transpose(x) }", 0, 4 * 64),
    "Flatten": ("g (float[8, 4] x) => (float[a] y) { y = Flatten(x) }", 0, 0),
    "Gather": ("g (float[1000, 4] x, int64[3] i) => (float[a] y) { y = Gather(x, i) }", 0, 48 + 24 + 48),
    "Einsum": (
        'g (float[2, 3] x, float[3, 4] z) => (float[a] y) { y = Einsum<equation = "ij,jk->ik">(x, z) }',
        48,
        4 * (6 + 12 + 8),
    ),
    "LSTM": (
        """g (float[7, 2, 3] x, float[1, 20, 3] w, float[1, 20, 5] r) => (float[a] y) {
            y = LSTM<hidden_size = 5>(x, w, r) }""",
        2 * 14 * 160,
        4 * (42 + 60 + 100 + 70),
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_cost_of_a_node_is_counted(name: str) -> None:
    text, flops, moved = COSTS[name]
    model, analyses = analyses_of(text)
    found = analyses.get(Cost).of(model.graph[0])
    assert (found.flops, found.bytes) == (flops, moved)


def test_attention_counts_both_products_and_the_softmax() -> None:
    model, analyses = analyses_of(
        """g (float[1, 2, 3, 8] q, float[1, 2, 5, 8] k, float[1, 2, 5, 8] v) => (float[a, b, c, e] y) {
            y = Attention(q, k, v) }""",
        23,
    )
    assert analyses.get(Cost).of(model.graph[0]).flops == 2 * 3 * 5 * (16 + 16 + 5)


def test_what_is_not_known_is_named_and_not_counted() -> None:
    _, analyses = analyses_of("g (float[N, 4] x) => (float[a] y) { y = Relu(x) z = other.Op(y) }")
    cost = analyses.get(Cost)
    assert [node.op_type for node in cost.total().unknown] == ["Relu", "Op"]
    bound = cost.total({"N": 2})
    assert (bound.flops, bound.bytes) == (8, 64)
    assert [node.op_type for node in bound.unknown] == ["Op"]
