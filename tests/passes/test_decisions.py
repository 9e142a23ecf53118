"""Arithmetic before a threshold is left as it is; behind a reduction it is fused as ever."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
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
