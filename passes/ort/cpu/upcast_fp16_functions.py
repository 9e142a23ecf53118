"""Functions with CPU kernels for float32 only, which ONNX Runtime expands to several operators in float16."""

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
from ...targets.target_file import for_provider

(x,) = values("x")

_FP16, _FP32 = ir.DataType.FLOAT16, ir.DataType.FLOAT


def _runs_in(m: Match, dtype: ir.DataType) -> bool | None:
    target, node = replace(m.context.settings.target, name=for_provider("cpu").name), m.root
    return has_kernel(target, "", node.op_type, node.version or 0, (dtype,), (dtype,))


def _has_rows(m: Match) -> bool:
    """Whether rows have more than one element: a Softmax of one is faster by its body."""
    axis, dims = ir.attribute(m.root, "axis"), m.x.dims
    return not dims or not isinstance(axis, int) or dims[axis] != 1


@rule(
    op.Softmax(x).any_attributes() | op.LogSoftmax(x).any_attributes() | op.Gelu(x).any_attributes(),
    requires=[
        structural(
            "float16, with kernels for float32 alone",
            lambda m: m.x.dtype == _FP16 and _runs_in(m, _FP32) is True and _runs_in(m, _FP16) is False,
        ),
        require(
            "a function of the standard",  # ONNX Runtime runs others between two casts anyway
            lambda m: ir.function_signature(m.root.op_type, m.root.version or 0) is not None,
            lambda m: f"opset {m.root.version}",
        ),
        profitable("more than one element in each row", _has_rows, lambda m: m.shapes.show(m.x.value)),
    ],
    exactness=Exactness.ROUNDING,
    source=(
        "A node without a kernel is written out as its function's body before casts are inserted around what has one "
        "in float32 (ONNX Runtime, core/framework/graph_partitioner.cc, insert_cast_transformer.cc): the same "
        "arithmetic at once instead of in 5 to 7. x1.15 on a diffusion network, x1.02 on a vision transformer"
    ),
)
def upcast_fp16_functions(m: Match, op: Builder) -> ir.Value:
    """Compute Softmax, LogSoftmax and Gelu in float32, between two casts.

    before:  y = Softmax(x)      x: float16
    after:   y = Cast<to = FLOAT16>(Softmax(Cast<to = FLOAT>(x)))
    """
    wide = op.Cast(m.x, to=int(_FP32))
    result = op.node(m.root.op_type, [wide], attributes=dict(m.root.attributes))[0]
    return op.Cast(result, to=int(_FP16))
