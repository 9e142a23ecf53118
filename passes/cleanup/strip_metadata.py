"""Remove the metadata of exporters on request: stack traces, module names, doc strings of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext, where
from ..registry import register


@register
@dataclass(frozen=True)
class StripMetadata(Pass):
    """Remove metadata and doc strings of nodes and inner values. Those of the model, its inputs and outputs stay.

    before:  y = Relu(x)   with metadata pkg.torch.onnx.stack_trace = "File …"
    after:   y = Relu(x)
    """

    name: ClassVar[str] = "strip-metadata"

    def run(self, model: ir.Model, context: PassContext) -> None:
        for node in ir.nodes(model):
            annotated: list[ir.Node | ir.Value] = [node, *(value for value in node.outputs if not ir.is_public(value))]
            if any(each.metadata_props or each.doc_string for each in annotated) and context.log.try_rewrite(
                self.name, where(node), "notes", "nothing"
            ):
                for each in annotated:
                    context.rewriter.forget_notes(each)
