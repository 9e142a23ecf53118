"""Types and dims of ai.onnx.ml operators agree with what ONNX Runtime computes; casts to the type that is there go."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.ir.shapes.ml import ML_RULES
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager
from optimize_graph.runtime import SessionOptions, open_session

CASES = [
    ("float[n,3] x", "y = ai.onnx.ml.Scaler <offset = [0.0, 1.0, 2.0], scale = [1.0, 2.0, 3.0]> (x)"),
    ("int64[n,3] x", "y = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (x)"),
    ("float[n,3] x", 'y = ai.onnx.ml.Normalizer <norm = "L2"> (x)'),
    ("int64[n,3] x", 'y = ai.onnx.ml.Normalizer <norm = "MAX"> (x)'),
    ("float[n,3] x", "y = ai.onnx.ml.Imputer <imputed_value_floats = [0.0], replaced_value_float = -1.0> (x)"),
    ("int64[n,3] x", "y = ai.onnx.ml.Imputer <imputed_value_int64s = [5], replaced_value_int64 = 1> (x)"),
    ("float[n,3] x", "y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0, 3.0], intercepts = [0.0]> (x)"),
    (
        "float[n,3] x",
        "y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], targets = 2> (x)",
    ),
    (
        "float[n,3] x",
        "y = ai.onnx.ml.SVMRegressor <coefficients = [1.0], n_supports = 1, support_vectors = [1.0, 2.0, 3.0], "
        'rho = [0.0], kernel_type = "LINEAR", kernel_params = [1.0, 0.0, 3.0]> (x)',
    ),
    ("float[n,3] x, int64[2] i", "y = ai.onnx.ml.ArrayFeatureExtractor(x, i)"),
    ("float[3] x, int64[2] i", "y = ai.onnx.ml.ArrayFeatureExtractor(x, i)"),
]


def model_of(inputs: str, call: str, dims: str, rest: str = "") -> onnx.ModelProto:
    header = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>'
    return onnx.parser.parse_model(f"{header} g ({inputs}) => (float[{dims}] out) {{ {call} {rest} }}")


def test_every_rule_has_a_case() -> None:
    assert {call.partition("ml.")[2].split(" ")[0].partition("(")[0] for _, call in CASES} == set(ML_RULES)


@pytest.mark.parametrize(("inputs", "call"), CASES)
@pytest.mark.parametrize("rows", [1, 4])
def test_what_is_inferred_is_what_runs(inputs: str, call: str, rows: int) -> None:
    proto = model_of(inputs, call, "a,b", "c = Cast <to = 1> (y)  out = Identity(c)")
    model = ir.from_proto(proto)
    shapes = AnalysisManager(model).get(Shapes)
    shapes.refresh(model)
    fact = shapes.fact(next(iter(model.graph)).outputs[0])
    assert fact.dims is not None
    del proto.graph.output[:]
    proto.graph.output.append(onnx.ValueInfoProto(name="y"))
    feeds = {
        value.name: (np.arange(3 * rows) % 2).reshape([rows, 3][-len(value.type.tensor_type.shape.dim) :] or [3])
        if value.name == "x" and len(value.type.tensor_type.shape.dim) == 2
        else np.arange(3 if value.name == "x" else 2)
        for value in proto.graph.input
    }
    kinds = {1: np.float32, 7: np.int64}
    feeds = {v.name: feeds[v.name].astype(kinds[v.type.tensor_type.elem_type]) for v in proto.graph.input}
    found = np.asarray(open_session(proto.SerializeToString(), SessionOptions()).run(feeds)["y"])
    assert fact.dtype is not None and fact.dtype.numpy() == found.dtype
    assert [dim if isinstance(dim, int) else rows for dim in fact.dims] == list(found.shape)


@pytest.mark.parametrize(("inputs", "call"), [case for case in CASES if "Imputer" not in case[1]])
def test_a_cast_to_the_type_that_an_operator_gives_goes(inputs: str, call: str) -> None:
    proto = model_of(inputs, call, "a,b", "c = Cast <to = 1> (y)  out = Neg(c)")
    result = optimize(proto, options=Options(verify=False))
    assert "Cast" not in {node.op_type for node in ir.nodes(result.model)}
