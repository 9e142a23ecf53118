"""The bridge to GraphSurgeon: what that form lacks is put back or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper
from optimize_graph import ir

MODEL = """<ir_version: 10, opset_import: ["": 21, "f": 1], producer_name: "p", doc_string: "d">
g (float[N,3] x, bool c, float[3] scale) => (float[N,3] y)
<float[3] scale = {1, 1, 1}, float[3] w = {1, 2, 3}, float[3] unread = {0, 0, 0}, float[N,3] a> {
  a = Add (x, w)
  b = If (c) <then_branch = t () => (float[N,3] p) { p0 = Identity (a)  p = Neg (p0) },
              else_branch = e () => (float[N,3] q) { q = Abs (x) }>
  d = Identity (b)
  s = Mul (d, scale)
  y = f.twice <by = 2.0> (s)
}
<domain: "f", opset_import: ["": 21]>
twice <by> (v) => (r) { k = Constant <value_float: float = @by> ()  r = Mul (v, k) }"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.doc_string = "graph"
    proto.graph.metadata_props.add(key="g", value="1")
    proto.metadata_props.add(key="m", value="1")
    proto.graph.input[0].type.denotation = "IMAGE"
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    for node in proto.graph.node:
        node.metadata_props.add(key="from", value=node.op_type)
        node.doc_string = f"about {node.op_type}"
    proto.graph.node[1].attribute[0].g.node[1].metadata_props.add(key="from", value="inner")
    proto.graph.initializer[1].doc_string = "weight"
    proto.functions[0].metadata_props.add(key="f", value="1")
    proto.functions[0].value_info.append(helper.make_tensor_value_info("v", 1, ["K"]))
    return ir.from_proto(proto)


def without_identities(graph: Any) -> None:
    """What such functions look like."""
    for node in list(graph.nodes):
        for attribute in node.attrs.values():
            if hasattr(attribute, "nodes"):
                without_identities(attribute)
        if node.op == "Identity":
            kept, gone = node.inputs[0], node.outputs[0]
            for user in list(gone.outputs):
                user.inputs[user.inputs.index(gone)] = kept
            node.outputs.clear()
    graph.cleanup()


def test_nothing_is_lost_when_nothing_is_changed() -> None:
    before = model()
    after = ir.from_surgeon(ir.to_surgeon(before), before)
    lost = {"unread"}  # without any effect
    one, other = ir.to_proto(before), ir.to_proto(after)
    kept = [tensor for tensor in one.graph.initializer if tensor.name not in lost]
    del one.graph.initializer[:]
    one.graph.initializer.extend(kept)
    assert str(other).replace('domain: ""\n', "") == str(one).replace('domain: ""\n', "")


def test_a_change_is_taken_and_the_rest_stays() -> None:
    before = model()
    graph = ir.to_surgeon(before)
    without_identities(graph)
    after = ir.from_surgeon(graph, before)
    assert [node.op_type for node in after.graph] == ["Add", "If", "Mul", "twice"]
    proto = ir.to_proto(after)
    branch = proto.graph.node[1].attribute[0].g
    assert [node.op_type for node in branch.node] == ["Neg"]
    assert branch.node[0].metadata_props[0].value == "inner"
    assert [node.doc_string for node in proto.graph.node] == ["about Add", "about If", "about Mul", "about twice"]
    assert [value.name for value in proto.graph.input] == ["x", "c", "scale"]
    assert proto.graph.input[0].type.denotation == "IMAGE"
    assert [value.name for value in proto.graph.value_info] == ["a"]
    assert ir.is_overridable(after.graph.initializers["scale"])
    assert ir.verify(after) == []


def test_the_model_that_went_in_stays_as_it_was() -> None:
    before = model()
    bytes_before = ir.to_bytes(before)
    graph = ir.to_surgeon(before)
    without_identities(graph)
    for tensor in graph.tensors().values():
        if tensor.name == "w":
            tensor.values = tensor.values + 1
    ir.from_surgeon(graph, before)
    assert ir.to_bytes(before) == bytes_before


def test_new_nodes_and_weights_arrive() -> None:
    import onnx_graphsurgeon as gs

    before = model()
    graph = ir.to_surgeon(before)
    multiply = next(node for node in graph.nodes if node.op == "Mul")
    mine = gs.Variable("mine", np.float32)
    weight = gs.Constant("mine_w", np.full(3, 7, np.float32))
    graph.nodes.insert(0, gs.Node("Add", inputs=[multiply.inputs[1], weight], outputs=[mine]))
    multiply.inputs[1] = mine
    after = ir.from_surgeon(graph, before)
    assert after.graph[0].op_type == "Add"
    assert np.array_equal(ir.constant(after.graph.initializers["mine_w"]), np.full(3, 7, np.float32))


def rename_output(graph: Any) -> None:
    graph.outputs[0].name = "z"


def drop_input(graph: Any) -> None:
    del graph.inputs[1]


def drop_overridable(graph: Any) -> None:
    multiply = next(node for node in graph.nodes if node.op == "Mul")
    multiply.inputs[1] = multiply.inputs[0]


@pytest.mark.parametrize("change", [rename_output, drop_input, drop_overridable])
def test_a_changed_interface_is_refused(change: Any) -> None:
    before = model()
    graph = ir.to_surgeon(before)
    change(graph)
    with pytest.raises(ir.ModelError) as caught:
        ir.from_surgeon(graph, before)
    assert caught.value.diagnostic.code == "interface-changed"


def test_a_graph_that_is_not_well_formed_is_refused() -> None:
    before = model()
    graph = ir.to_surgeon(before)
    graph.nodes.reverse()
    with pytest.raises(ir.ModelError) as caught:
        ir.from_surgeon(graph, before)
    assert caught.value.diagnostic.code == "edit-malformed"


def test_optional_types_are_refused() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (optional(float[1]) x) => (bool y) { y = OptionalHasElement (x) }'
    with pytest.raises(ir.ModelError) as caught:
        ir.to_surgeon(ir.from_proto(onnx.parser.parse_model(text)))
    assert caught.value.diagnostic.code == "surgeon-cannot-hold"


def test_external_data_is_given_and_stays_external_where_it_is_unchanged(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["x"], ["i"]), helper.make_node("Add", ["i", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [4])], [value("y", 1, [4])], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    before = ir.load(tmp_path / "model.onnx")
    surgeon = ir.to_surgeon(before)
    assert surgeon.nodes[1].inputs[1].values.tolist() == [0, 1, 2, 3]
    without_identities(surgeon)
    after = ir.from_surgeon(surgeon, before)
    assert isinstance(after.graph.initializers["w"].const_value, ir.ExternalTensor)
    assert ir.data_files(after) == ("w.bin",)


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    import ml_dtypes

    before = model()
    before.graph.initializers.add(ir.pending_constant(np.ones(1, ml_dtypes.bfloat16), name="bf"))
    ir.from_surgeon(ir.to_surgeon(before), before)
    assert capsys.readouterr().out == ""


CAPTURE = """<ir_version: 10, opset_import: ["": 21]>
g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}, float[2] both = {3, 4}> {
  i = Identity (x)
  b = Add (i, both)
  y = If (c) <then_branch = t () => (float[2] p) { o = Identity (w)  p = Add (o, b) },
              else_branch = e () => (float[2] q) { q = Sub (w, both) }>
}"""


@pytest.mark.parametrize(
    "edit", [lambda graph: None, without_identities, lambda graph: graph.fold_constants().cleanup()]
)
def test_weights_that_bodies_capture_stay_in_the_graph_that_owns_them(edit: Any) -> None:
    before = ir.from_proto(onnx.parser.parse_model(CAPTURE))
    graph = ir.to_surgeon(before)
    edit(graph)
    after = ir.from_surgeon(graph, before)
    assert list(after.graph.initializers) == ["w", "both"]
    assert not [name for body in list(ir.graphs(after))[1:] for name in body.initializers]


def test_a_captured_weight_stays_when_only_a_body_reads_it_any_more() -> None:
    before = ir.from_proto(onnx.parser.parse_model(CAPTURE))
    graph = ir.to_surgeon(before)
    add = next(node for node in graph.nodes if node.op == "Add")
    add.inputs[1] = add.inputs[0]
    after = ir.from_surgeon(graph, before)
    assert "both" in after.graph.initializers
    assert ir.verify(after) == []
