"""Arithmetic before a threshold is left as it is; behind a reduction it is fused as ever."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import AnalysisManager, Pipeline, Settings, Target
from optimize_graph.passes.analyses import Shapes
from optimize_graph.runtime import SessionOptions, open_session

SHIFTS = "a = Add(x, b)  s = Add(a, c)"
CONSTANTS = "<float[4] b = {0.1, 0.2, 0.3, 0.7}, float c = {0.5}, float[4] t = {3.1, 4.2, 5.3, 6.7}>"
DECISIONS = [
    "y = Less(s, t)",
    "r = Reshape(s, flat)  y = ArgMax<axis = 0>(r)",
    "n = Neg(s)  y = Cast<to = 7>(n)",
    "m = Relu(s)  y = Floor(m)",
    "y = QuantizeLinear(s, unit)",
]


def model(body: str, result: str) -> onnx.ModelProto:
    constants = CONSTANTS.replace(">", ", int64[1] flat = {-1}, float unit = {0.25}, float[4,4] w >")
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]>\ng (float[n,4] x) => ({result} y) {constants} {{ {body} }}'
    )
    del proto.graph.value_info[:]
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return proto


def count_of_additions(proto: onnx.ModelProto) -> int:
    result = optimize(proto, options=Options(verify=False, strict=True))
    return sum(node.op_type == "Add" for node in ir.nodes(result.model))


@pytest.mark.parametrize("decision", DECISIONS)
def test_two_shifts_stay_two_before_a_decision(decision: str) -> None:
    types = {"Less": "bool[n,4]", "ArgMax": "int64[1]", "Cast": "int64[n,4]", "Floor": "float[n,4]"}
    result = next((each for name, each in types.items() if f"= {name}" in decision), "uint8[n,4]")
    assert count_of_additions(model(f"{SHIFTS}  {decision}", result)) == 2


def test_two_shifts_become_one_where_nothing_decides_by_them() -> None:
    assert count_of_additions(model(f"{SHIFTS}  y = Exp(s)", "float[n,4]")) == 1


def test_two_shifts_become_one_behind_a_product_and_before_a_decision() -> None:
    body = "p = MatMul(x, w)  a = Add(p, b)  s = Add(a, c)  y = ArgMax<axis = 1>(s)"
    assert count_of_additions(model(body, "int64[n,1]")) < 2


def test_rows_of_a_tree_ensemble_keep_their_leaves() -> None:
    proto = model(f"{SHIFTS}  y = Identity(s)", "float[n,1]")
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    del proto.graph.node[-1]
    tree = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [float(np.float32(7.0) + np.float32(0.1) + np.float32(0.5)), 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    proto.graph.node.append(onnx.helper.make_node("TreeEnsembleRegressor", ["s"], ["y"], domain="ai.onnx.ml", **tree))
    result = optimize(proto, options=Options(verify=False, strict=True))
    feeds = {"x": np.arange(4000, dtype=np.float32).reshape(-1, 4) % 23}
    want, got = (
        open_session(each, SessionOptions(optimize=False)).run(feeds)["y"]
        for each in (proto.SerializeToString(), ir.to_bytes(result.model))
    )
    assert np.array_equal(np.asarray(want), np.asarray(got))
    assert sum(node.op_type == "Add" for node in ir.nodes(result.model)) == 2


# --- whole numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "constants", "additions"),
    [
        ("uint8", "b = {1, 2, 3, 4}, float c = {5}", 1),
        ("bool", "b = {1, 2, 3, 4}, float c = {5}", 1),
        ("int16", "b = {1, 2, 3, 4}, float c = {16000000}", 1),
        ("uint8", "b = {1, 2, 3, 4}, float c = {0.5}", 2),  # no whole number
        ("uint8", "b = {1, 2, 3, 4}, float c = {16777216}", 2),  # 255 more than float32 counts to
        ("int32", "b = {1, 2, 3, 4}, float c = {5}", 2),
        ("float", "b = {1, 2, 3, 4}, float c = {5}", 2),
    ],
)
def test_two_shifts_of_whole_numbers_become_one_where_their_type_holds_them(
    source: str, constants: str, additions: int
) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g ({source}[n,4] x) => (bool[n,4] y)
        <float[4] {constants}, float[4] t = {{3, 4, 5, 6}}> {{
        f = Cast<to = 1>(x)  {SHIFTS.replace("x", "f")}  y = Less(s, t) }}"""
    assert count_of_additions(onnx.parser.parse_model(text)) == additions


def test_whole_numbers_through_products_and_movement_are_followed() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (uint8[2,4] x) => (bool[4,2] y)
        <float two = {2}, float b = {-3}, float c = {7}, float t = {100}> {
        f = Cast<to = 1>(x)  m = Mul(f, two)  r = Transpose(m)  a = Add(r, b)  s = Sub(a, c)  y = Less(s, t) }"""
    proto = onnx.parser.parse_model(text)
    result = optimize(proto, options=Options(strict=True))
    assert sum(node.op_type in ("Add", "Sub") for node in ir.nodes(result.model)) == 1
    assert result.verification is not None and result.verification.ok


# --- bodies -----------------------------------------------------------------------------------------------------------

BODIES = {
    "a condition of If": """
        l = Less(first, limit)
        y = If(l) <then_branch = t () => (float[4] u) { u = Neg(s) }, else_branch = e () => (float[4] v) { v = Abs(s) }>
    """,
    "a capture in a branch": """
        y = If(flag) <then_branch = t () => (float[4] u) { w = Floor(s) u = Neg(w) },
                      else_branch = e () => (float[4] v) { v = Abs(s) }>
    """,
    "a state of a Loop": """
        i = Loop(two, yes, s) <body = b (int64 n, bool on, float[4] p) => (bool go, float[4] q) {
            go = Identity(on)  q = Floor(p) }>
        y = Exp(i)
    """,
    "a condition of a Loop": """
        i = Loop(two, yes, s) <body = b (int64 n, bool on, float[4] p) => (bool go, float[4] q) {
            z = ReduceMax<keepdims = 0>(p)  go = Less(z, limit)  q = Exp(p) }>
        y = Exp(i)
    """,
}


@pytest.mark.parametrize("body", BODIES)
def test_two_shifts_stay_two_before_a_decision_that_a_body_takes(body: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[4] x, bool flag) => (float[4] y)
        <float[4] b = {{0.1, 0.2, 0.3, 0.7}}, float c = {{0.5}}, float limit = {{0.25}}, int64 two = {{2}},
         bool yes = {{1}}, int64 at = {{0}}> {{ {SHIFTS}  first = Gather(s, at)  {BODIES[body]} }}"""
    assert count_of_additions(onnx.parser.parse_model(text)) == 2


def test_two_shifts_in_a_branch_stay_two_where_the_result_of_the_if_decides() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[4] x, bool flag) => (float[4] y)
        <float[4] b = {0.1, 0.2, 0.3, 0.7}, float c = {0.5}> {
        i = If(flag) <then_branch = t () => (float[4] u) { a = Add(x, b)  u = Add(a, c) },
                      else_branch = e () => (float[4] v) { v = Abs(x) }>
        y = Floor(i) }"""
    assert count_of_additions(onnx.parser.parse_model(text)) == 2
    assert count_of_additions(onnx.parser.parse_model(text.replace("Floor", "Exp"))) == 1


# --- passes that round ------------------------------------------------------------------------------------------------

HARD_SIGMOID = "m = Mul(x, alpha)  a = Add(m, beta)  l = Min(a, one)  s = Max(l, zero)"


@pytest.mark.parametrize(("last", "outlined"), [("Exp", 1), ("Floor", 0)])
def test_the_body_of_a_function_stays_written_out_before_a_decision(last: str, outlined: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[4] x) => (float[4] y)
        <float alpha = {{0.2}}, float beta = {{0.5}}, float one = {{1}}, float zero = {{0}}> {{
        {HARD_SIGMOID}  y = {last}(s) }}"""
    report = Pipeline.parse("outline-functions,recognize,simplify").run(ir.from_proto(onnx.parser.parse_model(text)))
    assert sum(node.op_type == "HardSigmoid" for node in report.model.graph) == outlined


@pytest.mark.parametrize(
    ("last", "becomes_float16"), [("y = Exp(s)", True), ("l = Less(s, t)  y = Cast<to = 1>(l)", False)]
)
def test_arithmetic_before_a_decision_stays_in_float32_where_the_rest_becomes_float16(
    last: str, becomes_float16: bool
) -> None:
    proto = model(f"{SHIFTS}  {last}", "float[n,4]")
    report = Pipeline.parse("convert-to-fp16").run(
        ir.from_proto(proto), settings=Settings(Target("ort-cuda"), fp16=True)
    )
    (addition, _) = [node for node in report.model.graph if node.op_type == "Add"]
    assert (
        AnalysisManager(report.model).get(Shapes).dtype(addition.outputs[0]) == ir.DataType.FLOAT16
    ) == becomes_float16
