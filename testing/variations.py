"""What a model may look like besides how the author of a rule wrote it down: the golden files' models, varied.

Each variation is legal wherever the original is; what it does to a rule (a value with another user, a constant
that the caller may override, an axis counted from the end) is for the rule to notice.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from .. import ir
from ..passes import Exactness
from .differential import (
    assert_same_interface,
    attends_to_nothing,
    compare,
    is_valid,
    optimized,
    outputs_of,
    session_of,
)
from .variation_feeds import feeds_for

OPSETS = (11, 13, 17, 18, 21, 23)
NEGATABLE = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True)
class Subject:
    """A model that a rule looks at, and a pipeline that runs the rule. `is_hit`: the rule fires on it."""

    rule: str
    title: str
    model: onnx.ModelProto
    pipeline: str
    is_hit: bool = True
    target: str = "ort-cpu"

    def __str__(self) -> str:
        return f"{self.rule}: {self.title}"


def alone(rule: str) -> str:
    """A pipeline of this rule alone."""
    return f"rewrite{{rules={rule}}},dce"


# --- variations -------------------------------------------------------------------------------------------------------

Variation = Callable[[onnx.ModelProto], Iterator[onnx.ModelProto]]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to change."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def inner_values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What nodes of the main graph make and no caller sees, as far as inference knows its type and rank."""
    outputs = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output} - outputs
    known = shape_inference.infer_shapes(model).graph.value_info
    return [value for value in known if value.name in made and value.type.tensor_type.HasField("shape")]


def one_by_one_and_all(values: Sequence[onnx.ValueInfoProto]) -> Iterator[Sequence[onnx.ValueInfoProto]]:
    """Each value alone, then all of them."""
    yield from ([value] for value in values)
    if len(values) > 1:
        yield values


def also_read(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Another node reads an inner value."""
    fitting = [value for value in inner_values(model) if value.type.tensor_type.elem_type in NEGATABLE]
    for chosen in one_by_one_and_all(fitting):
        made = copy_of(model)
        for value in chosen:
            name = f"{value.name}_negated"
            made.graph.node.append(helper.make_node("Neg", [value.name], [name]))
            made.graph.output.append(_called(value, name))
        yield made


def also_given(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The caller reads an inner value."""
    for chosen in one_by_one_and_all(inner_values(model)):
        made = copy_of(model)
        made.graph.output.extend(chosen)
        yield made


def captured(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The branches of an If read an inner value."""
    for chosen in one_by_one_and_all(inner_values(model)):
        made = copy_of(model)
        made.graph.input.append(helper.make_tensor_value_info("taken", TensorProto.BOOL, []))
        for value in chosen:
            branches = {}
            for branch in ("then", "else"):
                name = f"{value.name}_{branch}"
                nodes = [helper.make_node("Identity", [value.name], [name])]
                branches[f"{branch}_branch"] = helper.make_graph(nodes, name, [], [_called(value, name)])
            made.graph.node.append(helper.make_node("If", ["taken"], [f"{value.name}_branch"], **branches))
            made.graph.output.append(_called(value, f"{value.name}_branch"))
        yield made


def _called(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    return made


def overridable(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A constant is a default that the caller may override."""
    inputs = {value.name for value in model.graph.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name not in inputs]
    values = [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in tensors]
    for chosen in one_by_one_and_all(values):
        made = copy_of(model)
        made.graph.input.extend(chosen)
        yield made


def symbolic(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Dims are symbols: each its own, equal ones for equal sizes, and the first of each input alone."""
    renames: tuple[Callable[[str, int, int], str], ...] = (
        lambda name, axis, size: f"{name}_{axis}",
        lambda name, axis, size: f"size_{size}",
        lambda name, axis, size: "" if axis else "first",
    )
    for rename in renames:
        made = copy_of(model)
        given = {tensor.name for tensor in made.graph.initializer}
        for value in (*made.graph.input, *made.graph.output):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                is_output = value.name not in {each.name for each in made.graph.input}
                symbol = f"{value.name}_{axis}" if is_output else rename(value.name, axis, dim.dim_value)
                if value.name not in given and symbol and dim.HasField("dim_value"):
                    dim.dim_param = symbol
        del made.graph.value_info[:]
        yield made


def other_floats(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """float16 and float64 in place of float32."""
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE):
        made = copy_of(model)
        for value in (*made.graph.input, *made.graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = kind
        for tensor in made.graph.initializer:
            tensor.CopyFrom(_as(tensor, kind))
        for node in made.graph.node:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = kind
                if attribute.HasField("t"):
                    attribute.t.CopyFrom(_as(attribute.t, kind))
        del made.graph.value_info[:]
        yield made


def _as(tensor: onnx.TensorProto, kind: int) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT:
        return tensor
    with np.errstate(over="ignore"):
        content = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(content, tensor.name)


def axes_from_the_other_end(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Axes counted from the end where they were counted from the front, and the other way round."""
    inferred = ir.from_proto(shape_inference.infer_shapes(model))
    ranks = {
        value.name: len(value.shape)
        for node in inferred.graph
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.shape is not None
    }
    made = copy_of(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        rank = ranks.get(node.output[0] if node.op_type == "Unsqueeze" else node.input[0]) if node.input else None
        if rank is None or node.op_type == "OneHot":
            continue
        for attribute in node.attribute:
            if attribute.name == "axis" and not (node.op_type == "Flatten" and attribute.i == rank):
                attribute.i = _turned(attribute.i, rank)
            elif attribute.name == "axes":
                attribute.ints[:] = [_turned(axis, rank) for axis in attribute.ints]
        place = 3 if node.op_type in ("Slice", "Pad") else 1
        takes_axes = node.op_type in ("Slice", "Pad", "Squeeze", "Unsqueeze") or node.op_type.startswith("Reduce")
        if takes_axes and len(node.input) > place and (old := tensors.get(node.input[place])) is not None:
            content = numpy_helper.to_array(old)
            turned = np.array([_turned(int(axis), rank) for axis in content.reshape(-1)], content.dtype)
            name = f"{old.name}_{node.output[0]}"
            made.graph.initializer.append(numpy_helper.from_array(turned.reshape(content.shape), name))
            node.input[place] = name
    yield made


def _turned(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis - rank


def other_opsets(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Other opsets, as far as onnx converts to them."""
    own = next(each.version for each in model.opset_import if each.domain == "")
    for version in OPSETS:
        if version == own:
            continue
        try:
            yield version_converter.convert_version(model, version)
        except Exception:  # the converter has no adapter for something, and says so in many ways
            continue


VARIATIONS: tuple[Variation, ...] = (
    also_read,
    also_given,
    captured,
    overridable,
    symbolic,
    other_floats,
    axes_from_the_other_end,
    other_opsets,
)


def check_variation(model: onnx.ModelProto, pipeline: str, subject: Subject) -> str:
    """`fired`, `nothing` or `skipped`. Raises AssertionError where the result is not right."""
    try:
        before = session_of(model.SerializeToString())
    except Exception:  # ONNX Runtime has no kernel for something: nothing to compare with
        return "skipped"
    report, result = optimized(model, pipeline, target=subject.target)
    if not report.rewrites:
        return "nothing"
    cases = [
        (feeds, wanted, is_finite)
        for feeds, is_finite in feeds_for(model, zlib.crc32(pipeline.encode()), subject.model)
        if (wanted := outputs_of(before, feeds)) is not None
    ]
    if not cases:
        return "skipped"
    produced = onnx.load_from_string(result)
    if is_valid(model):
        onnx.checker.check_model(produced)
    assert_same_interface(model, produced)
    exact = report.log.exactness is Exactness.EXACT
    after = session_of(result)
    for feeds, wanted, is_finite in cases:
        if attends_to_nothing(produced, feeds):
            continue
        if is_finite or exact:
            compare(model, feeds, wanted, after, exact=exact)
    return "fired"
