"""onnx's reference evaluator, in a model's own types or with float64 in the place of float32.

Slow, and wrong here and there (BatchNormalization below opset 14): a second opinion, never the only one.

Also a script, `python -P reference_evaluator.py REQUEST ANSWER`: it may take any time, so it must be one to be stopped.
It imports nothing else of this package, as onnx-ir alone takes longer to load than most models to run. `-P`, since a
Python file in the folder of an untrusted model must not be imported.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
_TYPES = ("to", "dtype", "output_dtype")  # attributes that name an element type


def evaluate(data: bytes, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a serialized model. Raises whatever the evaluator does on what it cannot compute."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(data)
    names = [output.name for output in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, dict(feeds)), strict=True))


def evaluate_in_double(data: bytes, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The same where float64 stands for float32: weights and inputs keep their values, results are not rounded."""
    model = onnx.load_model_from_string(data)
    _double(model)
    wide = {name: each.astype(np.float64) if _is_single(each) else each for name, each in feeds.items()}
    return evaluate(model.SerializeToString(), wide)


def _is_single(datum: object) -> bool:
    return isinstance(datum, np.ndarray) and datum.dtype == np.float32


def _double(model: onnx.ModelProto) -> None:
    pending = [model.graph, *model.functions]
    while pending:  # bodies may be nested as deeply as the file likes
        graph = pending.pop()
        if isinstance(graph, onnx.GraphProto):
            for tensor in graph.initializer:
                _double_tensor(tensor)
            for value in (*graph.input, *graph.output):
                _double_type(value.type)
            del graph.value_info[:]
        for node in graph.node:
            for attribute in node.attribute:
                _double_attribute(attribute)
                pending += [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]


def _double_attribute(attribute: onnx.AttributeProto) -> None:
    if attribute.HasField("t"):
        _double_tensor(attribute.t)
    elif attribute.name in _TYPES and attribute.i == _FLOAT:
        attribute.i = _DOUBLE
    elif attribute.name in ("value_float", "value_floats"):  # of Constant
        array = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float64)
        attribute.Clear()
        attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
        attribute.t.CopyFrom(onnx.numpy_helper.from_array(array))


def _double_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _FLOAT:
        name, array = tensor.name, onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float64), name))


def _double_type(kind: onnx.TypeProto) -> None:
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value") or "").elem_type
    if kind.WhichOneof("value") == "tensor_type" and kind.tensor_type.elem_type == _FLOAT:
        kind.tensor_type.elem_type = _DOUBLE


if __name__ == "__main__":
    request, answer = map(Path, sys.argv[1:])
    given = pickle.loads(request.read_bytes())
    answer.write_bytes(pickle.dumps((evaluate(*given), evaluate_in_double(*given))))
