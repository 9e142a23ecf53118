"""Operators that ONNX Runtime's CPU provider has in float32 alone, and writes out as many others in float16."""

from __future__ import annotations

from dataclasses import replace

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import has_kernel

(x,) = values("x")

_HALF, _SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


def _runs_in(m: Match, dtype: ir.DataType) -> bool | None:
    target, node = replace(m.context.settings.target, name="ort-cpu"), m.root
    return has_kernel(target, "", node.op_type, node.version or 0, (dtype,), (dtype,))


def _has_rows(m: Match) -> bool:
    """Whether a Softmax has more to divide than one number by itself, which its body does faster."""
    axis, dims = ir.attribute(m.root, "axis"), m.x.dims
    return not dims or not isinstance(axis, int) or dims[axis] != 1


@rule(
    op.Softmax(x).any_attributes() | op.LogSoftmax(x).any_attributes() | op.Gelu(x).any_attributes(),
    requires=[
        structural(
            "float16, with kernels for float32 alone",
            lambda m: m.x.dtype == _HALF and _runs_in(m, _SINGLE) is True and _runs_in(m, _HALF) is False,
        ),
        require(
            "a function of the standard",  # what is none runs between two casts by itself
            lambda m: ir.function_signature(m.root.op_type, m.root.version or 0) is not None,
            lambda m: f"opset {m.root.version}",
        ),
        profitable("more than one element in each row", _has_rows, lambda m: m.shapes.show(m.x.value)),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "A node without a kernel is written out as its function's body before casts are inserted around what has one "
        "in float32 (ONNX Runtime, core/framework/graph_partitioner.cc, insert_cast_transformer.cc): the same "
        "arithmetic at once instead of in 5 to 7. x1.15 on a diffusion network, x1.02 on a vision transformer"
    ),
)
def upcast_fp16_functions(m: Match, op: Builder) -> ir.Value:
    """Softmax, LogSoftmax and Gelu in float32, between two casts.

    before:  x: float16 -> Softmax -> y
    after:   x -> Cast(float32) -> Softmax -> Cast(float16) -> y
    """
    single = op.Cast(m.x, to=int(_SINGLE))
    made = op.node(m.root.op_type, [single], attributes=dict(m.root.attributes))[0]
    return op.Cast(made, to=int(_HALF))
