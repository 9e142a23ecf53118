"""Write large constants of one repeated value as ConstantOfShape, on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ir
from ..pipeline.pass_ import Pass, PassContext
from ..registry import register


@register
@dataclass(frozen=True)
class CompressConstants(Pass):
    """Write initializers of at least `bytes` bytes that repeat one value as ConstantOfShape.

    The file shrinks; the tensor is computed when the model is loaded. Constant folding does not undo it: the result is
    larger than what it would free.

    before:  %mask: float[1024,1024] = {0, 0, …}; y = Add(x, %mask)
    after:   m = ConstantOfShape<value = {0}>(%dims); y = Add(x, m)
    """

    name: ClassVar[str] = "compress-constants"

    bytes: int = 1 << 17

    def run(self, model: ir.Model, context: PassContext) -> None:
        for graph in ir.graphs(model):
            version = context.rewriter.imports_of(graph).get("", 0)
            if version < 9 or not len(graph):  # ConstantOfShape-9
                continue
            for value in list(graph.initializers.values()):
                unit = _repeated(value, self.bytes)
                if unit is None or not context.log.try_rewrite(
                    self.name, value.name or "", "initializer", "ConstantOfShape"
                ):
                    continue
                dims = ir.pending_constant(np.array(unit.dims, dtype=np.int64), name=f"{value.name}_dims")
                node = ir.new_node(
                    "ConstantOfShape", [dims], {"value": ir.tensor(unit.content)}, version=version, provenance=self.name
                )
                context.rewriter.insert(node, before=graph[0])
                for user, index in value.uses():
                    context.rewriter.set_input(user, index, node.outputs[0])
                context.rewriter.erase_initializer(value)


@dataclass(frozen=True)
class _Unit:
    """A constant as one element, of an array of one, that is repeated over `dims`."""

    content: ir.Array
    dims: tuple[int, ...]


def _repeated(value: ir.Value, least: int) -> _Unit | None:
    """The element that a constant of at least `least` bytes repeats bit for bit."""
    tensor = ir.constant_tensor(value)
    if tensor is None or tensor.nbytes < least or ir.is_public(value) or tensor.dtype.bitwidth < 8:
        return None
    content = np.ascontiguousarray(tensor.numpy())
    if content.dtype.kind not in "biuf":
        return None
    bits = content.reshape(-1).view(np.uint8).reshape(content.size, content.dtype.itemsize)
    unit = _Unit(content.reshape(-1)[:1].copy(), tuple(content.shape)) if bool((bits == bits[0]).all()) else None
    ir.release(tensor)
    return unit
