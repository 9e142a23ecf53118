"""A large constant that is one number again and again becomes the operator that makes it, when asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ir
from ..analyses import Shapes
from ..analyses.manager import Analysis
from ..pipeline.pass_ import Pass, PassContext
from ..pipeline.registry import register


@register
@dataclass(frozen=True)
class CompressConstants(Pass):
    """Write initializers of at least `bytes` bytes that repeat one value as ConstantOfShape.

    The file shrinks; the tensor is made again when the model is loaded. Folding leaves it so: its result is larger than
    what it would free.

    before:  %mask: float[1024,1024] = {0, 0, …}; y = Add(x, %mask)
    after:   m = ConstantOfShape<value = {0}>(%dims); y = Add(x, m)
    """

    name: ClassVar[str] = "compress-constants"
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

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
                content = ir.constant(value)
                assert content is not None
                dims = ir.pending_constant(np.array(content.shape, dtype=np.int64), name=f"{value.name}_dims")
                made = ir.new_node(
                    "ConstantOfShape", [dims], {"value": ir.tensor(unit)}, version=version, provenance=self.name
                )
                context.rewriter.insert(made, before=graph[0])
                for user, index in value.uses():
                    context.rewriter.set_input(user, index, made.outputs[0])
                context.rewriter.erase_initializer(value)


def _repeated(value: ir.Value, least: int) -> ir.Array | None:
    """The one value that a large constant repeats bit for bit, as an array of one element."""
    tensor = ir.constant_tensor(value)
    if tensor is None or tensor.nbytes < least or ir.is_public(value) or tensor.dtype.bitwidth < 8:
        return None
    content = np.ascontiguousarray(tensor.numpy())
    if content.dtype.kind not in "biuf":
        return None
    bits = content.reshape(-1).view(np.uint8).reshape(content.size, content.dtype.itemsize)
    found = content.reshape(-1)[:1].copy() if bool((bits == bits[0]).all()) else None
    ir.release(tensor)
    return found
