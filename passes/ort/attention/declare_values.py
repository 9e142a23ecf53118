"""Declare the width of the values of an Attention where ONNX Runtime does not infer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext
from ...registry import register


@register
@dataclass(frozen=True)
class DeclareAttentionValues(Pass):
    """Write down the last dim of values [batch, length, heads * size] behind a Reshape whose target is computed.

    Where the inference of ONNX does not know it, it takes the last dim of the result for 0 (1.23), and ONNX Runtime
    does not load a MatMul behind it (1.31). Nodes stay as they are.

    before:  v = Reshape(x, computed)                          y = Attention<q_num_heads, kv_num_heads>(q, k, v)
    after:   v = Reshape(x, computed)   v: float[?, ?, 32]     y = Attention<q_num_heads, kv_num_heads>(q, k, v)
    """

    name: ClassVar[str] = "declare-attention-values"

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Declare the dims of the values of each Attention."""
        if not context.settings.target.is_onnxruntime:
            return
        for node in ir.nodes(model):
            values = node.inputs[2] if (node.domain, node.op_type) == ("", "Attention") else None
            if values is None or values.shape is not None or not _has_computed_dims(values):
                continue
            shapes = context.analyses.get(Shapes)
            dims, dtype = shapes.dims(values), shapes.dtype(values)
            if dims is None or dtype is None or len(dims) != 3 or not isinstance(dims[2], int):
                continue
            if context.log.try_rewrite(self.name, values.name or "", "no dims", f"a last dim of {dims[2]}"):
                values.type, values.shape = ir.TensorType(dtype), ir.Shape([None, None, dims[2]])


def _has_computed_dims(value: ir.Value) -> bool:
    """Whether a Reshape or Expand to computed dims is before `value`, and no product since."""
    node = value.producer()
    while node is not None and node.inputs and node.inputs[0] is not None and node.op_type not in ("MatMul", "Gemm"):
        if node.op_type in ("Reshape", "Expand") and (node.inputs[1] is None or not ir.is_constant(node.inputs[1])):
            return True
        node = node.inputs[0].producer()
    return False
