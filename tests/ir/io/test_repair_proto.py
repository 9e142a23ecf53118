"""Models that ONNX Runtime loads although they break a rule of the standard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir, optimize
from optimize_graph.runtime import open_session

HEADER = '<ir_version: 10, opset_import: ["": 21]> '


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def test_nodes_are_sorted_and_keep_their_order_where_they_can() -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { y = Add(c, a)  a = Neg(x)  b = Exp(x)  c = Abs(b) }")
    open_session(proto.SerializeToString())  # ONNX Runtime takes it
    model = ir.from_proto(proto)
    remarks, problems = ir.repair(model)
    assert not problems and [each.code for each in remarks] == ["nodes-sorted"]
    assert [node.op_type for node in model.graph] == ["Neg", "Exp", "Abs", "Add"]


def test_nodes_of_bodies_are_sorted_too() -> None:
    proto = parsed("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = Neg(q)  q = Exp(x) },
                   else_branch = e () => (float[2] r) { r = Abs(x) }> }""")
    model = ir.from_proto(proto)
    assert ir.verify(model)
    assert ir.repair(model)[1] == []


def test_a_cycle_is_refused() -> None:
    model = ir.from_proto(parsed("g (float[2] x) => (float[2] y) { a = Add(x, y)  y = Neg(a) }"))
    remarks, problems = ir.repair(model)
    assert not remarks and problems[0].code == "order"


def test_an_unsorted_model_is_optimized_and_the_remark_told(tmp_path: Path) -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { y = Neg(b)  b = Identity(a)  a = Exp(x) }")
    onnx.save(proto, tmp_path / "in.onnx")
    result = optimize(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert result.verification is not None and result.verification.ok
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Exp", "Neg"]
    assert "nodes-sorted" in {remark.code for remark in result.remarks}


def test_malformed_nodes_that_nothing_uses_are_dropped_with_what_only_they_use() -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { y = Neg(x)  a = Exp(x)  b = Relu(a)  c = Concat<axis = 0>(a) }")
    proto.graph.node[2].ClearField("input")
    proto.graph.node[3].ClearField("input")
    model = ir.from_proto(proto)
    remarks, problems = ir.repair(model)
    assert not problems and [node.op_type for node in model.graph] == ["Neg"]
    assert [each.code for each in remarks] == ["unused-nodes-dropped"]


def test_a_malformed_node_that_is_used_is_refused_and_a_well_formed_unused_one_stays() -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { a = Exp(x)  y = Relu(x) }")
    assert ir.repair(ir.from_proto(proto)) == ([], [])
    proto.graph.node[1].ClearField("input")
    assert ir.repair(ir.from_proto(proto))[1][0].code == "arity"


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_value_info_that_contradicts_an_initializer_gives_way(dtype: type) -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { c = Cast<to = 1>(w)  y = Add(x, c) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2], dtype), "w"))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2]))
    open_session(proto.SerializeToString())
    result = optimize(proto)
    assert result.verification is not None and result.verification.ok
    assert "value-info-dropped" in {remark.code for remark in result.remarks}
