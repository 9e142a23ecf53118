"""Figures: sizes of a model and what a run takes, as numbers and in the symbols of its interface."""

import onnx.parser
from optimize_graph import ModelStats, ir, model_stats

HEADER = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>\n'
ONES = ", ".join(["1"] * 32)
DENSE = f"""g (float[N, 4] x) => (float[N, 8] y) <float[4, 8] w = {{{ONES}}}> {{
    a = MatMul(x, w) b = Relu(a) y = Add(b, a) }}"""


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


def test_numbers_follow_the_sizes_that_are_given() -> None:
    found = model_stats(model_of(DENSE), {"N": 3})
    assert (found.nodes, found.weight_bytes) == (3, 128)
    assert found.flops == 3 * (64 + 8 + 8)
    assert found.bytes_moved == 4 * (12 + 32 + 24) + 4 * 48 + 4 * 72
    assert found.planned_peak_bytes == 3 * 96
    assert (found.unknown, found.bindings) == ({}, {"N": 3})


def test_the_dims_of_inputs_say_what_symbols_are() -> None:
    assert model_stats(model_of(DENSE), inputs={"x": (3, 4)}) == model_stats(model_of(DENSE), {"N": 3})


def test_a_dim_without_a_name_is_bound_by_the_inputs_too() -> None:
    model = model_of("g (float[?, 4] x) => (float[a, b] y) { y = Relu(x) }")
    found = model_stats(model, inputs={"x": (5, 4)})
    assert (found.flops, found.planned_peak_bytes, found.bindings) == (20, 80, {})


def test_formulas_give_the_numbers_at_every_size() -> None:
    found = model_stats(model_of(DENSE), formulas=True)
    assert (found.flops_formula, found.bytes_formula) == ("80*N", "208*N + 128")
    for size in (0, 1, 7):
        bound = model_stats(model_of(DENSE), {"N": size})
        assert eval(found.flops_formula or "", {"N": size}) == bound.flops
        assert eval(found.bytes_formula or "", {"N": size}) == bound.bytes_moved


def test_there_is_no_formula_where_a_node_is_not_known() -> None:
    found = model_stats(
        model_of("g (float[N] x) => (float[N] y) { a = Relu(x) y = NonZero(a) }"), {"N": 2}, formulas=True
    )
    assert (found.flops_formula, found.bytes_formula, found.unknown) == (None, None, {"NonZero": 1})
    assert found.planned_peak_bytes is None
    assert found.flops == 2


def test_constants_count_as_weights_and_not_as_nodes() -> None:
    found = model_stats(
        model_of("g (float[2] x) => (float[2] y) { c = Constant<value_floats = [1.0, 2.0]>() y = Add(x, c) }")
    )
    assert (found.nodes, found.weight_bytes, list(found.operators)) == (1, 8, ["Add"])


def test_operators_of_the_domain_that_rules_build_are_counted() -> None:
    text = """g (float[B, S, 8] q, float[B, S, 8] k, float[B, S, 8] v) => (float[a, b, c] y) {
        y = com.microsoft.MultiHeadAttention<num_heads = 2>(q, k, v) }"""
    found = model_stats(model_of(text), {"B": 2, "S": 3})
    assert found.flops == 2 * 3 * 3 * (16 + 16 + 10)
    assert found.operators["com.microsoft.MultiHeadAttention"].flops == found.flops


def test_shares_of_operators_add_up() -> None:
    found: ModelStats = model_stats(model_of(DENSE), {"N": 3})
    assert sum(each.flops for each in found.operators.values()) == found.flops
    assert sum(each.nodes for each in found.operators.values()) == found.nodes
