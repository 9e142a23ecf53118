"""Conversion of float32 models to float16, for GPUs (`--fp16`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...analyses.rounding_sensitivity import decided_by_rounding
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, where
from ...pipeline.rewrite_log import MissedRewrite
from ...registry import register
from ...targets.cuda import has_fp16_kernel
from ...targets.kernel_table import CONTRIB

FP16, FP32 = ir.DataType.FLOAT16, ir.DataType.FLOAT
LARGEST, SMALLEST = 65504.0, 2.0**-14  # the largest float16, and the smallest normal one

ISLANDS: Final = frozenset(
    "NonMaxSuppression TopK RoiAlign Range CumSum Upsample RandomUniformLike RandomNormalLike GridSample EyeLike "
    "Pow Exp ReduceMean ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd ReduceLogSum ReduceLogSumExp".split()
)
"""Computed in float32: onnxconverter-common's list (without Min and Max, which round nothing), and what leaves the
range of float16 in normalizations that are spelled out."""

GROWING: Final = frozenset("Pow Exp CumSum Range ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd".split())
"""Operators whose results may leave the range of float16 though their inputs are in it."""

BOUNDED: Final = frozenset(
    "Softmax LogSoftmax Sigmoid HardSigmoid Tanh Erf Log Cos Sin Sign Atan Softsign Clip Reciprocal "
    "LayerNormalization RMSNormalization SimplifiedLayerNormalization InstanceNormalization GroupNormalization".split()
)
"""Operators whose results are in the range of float16 for any inputs."""

MOVES: Final = ir.MOVEMENT | frozenset("Concat Pad Where ScatterND ScatterElements Trilu Min Max".split())
"""Operators that do not round, and so take the type of the data that they move."""

SHAPES: Final = ("Shape", "Size")

FLOAT_INPUTS: Final = {("", "Resize"): (1, 2), (CONTRIB, "GroupNorm"): (1, 2), (CONTRIB, "SkipGroupNorm"): (1, 2)}
"""Inputs that are float32 whatever the type of the first is."""

MASKS: Final = {("", "Attention"): 3, (CONTRIB, "MultiHeadAttention"): 5}
"""Where a mask is added to scores: its elements may be as small as the type has them."""


@register
@dataclass(frozen=True)
class ConvertToFp16(Pass):
    """Compute in float16 where CUDA has kernels for it, with islands of float32; inputs and outputs keep their type.

    Runs after all fusion: fused normalizations accumulate in float32, decomposed ones leave the range. Islands are the
    operators of `ISLANDS`, those whose results may leave the range of float16 (and integers cast to floats: positions
    have more digits), users of constants beyond 65504 or below the normal range, shape arithmetic, bodies of control
    flow, and arithmetic on inputs by which a comparison or an index is decided (analyses/rounding_sensitivity.py).
    Masks that are added to the scores of an attention are clipped to the range.

    before:  y = MatMul(x, %w)      x, y: float32, %w: float32
    after:   a = Cast<to = FLOAT16>(x); b = MatMul(a, %w); y = Cast<to = FLOAT>(b)      %w: float16
    """

    name: ClassVar[str] = "convert-to-fp16"
    exactness: ClassVar[Exactness] = Exactness.APPROXIMATE

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Convert `model`, or log the obstacle."""
        if because := _obstacle(model):
            context.log.miss(MissedRewrite(self.name, "model", "no functions and no quantization", because))
            return
        shapes = context.analyses.get(Shapes)
        plan = _Plan(model, shapes)
        if plan.chosen and context.log.try_rewrite(self.name, "model", "float32", "float16", self.exactness):
            _Conversion(plan, context).run(model)


def _obstacle(model: ir.Model) -> str:
    """A rounding in front of a quantizer may become a whole step; such models have their small types already."""
    if model.functions:
        return "it has functions of its own"
    marks = ("QuantizeLinear", "Integer", "QLinear")
    found = next((node for node in ir.nodes(model) if any(mark in node.op_type for mark in marks)), None)
    return "" if found is None else f"{where(found)} is {found.op_type}"


@dataclass
class _Plan:
    """Which nodes are to compute in float16."""

    model: ir.Model
    shapes: Shapes
    chosen: set[ir.Node] = field(default_factory=set)
    fp16: set[ir.Value] = field(default_factory=set)  # results of chosen nodes
    fp32: set[ir.Value] = field(default_factory=set)  # all float32 values
    wide: set[ir.Value] = field(default_factory=set)  # that may leave the range or the digits of float16
    _host: set[ir.Value] = field(default_factory=set)  # computed from shapes alone

    def __post_init__(self) -> None:
        owners = ir.owners_in(ir.nodes(self.model))
        given_back = {
            value for graph in ir.graphs(self.model) if graph is not self.model.graph for value in graph.outputs
        }
        for node in self.model.graph:
            for value in (*node.inputs, *node.outputs):
                if value is not None and self.shapes.dtype(value) == FP32:
                    self.fp32.add(value)
            self._widen(node)
            decides = any(decided_by_rounding(value, owners) for value in node.outputs)
            if not decides and self._fits(node) and given_back.isdisjoint(node.outputs):
                self.chosen.add(node)
                self.fp16 |= self.fp32.intersection(node.outputs)

    def _widen(self, node: ir.Node) -> None:
        inputs = [value for value in node.inputs if value is not None]
        moving = [value for value in inputs if not _is_small_constant(value)]
        if node.op_type in SHAPES or (moving and self._host.issuperset(moving)):
            self._host.update(node.outputs)
        wide = any(value in self.wide or _is_beyond(value) for value in self.inputs(node))
        if node.op_type == "Div" and inputs[-1] in self.wide:
            wide = False  # a normalization: by a root of squares, or a sum of exponentials
        grows = node.op_type in GROWING or (node.op_type == "Mul" and len(set(inputs)) == 1)
        if node.op_type == "Cast":
            given = self.shapes.dtype(inputs[0])
            grows = given is None or given.is_integer()
        if grows or (wide and node.op_type not in BOUNDED) or any(ir.subgraphs_of(node)):
            self.wide |= self.fp32.intersection(node.outputs)

    def _fits(self, node: ir.Node) -> bool:
        results = [value for value in node.outputs if value.name]
        if node.op_type in ISLANDS or any(ir.subgraphs_of(node)) or self._host.intersection(results):
            return False
        if any(self.shapes.dtype(value) is None for value in results) or not has_fp16_kernel(node):
            return False
        given = [value for value in self.inputs(node) if value in self.fp32]
        moving = [value for value in given if not ir.is_constant(value)]
        if not given or self.wide.intersection(given) or not all(_fits_fp16(value) for value in given):
            return False
        if self.fp32.isdisjoint(results):
            return bool(moving) and self.fp16.issuperset(moving)
        return node.op_type not in MOVES or not moving or not self.fp16.isdisjoint(moving)

    def inputs(self, node: ir.Node) -> Iterator[ir.Value]:
        """The inputs whose type decides: no masks, and none that are float32 anyway."""
        name = (node.domain, node.op_type)
        for index, value in enumerate(node.inputs):
            if value is not None and index not in FLOAT_INPUTS.get(name, ()) and index != MASKS.get(name):
                yield value


def _is_small_constant(value: ir.Value) -> bool:
    """One that ONNX Runtime leaves on the host beside shape arithmetic (core/framework/fallback_cpu_capability.cc)."""
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size <= 100


def _finite(value: ir.Value) -> float | None:
    """The largest finite magnitude in a float32 constant."""
    content = ir.constant(value)
    if content is None or content.dtype != np.float32:
        return None
    magnitudes = np.abs(content[np.isfinite(content)])
    return float(magnitudes.max(initial=0.0))


def _is_beyond(value: ir.Value) -> bool:
    return (_finite(value) or 0.0) > LARGEST


def _fits_fp16(value: ir.Value) -> bool:
    """Whether the largest element of a constant is in the normal range of float16. Smaller ones may become 0."""
    largest = _finite(value)
    return largest is None or largest == 0.0 or SMALLEST <= largest <= LARGEST


@dataclass
class _Conversion:
    """Applies a plan. The nodes come in order, so that a Cast is before all of its users."""

    plan: _Plan
    context: PassContext
    _as_fp16: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _as_fp32: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def run(self, model: ir.Model) -> None:
        rewriter, plan = self.context.rewriter, self.plan
        for node in list(model.graph):
            if node.op_type in SHAPES and node.domain == "":
                continue  # the same in any type
            self._convert_inputs(node)
            for body in ir.subgraphs_of(node):
                for inner in body.all_nodes():
                    for index, value in enumerate(inner.inputs):
                        if value is not None:
                            self._use_fp32(inner, index, value, before=node)
        for value in dict.fromkeys(model.graph.outputs):
            if value in plan.fp16:
                rewriter.give_back(value, self._cast(value, FP32, model.graph))
        for value in plan.fp16:
            rewriter.retype(value, FP16)

    def _convert_inputs(self, node: ir.Node) -> None:
        name, is_chosen = (node.domain, node.op_type), node in self.plan.chosen
        for index, value in enumerate(node.inputs):
            if value is None or value not in self.plan.fp32:
                continue
            if not is_chosen or index in FLOAT_INPUTS.get(name, ()):
                self._use_fp32(node, index, value, before=node)
            elif value not in self.plan.fp16:
                half = self._narrowed(value, node, is_mask=index == MASKS.get(name))
                self.context.rewriter.set_input(node, index, half)

    def _use_fp32(self, node: ir.Node, index: int, value: ir.Value, *, before: ir.Node) -> None:
        if value not in self.plan.fp16:
            return
        if value not in self._as_fp32:
            assert before.graph is not None
            cast = self._cast(value, FP32, before.graph)
            self._as_fp32[value] = self.context.rewriter.insert(cast, before=before).outputs[0]
        self.context.rewriter.set_input(node, index, self._as_fp32[value])

    def _narrowed(self, value: ir.Value, node: ir.Node, *, is_mask: bool) -> ir.Value:
        """`value` in float16, visible to `node` and all that follow."""
        if value not in self._as_fp16:
            rewriter = self.context.rewriter
            content, graph = ir.constant(value), node.graph
            assert graph is not None
            if content is not None:
                if is_mask:
                    content = np.where(np.isfinite(content), np.clip(content, -LARGEST, LARGEST), content)
                self._as_fp16[value] = rewriter.constant(
                    content.astype(np.float16), near=node, name=f"{value.name}_half"
                )
            else:
                narrow = self._clipped(value, node) if is_mask and value in self.plan.wide else value
                self._as_fp16[value] = rewriter.insert(self._cast(narrow, FP16, graph), before=node).outputs[0]
        return self._as_fp16[value]

    def _clipped(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """A mask within the range: the kernels add it in float32, where exp(-65504) is 0, too."""
        bounds = [ir.pending_constant(np.asarray(bound, np.float32), name="bound") for bound in (-LARGEST, LARGEST)]
        assert node.graph is not None
        version = self.context.rewriter.imports_of(node.graph).get("", 13)
        clip = ir.new_node("Clip", [value, *bounds], version=version, provenance=ConvertToFp16.name)
        return self.context.rewriter.insert(clip, before=node).outputs[0]

    def _cast(self, value: ir.Value, to: ir.DataType, graph: ir.Graph) -> ir.Node:
        version = self.context.rewriter.imports_of(graph).get("", 13)
        return ir.new_node("Cast", [value], {"to": to.value}, version=version, provenance=ConvertToFp16.name)
