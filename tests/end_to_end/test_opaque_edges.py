"""What onnx-ir cannot hold at the edge of a model (maps) stays as it is, and the rest is optimized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from optimize_graph import Options, optimize
from optimize_graph.jobs.optimization import evaluation


def classifier(keys: str) -> onnx.ModelProto:
    """What skl2onnx leaves of a classifier: a cast, labels, and probabilities as maps."""
    text = keys == "classlabels_strings"
    labels = ["a", "b", "c"] if text else [0, 1, 2]
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node(
            "LinearClassifier",
            ["f"],
            ["label", "p"],
            domain="ai.onnx.ml",
            coefficients=[0.1 * index - 0.5 for index in range(12)],
            intercepts=[0.1, 0.2, 0.3],
            multi_class=1,
            post_transform="SOFTMAX",
            **({"classlabels_strings": labels} if text else {"classlabels_ints": labels}),
        ),
        helper.make_node("Identity", ["label"], ["l"]),
        helper.make_node("Identity", ["p"], ["q"]),
        helper.make_node("ZipMap", ["q"], ["probabilities"], domain="ai.onnx.ml", **{keys: labels}),
    ]
    key = TensorProto.STRING if text else TensorProto.INT64
    maps = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("l", key, ["N"]),
            helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps)),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("keys", ["classlabels_strings", "classlabels_int64s"])
@pytest.mark.parametrize("opset", [None, 21])
def test_a_model_that_gives_maps_is_optimized_up_to_them(keys: str, opset: int | None, tmp_path: Path) -> None:
    model = classifier(keys)
    onnx.save(model, tmp_path / "in.onnx")
    result = optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", Options(opset=opset))
    written = onnx.load(tmp_path / "out.onnx")
    assert result.verification is not None and result.verification.ok
    assert [node.op_type for node in written.graph.node] == ["LinearClassifier", "ZipMap"]
    assert written.graph.output == model.graph.output


def test_what_is_delivered_byte_for_byte_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr(evaluation.runtime, "open_session", refuse)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([2, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([4, 7], np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 5])))
    onnx.save(model, tmp_path / "in.onnx")
    result = optimize(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    assert result.verification is not None and result.verification.ok
    assert result.verification.summary() == "the file is delivered byte for byte as it was"
    assert np.array_equal(result.model.graph.initializers["w"].const_value.numpy(), [[0, 4, 0], [0, 0, 7]])
