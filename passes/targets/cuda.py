"""What ONNX Runtime's CUDA provider runs, and how: questions about its kernels."""

from __future__ import annotations

from dataclasses import dataclass

from ... import ir
from .kernel_table import definition, kernels_of

HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def kernels_lost(model: ir.Model, opset: int) -> list[str]:
    """The operators of the model that have no CUDA kernel at `opset` but one at some older opset.

    A kernel that is registered from one version on fits nodes of that very version alone: when the standard defines an
    operator anew, ONNX Runtime runs it on the processor, between two copies, until its list follows
    (microsoft/onnxruntime#26393).
    """
    found = set()
    for op_type in {node.op_type for node in ir.nodes(model) if node.domain == ""}:
        kernels, version = kernels_of("ort-cuda", "", op_type), definition("", op_type, opset)
        if version is None or any(kernel.first <= version <= kernel.last for kernel in kernels):
            continue
        if any(kernel.first < version for kernel in kernels):
            found.add(op_type)
    return sorted(found)


def computes_in_half(node: ir.Node) -> bool:
    """Whether the operator has a CUDA kernel for float16 at the version that the node is written for."""
    version = definition(node.domain, node.op_type, node.version or 0)
    return version is not None and any(
        kernel.first <= version <= kernel.last and "f16" in kernel.main_types
        for kernel in kernels_of("ort-cuda", node.domain, node.op_type)
    )


@dataclass(frozen=True)
class AttentionCall:
    """What decides which kernel computes an attention. A length or width of None is one that is not known."""

    dtype: ir.DataType
    head_size: int
    value_size: int
    grouped: bool = False
    masked: bool = False
    queries: int | None = None
    keys: int | None = None

    def why_not_fused(self) -> str:
        """Why ONNX Attention runs unfused (two products around a softmax over the scores); "" where it does not.

        As 1.31.1 selects on compute capability 8.0 and 9.0: flash for 16-bit types without a mask, else memory
        efficient attention, which has no grouped heads and reads 8 keys of a mask at a time.
        """
        if self.head_size % 8 or self.value_size % 8:
            return f"heads of size {self.head_size} and {self.value_size}, which are no multiples of 8"
        if self.grouped and self.dtype not in HALVES:
            return f"grouped heads in {self.dtype.name}"
        if self.grouped and self.masked:
            return "grouped heads with a mask"
        if self.masked and self.keys is not None and self.keys % 8:
            return f"a mask over {self.keys} keys, which are no multiple of 8"
        return ""

    def why_not_fused_as_contrib(self) -> str:
        """The same for com.microsoft.MultiHeadAttention, which computes short sequences unfused but for float16."""
        if self.grouped or self.head_size != self.value_size:
            return "heads of keys and values that differ from those of the queries"
        if self.dtype != ir.DataType.FLOAT16 and self.queries is not None and self.queries < 256:
            return f"{self.queries} queries in {self.dtype.name}"
        return self.why_not_fused()
