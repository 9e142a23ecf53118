"""Large list attributes stay as the bytes that the file has for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from optimize_graph import ir, optimize
from optimize_graph.ir.io import encoded_attributes
from optimize_graph.options import Options

TREES = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1, "local" : 1]>'
HOLDERS = {
    "main graph": TREES + "g (float[N,2] x) => (float[N,1] y) { r = Relu(x)  y = ai.onnx.ml.TreeEnsembleRegressor(r) }",
    "If": TREES
    + """g (float[N,2] x, bool c) => (float[N,1] y) {
        y = If (c) <then_branch = t () => (float[N,1] a) { a = ai.onnx.ml.TreeEnsembleRegressor(x) },
                    else_branch = e () => (float[N,1] b) { b = ai.onnx.ml.TreeEnsembleRegressor(x) }>
    }""",
    "function": TREES
    + "g (float[N,2] x) => (float[N,1] y) { y = local.Trees(x) }"
    + '<domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 1]> Trees (x) => (y) { '
    + "y = ai.onnx.ml.TreeEnsembleRegressor(x) }",
}


def trees(text: str, count: int) -> onnx.ModelProto:
    """The model in `text` with `count` trees of three nodes in each of its ensembles."""
    model = onnx.parser.parse_model(text)
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            pending += [attribute.g.node for attribute in node.attribute if attribute.HasField("g")]
            if node.op_type == "TreeEnsembleRegressor":
                _fill(node, count)
    return model


def _fill(node: onnx.NodeProto, count: int) -> None:
    random = np.random.default_rng(0)
    lists = {
        "nodes_treeids": np.repeat(np.arange(count), 3),
        "nodes_nodeids": np.tile([0, 1, 2], count),
        "nodes_featureids": np.tile([1, 0, 0], count),
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * count,
        "nodes_values": random.standard_normal(3 * count).astype(np.float32),
        "nodes_truenodeids": np.tile([1, 0, 0], count),
        "nodes_falsenodeids": np.tile([2, 0, 0], count),
        "target_treeids": np.repeat(np.arange(count), 2),
        "target_nodeids": np.tile([1, 2], count),
        "target_ids": np.zeros(2 * count, int),
        "target_weights": random.standard_normal(2 * count).astype(np.float32),
    }
    for name, content in lists.items():
        node.attribute.append(onnx.helper.make_attribute(name, list(content)))
    node.attribute.append(onnx.helper.make_attribute("n_targets", 1))


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_attributes, "LARGE", 64)


def held(model: ir.Model) -> list[str]:
    return sorted(
        attribute.name
        for node in ir.nodes(model)
        for attribute in node.attributes.values()
        if isinstance(attribute, ir.EncodedAttr)
    )


@pytest.mark.parametrize("place", HOLDERS)
def test_a_model_with_encoded_lists_is_written_byte_for_byte_as_it_was(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = ir.to_bytes(ir.from_proto(trees(HOLDERS[place], 40)))
    monkeypatch.setattr(encoded_attributes, "LARGE", 64)
    (tmp_path / "m.onnx").write_bytes(data)
    model = ir.load(tmp_path / "m.onnx")
    assert len(held(model)) == 11 * (2 if place == "If" else 1)
    ir.save(model, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == data
    assert onnx.ModelProto.FromString(data) == ir.to_proto(model)


def test_only_lists_of_a_megabyte_are_kept_encoded() -> None:
    assert held(ir.from_proto(trees(HOLDERS["main graph"], 1000))) == []
    model = ir.from_proto(trees(HOLDERS["main graph"], 60_000))
    assert held(model) == ["nodes_modes"]
    assert ir.encoded_bytes(model) >= encoded_attributes.LARGE


def test_values_are_decoded_when_they_are_asked_for(small_limit: None) -> None:
    proto = trees(HOLDERS["main graph"], 40)
    for given in (proto, proto.SerializeToString()):
        node = next(each for each in ir.nodes(ir.from_proto(given)) if each.op_type == "TreeEnsembleRegressor")
        for attribute in proto.graph.node[1].attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name in held(ir.from_proto(given)):
                value = tuple(each.decode() if isinstance(each, bytes) else each for each in value)
            assert ir.attribute(node, attribute.name) == value


def test_a_fingerprint_covers_the_content_of_encoded_lists(small_limit: None) -> None:
    one, same = (ir.from_proto(trees(HOLDERS["main graph"], 40)) for _ in range(2))
    proto = trees(HOLDERS["main graph"], 40)
    proto.graph.node[1].attribute[4].floats[7] += 1
    assert ir.fingerprint(one) == ir.fingerprint(same) != ir.fingerprint(ir.from_proto(proto))


@pytest.mark.parametrize("change", [0.0, 1.0])
def test_ensembles_are_merged_only_when_their_lists_are_equal(small_limit: None, change: float) -> None:
    text = (
        TREES
        + """g (float[N,2] x) => (float[N,1] y) {
        a = ai.onnx.ml.TreeEnsembleRegressor(x)  b = ai.onnx.ml.TreeEnsembleRegressor(x)  y = Sub(a, b)
    }"""
    )
    proto = trees(text, 40)
    proto.graph.node[1].attribute[4].floats[7] += change
    result = optimize(proto, options=Options(verify=False))
    assert sum(node.op_type == "TreeEnsembleRegressor" for node in ir.nodes(result.model)) == (2 if change else 1)


def test_an_optimized_ensemble_is_verified_and_runs(small_limit: None, tmp_path: Path) -> None:
    proto = trees(HOLDERS["main graph"].replace("r = Relu(x)", "i = Relu(x)  r = Relu(i)"), 40)
    result = optimize(proto, tmp_path / "out.onnx")
    assert result.verification is not None and result.verification.ok
    assert len(list(ir.nodes(result.model))) == 2
    x = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    runs = [
        ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for data in (proto.SerializeToString(), (tmp_path / "out.onnx").read_bytes())
    ]
    assert np.array_equal(*runs)


@pytest.mark.parametrize("step", [1, 7, 64])
def test_a_damaged_file_is_refused_as_one_without_large_lists_is(small_limit: None, step: int) -> None:
    data = trees(HOLDERS["main graph"], 40).SerializeToString()
    for cut in range(1, len(data), max(len(data) // 20, 1) * step):
        with pytest.raises(ir.ModelError):
            ir.from_proto(data[:cut])


@pytest.mark.parametrize("spoil", ["text", "type", "reference", "two lists"])
def test_a_list_that_this_form_cannot_carry_is_left_to_protobuf(small_limit: None, spoil: str) -> None:
    proto = trees(HOLDERS["main graph"], 40)
    attribute = next(each for each in proto.graph.node[1].attribute if each.name == "nodes_modes")
    match spoil:
        case "text":
            attribute.strings[3] = b"\xff\xfe"
        case "type":
            attribute.type = onnx.AttributeProto.INTS
        case "reference":
            attribute.ref_attr_name = "other"
        case "two lists":
            attribute.ints.extend(range(100))
    left, found = encoded_attributes.cut_out(proto.SerializeToString())
    assert "nodes_modes" not in {each.name for each in found.values()}
    assert next(each for each in onnx.ModelProto.FromString(left).graph.node[1].attribute if each == attribute)
