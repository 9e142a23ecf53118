"""Another opset: what the converter may not lose, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.helper as oh
import onnx.numpy_helper
import onnx.parser
import onnxruntime as ort
import pytest
from optimize_graph import ir


def read(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


def run(model: ir.Model) -> list[np.ndarray]:
    """The outputs on inputs that are the same for every model with the same interface; optimizations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(ir.to_bytes(model), options, providers=["CPUExecutionProvider"])
    made = np.random.default_rng(0)
    feeds = {}
    for port in session.get_inputs():
        array = np.asarray(made.standard_normal(port.shape))
        feeds[port.name] = np.asarray(array > 0) if port.type == "tensor(bool)" else array.astype(np.float32)
    return session.run(None, feeds)


REDUCE_11 = """<ir_version: 6, opset_import: ["": 11]> g (float[2,3,1] x) => (float[2,3] s, float[2] r) {
    s = Squeeze<axes = [2]>(x)  r = ReduceSum<axes = [1], keepdims = 0>(s) }"""
REDUCE_17 = """<ir_version: 8, opset_import: ["": 17]> g (float[2,3] x) => (float[2] y) {
    m = ReduceMean<axes = [1], keepdims = 0>(x)  n = ReduceMax<axes = [1], keepdims = 0>(x)  y = Add(m, n) }"""
BRANCHES_17 = """<ir_version: 8, opset_import: ["": 17]> g (float[2,3] x, bool c) => (float[2] y) {
    y = If(c)<then_branch = t () => (float[2] p) { p = ReduceMean<axes = [1], keepdims = 0>(x) },
              else_branch = e () => (float[2] q) { q = ReduceMin<axes = [-1], keepdims = 0>(x) }> }"""
CASES = {
    "axes of Squeeze and ReduceSum": (REDUCE_11, 13),
    "axes of ReduceMean and ReduceMax": (REDUCE_17, 18),
    "reductions in branches": (BRANCHES_17, 21),
    "Softmax that flattens": (
        """<ir_version: 6, opset_import: ["": 12]> g (float[2,3,4] x) => (float[2,3,4] y) {
        s = Softmax<axis = 1>(x)  y = Neg(s) }""",
        13,
    ),
    "Softmax that is the output": (
        """<ir_version: 6, opset_import: ["": 11]> g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }""",
        21,
    ),
    "Clip with attributes": (
        """<ir_version: 5, opset_import: ["": 10]> g (float[8] x) => (float[8] y) {
        y = Clip<min = -0.5, max = 0.5>(x) }""",
        13,
    ),
    "Pad with attributes": (
        """<ir_version: 5, opset_import: ["": 10]> g (float[2,3] x) => (float[2,5] y) {
        y = Pad<pads = [0,1,0,1], value = 2.0>(x) }""",
        21,
    ),
    "Split without sizes": (
        """<ir_version: 8, opset_import: ["": 17]> g (float[4,3] x) => (float[2,3] a, float[2,3] b) {
        a, b = Split(x) }""",
        18,
    ),
    "Slice with attributes": (
        """<ir_version: 4, opset_import: ["": 9]> g (float[4,3] x) => (float[2,3] y) {
        y = Slice<starts = [1], ends = [3]>(x) }""",
        13,
    ),
    "Upsample becomes Resize": (
        """<ir_version: 4, opset_import: ["": 9]> g (float[1,1,2,2] x) => (float[1,1,4,4] y)
        <float[4] scales = {1,1,2,2}> { u = Upsample<mode = "nearest">(x, scales)  y = Relu(u) }""",
        13,
    ),
    "Hardmax that flattens": (
        """<ir_version: 6, opset_import: ["": 12]> g (float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax(x) }""",
        13,
    ),
    "Softmax of an inner axis, down": (
        """<ir_version: 8, opset_import: ["": 17]> g (float[2,3,4] x) => (float[2,3,4] y, float[2,3,4] z) {
        y = Softmax<axis = 1>(x)  z = LogSoftmax(x) }""",
        11,
    ),
    "Resize before coordinates had a choice": (
        """<ir_version: 5, opset_import: ["": 10]> g (float[1,1,4,4] x) => (float[1,1,6,9] y, float[1,1,2,2] z)
        <float[4] up = {1,1,1.5,2.25}, float[4] down = {1,1,0.5,0.6}> {
        y = Resize<mode = "linear">(x, up)  z = Resize(x, down) }""",
        19,
    ),
    "Upsample by no whole factor": (
        """<ir_version: 4, opset_import: ["": 9]> g (float[1,1,4,4] x) => (float[1,1,6,9] y, float[1,1,6,9] z)
        <float[4] scales = {1,1,1.5,2.25}> {
        y = Upsample<mode = "linear">(x, scales)  z = Upsample<mode = "nearest">(x, scales) }""",
        21,
    ),
    "GroupNormalization by group, in a branch": (
        """<ir_version: 8, opset_import: ["": 18]> g (float[2,4,3] x, float[2] s, float[2] b, bool c)
        => (float[2,4,3] y) {
        y = If(c)<then_branch = t () => (float[2,4,3] p) { p = GroupNormalization<num_groups = 2>(x, s, b) },
                  else_branch = e () => (float[2,4,3] q) { q = Identity(x) }> }""",
        21,
    ),
    "RoiAlign from before its coordinates had a choice": (
        """<ir_version: 5, opset_import: ["": 10]> g (float[1,1,4,4] x) => (float[1,1,2,2] y)
        <float[1,4] rois = {0, 0, 3, 3}, int64[1] i = {0}> {
        y = RoiAlign<output_height = 2, output_width = 2>(x, rois, i) }""",
        21,
    ),
    "a negative axis down": (
        """<ir_version: 6, opset_import: ["": 11]> g (float[2,3,4] x) => (float[6,4] y) {
        y = Flatten<axis = -1>(x) }""",
        10,
    ),
    "TopK with an attribute": (
        """<ir_version: 4, opset_import: ["": 9]> g (float[2,5] x) => (float[2,3] v, int64[2,3] i) {
        v, i = TopK<k = 3>(x) }""",
        18,
    ),
    "reductions down": (
        """<ir_version: 8, opset_import: ["": 18]> g (float[2,3] x) => (float[2] y) <int64[1] axes = {1}> {
        y = ReduceMean<keepdims = 0, noop_with_empty_axes = 0>(x, axes) }""",
        13,
    ),
    "a Loop": (
        """<ir_version: 6, opset_import: ["": 12]> g (float[2,3] x) => (float[2,3] y)
        <int64 n = {3}, bool go = {1}> {
        y = Loop(n, go, x)<body = b (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w) {
            d = Identity(c)  s = Softmax<axis = 0>(v)  m = ReduceSum<axes = [1]>(x)  w = Add(s, m) }> }""",
        21,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_converted_model_computes_the_same(name: str) -> None:
    text, version = CASES[name]
    model = read(text)
    converted = ir.convert_opset(model, version)
    assert ir.standard_opset(converted) == version
    assert ir.verify(converted) == []
    onnx.checker.check_model(ir.to_proto(converted), full_check=True)
    for before, after in zip(run(model), run(converted), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_model_at_the_version_comes_back_itself() -> None:
    model = read(REDUCE_17)
    assert ir.convert_opset(model, 17) is model


def test_the_given_model_stays_as_it_was() -> None:
    model = read(BRANCHES_17)
    before = ir.to_bytes(model)
    ir.convert_opset(model, 21)
    assert ir.to_bytes(model) == before


def test_every_node_is_stamped_with_the_new_version() -> None:
    converted = ir.convert_opset(read(BRANCHES_17), 21)
    assert {node.version for node in ir.nodes(converted)} == {21}


def test_two_conversions_give_the_same_bytes() -> None:
    first, second = (ir.to_bytes(ir.convert_opset(read(CASES["a Loop"][0]), 21)) for _ in range(2))
    assert first == second


# --- what may not be lost ---------------------------------------------------------------------------------------------


def annotated() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17, "com.example": 1], producer_name: "me", model_version: 7>
        g (float[N,3] x, float[3] w) => (float[N] y) <float[3] w = {1,2,3}, float[N,3] a> {
        [first] a = Mul(x, w)  [second] m = ReduceMean<axes = [1], keepdims = 0>(a)
        [third] y = com.example.Own<k = 3>(m)
        }"""
    )
    proto.doc_string, proto.graph.doc_string = "the model", "the graph"
    proto.graph.input[0].doc_string = "the input"
    for holder in (proto, proto.graph, *proto.graph.node, proto.graph.output[0]):
        holder.metadata_props.add(key="origin", value="somewhere")
    for node in proto.graph.node:
        node.doc_string = f"the {node.name} node"
    return proto


def test_names_metadata_and_documentation_stay() -> None:
    given = annotated()
    proto = ir.to_proto(ir.convert_opset(ir.from_proto(given), 18))
    assert (proto.doc_string, proto.producer_name, proto.model_version) == ("the model", "me", 7)
    assert proto.metadata_props == given.metadata_props
    assert (proto.graph.doc_string, proto.graph.metadata_props) == ("the graph", given.graph.metadata_props)
    named = {node.name: node for node in proto.graph.node}
    for node in given.graph.node:
        kept = named[node.name]
        assert (kept.op_type, kept.output, kept.doc_string) == (node.op_type, node.output, node.doc_string)
        assert kept.metadata_props == node.metadata_props
    assert list(named["third"].attribute) == list(given.graph.node[2].attribute)


def test_the_interface_stays_with_its_overridable_initializer() -> None:
    given = annotated()
    proto = ir.to_proto(ir.convert_opset(ir.from_proto(given), 18))
    assert list(proto.graph.input) == list(given.graph.input)
    assert list(proto.graph.output) == list(given.graph.output)
    assert "w" in {tensor.name for tensor in proto.graph.initializer}


def test_no_value_is_declared_that_was_not_declared() -> None:
    given = annotated()
    proto = ir.to_proto(ir.convert_opset(ir.from_proto(given), 18))
    assert [info.name for info in proto.graph.value_info] == ["a"]
    assert list(proto.graph.value_info) == list(given.graph.value_info)


def test_a_replaced_node_passes_its_name_on_to_the_output() -> None:
    model = read(
        """<ir_version: 4, opset_import: ["": 9]> g (float[1,1,2,2] x) => (float[1,1,4,4] y)
        <float[4] scales = {1,1,2,2}> { y = Upsample<mode = "nearest">(x, scales) }"""
    )
    converted = ir.convert_opset(model, 13)
    assert operators(converted)[-1] == "Resize"
    assert [value.name for value in converted.graph.outputs] == ["y"]
    assert converted.graph.outputs[0].shape == model.graph.outputs[0].shape


def test_new_names_are_unique_over_scopes() -> None:
    model = read(
        """<ir_version: 8, opset_import: ["": 17]> g (float[2,3] Constant, bool c) => (float[2] y) {
        _v_1 = ReduceMean<axes = [1], keepdims = 0>(Constant)
        y = If(c)<then_branch = t () => (float[2] p) { p = ReduceSum<keepdims = 0>(Constant, k) },
                  else_branch = e () => (float[2] q) { q = ReduceMin<axes = [1], keepdims = 0>(Constant) }>
        }""".replace("_v_1 =", "k = Constant<value = int64[1] {1}>()  _v_1 =")
    )
    converted = ir.convert_opset(model, 18)
    names = [value.name for node in ir.nodes(converted) for value in node.outputs]
    assert len(names) == len(set(names))
    for before, after in zip(run(model), run(converted), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_constant_that_only_a_branch_still_reads_stays() -> None:
    model = read(
        """<ir_version: 8, opset_import: ["": 18]> g (float[2,3] x, bool c) => (float[2] y, float[2] z) {
        k = Constant<value = int64[1] {1}>()  z = ReduceMean<keepdims = 0>(x, k)
        y = If(c)<then_branch = t () => (float[2] p) { p = ReduceSum<keepdims = 0>(x, k) },
                  else_branch = e () => (float[2] q) { q = ReduceSum<keepdims = 0>(x, k) }> }"""
    )
    converted = ir.convert_opset(model, 17)
    assert operators(converted).count("Constant") == 1
    for before, after in zip(run(model), run(converted), strict=True):
        np.testing.assert_array_equal(before, after)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_the_same_tensors() -> None:
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    constant = oh.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(np.ones(999, np.float32)))
    half = oh.make_tensor("h", onnx.TensorProto.BFLOAT16, [4], b"\x80\x3f" * 4, raw=True)
    nodes = [constant, oh.make_node("MatMul", ["x", "w"], ["y"]), oh.make_node("ReduceMax", ["k"], ["z"], axes=[0])]
    inputs = [oh.make_tensor_value_info("x", 1, [2, 64])]
    outputs = [oh.make_tensor_value_info(name, 1, None) for name in ("y", "z")]
    outputs.append(oh.make_tensor_value_info("h", onnx.TensorProto.BFLOAT16, [4]))
    graph = oh.make_graph(nodes, "g", inputs, outputs, [weight, half])
    model = ir.from_proto(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8))
    converted = ir.convert_opset(model, 21)
    for name in ("w", "h"):
        assert converted.graph.initializers[name].const_value is model.graph.initializers[name].const_value
    kept = next(node for node in ir.nodes(converted) if node.outputs[0].name == "k")
    assert kept.attributes["value"].value is next(iter(model.graph)).attributes["value"].value


def test_external_weights_are_not_read_but_external_axes_are(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.arange(4096, dtype=np.float32), "w")
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [oh.make_node("Mul", ["x", "w"], ["p"]), oh.make_node("ReduceMean", ["p", "axes"], ["y"], keepdims=0)]
    ports = [oh.make_tensor_value_info("x", 1, [2, 4096])], [oh.make_tensor_value_info("y", 1, [2])]
    proto = oh.make_model(
        oh.make_graph(nodes, "g", *ports, [weight, axes]), opset_imports=[oh.make_opsetid("", 18)], ir_version=8
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = ir.load(path)
    converted = ir.convert_opset(model, 17)
    reduction = next(node for node in ir.nodes(converted) if node.op_type == "ReduceMean")
    assert list(reduction.attributes["axes"].value) == [1]
    kept = converted.graph.initializers["w"].const_value
    assert isinstance(kept, ir.ExternalTensor)
    assert kept is model.graph.initializers["w"].const_value
    assert kept.raw is None, "the file was mapped"


# --- functions, IR versions -------------------------------------------------------------------------------------------


def test_functions_are_inlined() -> None:
    model = read(
        """<ir_version: 8, opset_import: ["": 17, "local": 1]> g (float[2,3] x) => (float[2,1] y) {
        y = local.Mean(x) }
        <domain: "local", opset_import: ["": 17]> Mean (a) => (b) { b = ReduceMean<axes = [1]>(a) }"""
    )
    converted = ir.convert_opset(model, 18)
    assert not converted.functions
    assert operators(converted) == ["Constant", "ReduceMean"]
    for before, after in zip(run(model), run(converted), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("highest", "expected"), [(None, 10), (9, 9), (8, 8), (4, 8)])
def test_the_ir_version_rises_with_the_opset_up_to_the_bound(highest: int | None, expected: int) -> None:
    assert ir.convert_opset(read(REDUCE_17), 21, highest_ir=highest).ir_version == expected


def test_the_required_ir_version_comes_from_the_newest_type() -> None:
    assert ir.required_ir_version(read(REDUCE_17)) == (8, "")
    graph = "g (float[4] x) => (float[4] y)"
    cast = read(f'<ir_version: 13, opset_import: ["": 21]> {graph} {{ c = Cast<to = 22>(x)  y = Cast<to = 1>(c) }}')
    assert ir.required_ir_version(cast) == (10, "type INT4")
    cast = read(f'<ir_version: 13, opset_import: ["": 19]> {graph} {{ c = Cast<to = 17>(x)  y = Cast<to = 1>(c) }}')
    assert ir.required_ir_version(cast) == (9, "type FLOAT8E4M3FN")


def test_metadata_of_nodes_requires_no_higher_ir_version() -> None:
    assert ir.required_ir_version(ir.from_proto(annotated())) == (8, "")


# --- what is refused --------------------------------------------------------------------------------------------------


def miss(text: str, version: int) -> ir.Diagnostic:
    with pytest.raises(ir.ModelError) as caught:
        ir.convert_opset(read(text), version)
    assert "\n" not in str(caught.value)
    return caught.value.diagnostic


def test_an_operator_that_cannot_go_down_is_named_and_how_far_it_goes() -> None:
    found = miss(
        """<ir_version: 10, opset_import: ["": 21]> g (float[4] x) => (float[4] y) {
        s = Relu(x)  y = Gelu(s) }""",
        17,
    )
    assert found.code == "opset-conversion"
    assert "Gelu cannot be converted from opset 20 to 19" in found.message
    assert "opset 20" in found.hint


def test_axes_that_a_caller_may_override_do_not_become_an_attribute() -> None:
    found = miss(
        """<ir_version: 8, opset_import: ["": 18]> g (float[2,3] x, int64[1] axes) => (float[2] y)
        <int64[1] axes = {1}> { y = ReduceMean<keepdims = 0>(x, axes) }""",
        17,
    )
    assert "ReduceMean cannot be converted from opset 18 to 17" in found.message


@pytest.mark.parametrize(
    ("text", "version", "message"),
    [
        (
            """<ir_version: 4, opset_import: ["": 9]> g (float[4] x) => (float[4] y, float[4] m) {
            y, m = Dropout(x) }""",
            13,
            "Dropout cannot be converted from opset 9 to 10: its mask is used",
        ),
        (
            """<ir_version: 5, opset_import: ["": 10]> g (float[1,1,4,4] x, float[4] k) => (float[a,b,c,d] y) {
            y = Resize(x, k) }""",
            13,
            "Resize cannot be converted from opset 10 to 11: nearest elements by factors that are computed",
        ),
        (
            """<ir_version: 5, opset_import: ["": 10]> g (float[1,1,4,4] x) => (float[1,1,2,6] y)
            <float[4] k = {1,1,0.5,1.5}> { y = Resize(x, k) }""",
            13,
            "Resize cannot be converted from opset 10 to 11: nearest elements of dims that grow",
        ),
        (
            """<ir_version: 10, opset_import: ["": 21]> g (float[2,4,3] x, float[4] s) => (float[2,4,3] y) {
            y = GroupNormalization<num_groups = 2>(x, s, s) }""",
            18,
            "GroupNormalization cannot be converted from opset 21 to 20: scale and bias",
        ),
    ],
)
def test_what_another_opset_defines_otherwise_is_refused_for_its_reason(text: str, version: int, message: str) -> None:
    assert message in miss(text, version).message


def test_a_malformed_result_is_refused() -> None:
    found = miss(
        """<ir_version: 9, opset_import: ["": 19]> g (float[1,1,8,8] x) => (float[1,1,6,6] y) {
        y = AveragePool<kernel_shape = [2,2], dilations = [2,2]>(x) }""",
        18,
    )
    assert (found.code, "AveragePool" in found.message) == ("opset-conversion", True)


@pytest.mark.parametrize("version", [0, -1, 10_000])
def test_an_unknown_version_is_an_error(version: int) -> None:
    assert miss(REDUCE_17, version).code == "opset-unsupported"


def test_scan_with_a_batch_dim_is_refused() -> None:
    scan = """<ir_version: 3, opset_import: ["": 8]> g (float[1,2] s, float[1,3,2] x)
        => (float[1,2] f, float[1,3,2] y) {
        f, y = Scan(, s, x)<num_scan_inputs = 1, body = b (float[2] i, float[2] v) => (float[2] o, float[2] w) {
            o = Add(i, v)  w = Identity(o) }> }"""
    assert "Scan" in miss(scan, 13).message


def test_graphs_in_operators_of_other_domains_are_refused() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.example": 1]> g (float[2,3] x) => (float[2] y) {
        y = com.example.Do<body = b () => (float[2] p) { p = ReduceMean<axes = [1], keepdims = 0>(x) }>() }"""
    assert "com.example::Do" in miss(text, 18).message


def test_a_model_that_would_lose_something_is_refused() -> None:
    proto = onnx.parser.parse_model(REDUCE_17)
    proto.training_info.add()
    with pytest.raises(ir.ModelError, match="training_info"):
        ir.convert_opset(ir.from_proto(proto), 18)
