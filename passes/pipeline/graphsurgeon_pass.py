"""Passes from functions that edit an `onnx_graphsurgeon.Graph`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ... import ir
from ..registry import REGISTRY
from .exactness import Exactness
from .pass_ import Pass, PassContext

Edit = Callable[[Any], Any]


def surgeon_pass(name: str) -> Callable[[Edit], Edit]:
    """Decorator: register a function that edits an `onnx_graphsurgeon.Graph` (or gives back another) as a pass.

    The pass counts as approximate; its result is verified like every other. What that form cannot hold is restored
    from the model or refused (`ir.from_surgeon`).

    before:  the model as an onnx_graphsurgeon.Graph
    after:   what the function makes of it
    """

    def decorate(edit: Edit) -> Edit:
        kind: type[Pass] = dataclass(frozen=True)(
            type(
                f"SurgeonPass_{edit.__name__}",
                (_SurgeonPass,),
                {
                    "name": name,
                    "edit": staticmethod(edit),
                    "__module__": edit.__module__,
                    "__doc__": inspect.cleandoc(edit.__doc__ or f"{edit.__name__}, over a GraphSurgeon graph."),
                },
            )
        )
        REGISTRY.add_pass(kind)
        return edit

    return decorate


class _SurgeonPass(Pass):
    """Takes the model through the other form and back."""

    exactness: ClassVar[Exactness] = Exactness.APPROXIMATE
    edit: ClassVar[Edit]

    def run(self, model: ir.Model, context: PassContext) -> None:
        graph = ir.to_surgeon(model)
        edited = type(self).edit(graph)
        result = ir.from_surgeon(graph if edited is None else edited, like=model)
        if ir.fingerprint(result) == ir.fingerprint(model):
            return
        if context.log.try_rewrite(self.name, model.graph.name or "graph", "the graph", "its edit", self.exactness):
            context.rewriter.exchange(result)
