"""Drop initial states of zeros, which are the default of GRU, LSTM and RNN."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import ir
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register

_STATES = (5, 6)  # initial_h, and initial_c of LSTM
_LARGEST = 1 << 20  # bytes of a constant that is compared
_DEEPEST = 8  # operators between the zeros and the recurrent operator


@register
@dataclass(frozen=True)
class DropZeroInitialState(Pass):
    """Drop the initial state of a GRU, LSTM or RNN where it is all zeros, which is the default.

    before:  h = ConstantOfShape(shape); y = LSTM(x, w, r, b, lengths, h, h)
    after:   y = LSTM(x, w, r, b, lengths)
    """

    name: ClassVar[str] = "drop-zero-initial-state"

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        for node in list(ir.nodes(model)):
            if node.op_type not in ("GRU", "LSTM", "RNN") or node.domain != "" or node.op_identifier() in functions:
                continue
            zeros = [index for index in _STATES if index < len(node.inputs) and _is_zero(node.inputs[index], functions)]
            if zeros and context.log.try_rewrite(self.name, where(node), node.op_type, "the default initial state"):
                for index in zeros:
                    context.rewriter.set_input(node, index, None)


def _is_zero(value: ir.Value | None, functions: Collection[ir.OperatorIdentifier]) -> bool:
    """Whether every element is 0.0 (not -0.0)."""
    for _ in range(_DEEPEST):
        tensor = ir.constant_tensor(value)
        if tensor is not None:
            return tensor.nbytes <= _LARGEST and not any(np.asarray(tensor.numpy()).tobytes())
        node = value.producer() if value is not None else None
        if node is None or node.domain != "" or node.op_identifier() in functions:
            return False
        if node.op_type == "ConstantOfShape":
            filling = node.attributes.get("value")
            return filling is None or not any(np.asarray(filling.as_tensor().numpy()).tobytes())
        if node.op_type not in ir.MOVEMENT:
            return False
        value = node.inputs[0]
    return False
