"""Kernel coverage and attention kernel selection of ONNX Runtime's CUDA provider."""

from __future__ import annotations

from dataclasses import dataclass

from ... import ir
from .kernel_table import definition, kernels_of
from .target_file import for_provider

FLOAT16_TYPES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def kernels_lost(model: ir.Model, opset: int) -> list[str]:
    """List the operators of the model that have a CUDA kernel at some older opset, but none at `opset`.

    A kernel with an open-ended version range runs nodes of its first version alone: when the standard redefines an
    operator, ONNX Runtime runs it on the CPU, between two copies, until it registers the new version
    (microsoft/onnxruntime#26393).
    """
    lost = set()
    for op_type in {node.op_type for node in ir.nodes(model) if node.domain == ""}:
        kernels, version = kernels_of(for_provider("cuda"), "", op_type), definition("", op_type, opset)
        if version is None or any(kernel.first <= version <= kernel.last for kernel in kernels):
            continue
        if any(kernel.first < version for kernel in kernels):
            lost.add(op_type)
    return sorted(lost)


def has_fp16_kernel(node: ir.Node) -> bool:
    """Whether the operator has a CUDA kernel for float16 at the node's opset."""
    version = definition(node.domain, node.op_type, node.version or 0)
    return version is not None and any(
        kernel.first <= version <= kernel.last and "f16" in kernel.main_types
        for kernel in kernels_of(for_provider("cuda"), node.domain, node.op_type)
    )


@dataclass(frozen=True)
class AttentionCall:
    """The properties of an attention that select its kernel. `queries`, `keys`: lengths, None where unknown."""

    dtype: ir.DataType
    head_size: int
    value_size: int
    grouped: bool = False
    masked: bool = False
    queries: int | None = None
    keys: int | None = None

    def why_not_fused(self) -> str:
        """Why ONNX Attention runs unfused (two products around a softmax over the scores); "" where it is fused.

        As ONNX Runtime 1.31.1 selects on compute capability 8.0 and 9.0: flash attention for 16-bit types without a
        mask, else memory efficient attention, which has no grouped heads and loads 8 keys of a mask at a time.
        """
        if self.head_size % 8 or self.value_size % 8:
            return f"head sizes {self.head_size} and {self.value_size}, expected multiples of 8"
        if self.grouped and self.dtype not in FLOAT16_TYPES:
            return f"grouped heads in {self.dtype.name}"
        if self.grouped and self.masked:
            return "grouped heads with a mask"
        if self.masked and self.keys is not None and self.keys % 8:
            return f"a mask over {self.keys} keys, expected a multiple of 8"
        return ""

    def why_not_uniform(self) -> str:
        """Why com.microsoft.MultiHeadAttention does not compute it at all; "" where it does."""
        is_uniform = not self.grouped and self.head_size == self.value_size
        return "" if is_uniform else "heads of keys and values that differ from those of the queries"

    def why_not_fused_as_contrib(self) -> str:
        """The same for com.microsoft.MultiHeadAttention, which fuses short sequences in float16 only."""
        if why := self.why_not_uniform():
            return why
        if self.dtype != ir.DataType.FLOAT16 and self.queries is not None and self.queries < 256:
            return f"{self.queries} queries in {self.dtype.name}"
        return self.why_not_fused()
