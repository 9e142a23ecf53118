"""What `optimize` gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import ir
from .passes.engine.exactness import Exactness
from .passes.engine.journal import Refusal, Rewrite

if TYPE_CHECKING:
    from .quarantine import Culprit
    from .runtime import Measurement, Verification


@dataclass(frozen=True)
class Size:
    """How large a model is: nodes in all scopes (Constant nodes apart), and bytes of weights."""

    nodes: int
    weight_bytes: int


@dataclass
class Result:
    """What `optimize` gives back. `model` reads its weights from the delivered file, or from memory.

    `quarantined`: rewrites and rules that went wrong and were left out.
    """

    model: ir.Model = field(repr=False)
    before: Size
    after: Size
    rewrites: Sequence[Rewrite] = field(default=(), repr=False)
    refusals: Sequence[Refusal] = field(default=(), repr=False)
    remarks: Sequence[ir.Diagnostic] = ()
    quarantined: Sequence[Culprit] = ()
    exactness: Exactness = Exactness.EXACT
    pipeline: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    verification: Verification | None = None
    measurement: Measurement | None = None


def size_of(model: ir.Model) -> Size:
    """Nodes in all scopes, Constant nodes apart, and the bytes of all initializers and constants."""
    nodes = list(ir.nodes(model))
    constants = [value for graph in ir.graphs(model) for value in graph.initializers.values()]
    constants += [value for node in nodes if node.op_type == "Constant" for value in node.outputs]
    tensors = [value.const_value if value.is_initializer() else ir.constant_tensor(value) for value in constants]
    return Size(
        sum(1 for node in nodes if node.op_type != "Constant"),
        sum(tensor.nbytes for tensor in tensors if tensor is not None),
    )
