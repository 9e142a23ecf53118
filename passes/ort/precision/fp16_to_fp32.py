"""Conversion of float16 models to float32, for CPUs without float16 arithmetic (`--upcast-fp16`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, where
from ...pipeline.rewrite_log import MissedRewrite
from ...registry import register

FP16, FP32 = ir.DataType.FLOAT16, ir.DataType.FLOAT

TYPE_ATTRIBUTES: Final = ("dtype", "to", "output_dtype", "stash_type", "softmax_precision", "precision")
"""Attributes that name an element type by its number in ONNX."""


@register
@dataclass(frozen=True)
class UpcastFp16(Pass):
    """Turn all that is float16 inside the model into float32; its inputs and outputs keep their type.

    ONNX Runtime's CPU provider computes float16 by converting around almost every kernel (without: x1.12 on a vision
    transformer, x1.15 on a decoder, x1.25 on a diffusion network). Results come nearer to those over the reals; what
    overflowed at 65504 no longer does. Models with operators of other domains, functions, or float16 in sequences stay.

    before:  y = MatMul(x, %w)      x, y: float16, %w: float16
    after:   a = Cast<to = FLOAT>(x); b = MatMul(a, %w); y = Cast<to = FLOAT16>(b)      %w: float32
    """

    name: ClassVar[str] = "upcast-fp16"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Convert `model`, or log the obstacle."""
        if not any(_is_fp16(value) for value in _values(model)):
            return
        if because := _obstacle(model):
            context.log.miss(MissedRewrite(self.name, "model", "standard operators over tensors", because))
            return
        if not context.log.try_rewrite(self.name, "model", "float16", "float32", self.exactness):
            return
        interface = {*model.graph.inputs, *model.graph.outputs}
        for value in [each for each in _values(model) if _is_fp16(each) and each not in interface]:
            if not value.is_initializer():
                context.rewriter.retype(value, FP32)
        for node in list(ir.nodes(model)):
            _retype_attributes(node, context)
        for graph in ir.graphs(model):
            for value in list(graph.initializers.values()):
                if value not in interface and value.const_value is not None and value.const_value.dtype == FP16:
                    _widen(value, graph, context)
        _convert_interface(model.graph, context)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in ir.graphs(model):
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _is_fp16(value: ir.Value) -> bool:
    tensor = ir.constant_tensor(value)
    return ir.declared_dtype(value) == FP16 or (tensor is not None and tensor.dtype == FP16)


def _obstacle(model: ir.Model) -> str:
    if model.functions:
        return "the model has functions of its own"
    for value in _values(model):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            return f"{value.name!r} is no tensor"
    for graph in ir.graphs(model):
        if graph is not model.graph and any(value.is_initializer() and _is_fp16(value) for value in graph.outputs):
            return "the body of a node gives back an initializer"
    foreign = next((node for node in ir.nodes(model) if node.domain not in ("", "ai.onnx.ml")), None)
    return "" if foreign is None else f"{where(foreign)} is {foreign.domain}.{foreign.op_type}"


def _retype_attributes(node: ir.Node, context: PassContext) -> None:
    for name, given in list(node.attributes.items()):
        if name in TYPE_ATTRIBUTES and given.type == ir.AttributeType.INT and given.as_int() == FP16.value:
            context.rewriter.set_attribute(node, name, FP32.value)
        elif given.type == ir.AttributeType.TENSOR and given.as_tensor().dtype == FP16:
            wide = given.as_tensor().numpy().astype(np.float32)
            context.rewriter.set_attribute(node, name, ir.tensor(wide))


def _widen(value: ir.Value, graph: ir.Graph, context: PassContext) -> None:
    """Replace an initializer by its content in float32."""
    content = ir.constant(value)
    assert content is not None
    wide = context.rewriter.constant(content.astype(np.float32), near=graph[0], name=value.name or "constant")
    ir.release(value.const_value)
    for user, index in list(value.uses()):
        context.rewriter.set_input(user, index, wide)
    context.rewriter.erase_initializer(value)


def _convert_interface(graph: ir.Graph, context: PassContext) -> None:
    """Insert a Cast after each float16 input (also one that is an output), and before each float16 output."""
    rewriter, version = context.rewriter, context.rewriter.imports_of(graph).get("", 13)

    def cast(value: ir.Value, to: ir.DataType) -> ir.Node:
        return ir.new_node("Cast", [value], {"to": to.value}, version=version, provenance=UpcastFp16.name)

    outputs = [value for value in dict.fromkeys(graph.outputs) if _is_fp16(value)]
    for value in dict.fromkeys((*graph.inputs, *graph.outputs)):
        uses = list(value.uses())
        if uses and value.producer() is None and _is_fp16(value):
            wide = rewriter.insert(cast(value, FP32), before=graph[0]).outputs[0]
            for user, index in uses:
                rewriter.set_input(user, index, wide)
    for value in outputs:
        if value.producer() is not None:
            rewriter.give_back(value, cast(value, FP16))
            rewriter.retype(value, FP32)


@register
@dataclass(frozen=True)
class StoreWeightsFp16(Pass):
    """Store float32 constants of which each element is a float16 as such, and convert them when the model is loaded.

    Of at least `elements` elements: ONNX Runtime folds the Cast, so that only the file is smaller.

    before:  y = MatMul(x, %w)      %w: float32, each element a float16
    after:   w = Cast<to = FLOAT>(%h); y = MatMul(x, w)      %h: float16
    """

    name: ClassVar[str] = "store-weights-fp16"

    elements: int = 1 << 16  # above what folding may add: it would undo this

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Narrow the initializers of every graph of `model`."""
        for graph in ir.graphs(model):
            version = context.rewriter.imports_of(graph).get("", 0)
            for value in list(graph.initializers.values()):
                narrow = self._narrow(value)
                if narrow is None or not context.log.try_rewrite(self.name, value.name or "", "float32", "float16"):
                    continue
                half = ir.pending_constant(narrow, name=f"{value.name}_half")
                node = ir.new_node("Cast", [half], {"to": FP32.value}, version=version, provenance=self.name)
                context.rewriter.insert(node, before=graph[0])
                for user, index in list(value.uses()):
                    context.rewriter.set_input(user, index, node.outputs[0])
                context.rewriter.erase_initializer(value)

    def _narrow(self, value: ir.Value) -> ir.Array | None:
        tensor = ir.constant_tensor(value)
        if tensor is None or tensor.dtype != FP32 or tensor.size < self.elements or ir.is_public(value):
            return None
        content = np.asarray(tensor.numpy())
        with np.errstate(over="ignore"):
            narrow = content.astype(np.float16)
        same = np.array_equal(narrow.astype(np.float32).view(np.uint32), content.view(np.uint32))
        return narrow if same else None
