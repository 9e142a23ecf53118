"""The width of values that ONNX Runtime does not infer is declared, so that what is behind an Attention loads."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, Settings, Target, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

COMPUTED = "n = Shape<start = 0, end = 1>(x)  t = Concat<axis = 0>(n, rest)  r = Reshape(x, t)  v = Neg(r)"


def attention(values: str) -> onnx.ModelProto:
    """Attention to `values` of width 16, and a product."""
    proto = onnx.parser.parse_model(
        '<ir_version: 11, opset_import: ["": 23]>\n'
        "g (float[b,s,16] q, float[b,l,16] k, float[b,l,2,8] x) => (float[b,s,4] y) "
        f"<int64[2] rest = {{-1, 16}}, int64[3] plain = {{0, -1, 16}}> {{ {values}  "
        "a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v)  y = MatMul(a, w) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((16, 4), np.float32), "w"))
    return proto


def declared(proto: onnx.ModelProto, target: str = "ort-cpu") -> ir.Model:
    model = ir.from_proto(proto)
    for is_first in (True, False):
        settings = Settings(Target(target))
        log = Pipeline.parse("declare-attention-values").run(model, [VerifyEach()], settings=settings)
        assert is_first or not log.rewrites
    return model


def test_a_width_behind_a_computed_target_is_declared() -> None:
    proto = attention(COMPUTED)
    with pytest.raises(ir.ModelError):  # where this passes, the fault is gone: drop the pass
        open_session(proto.SerializeToString(), SessionOptions(optimize=False))
    model = declared(proto)
    open_session(ir.to_bytes(model), SessionOptions(optimize=False))
    again = ir.from_proto(onnx.load_from_string(ir.to_bytes(model)))
    assert [value.name for node in again.graph for value in node.outputs if value.shape is not None] == ["v", "y"]


@pytest.mark.parametrize(
    ("values", "target"), [("r = Reshape(x, plain)  v = Neg(r)", "ort-cpu"), (COMPUTED, "onnx")],
    ids=["a constant target", "another runtime"],
)  # fmt: skip
def test_others_are_left_alone(values: str, target: str) -> None:
    model = declared(attention(values), target)
    assert all(value.shape is None for node in model.graph for value in node.outputs if value.name == "v")
