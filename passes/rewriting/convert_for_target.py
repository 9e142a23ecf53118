"""Opset conversion that keeps the model runnable on the target: used by every pass and option that converts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import ir
from ..analyses import Shapes
from ..analyses.manager import AnalysisManager
from ..pipeline.pass_ import Settings, where
from ..targets.quantization_faults import FIRST_OPSET, broken_nodes, new_faults, respell
from .kernel_check import operators_without_kernel


@dataclass(frozen=True)
class Obstacle:
    """An obstacle to a conversion: the condition that does not hold, the reason, and the operators."""

    condition: str
    because: str
    operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """A converted copy of a model; `obstacles`: what ONNX Runtime no longer runs, or no longer runs soundly, in it."""

    model: ir.Model
    obstacles: tuple[Obstacle, ...] = field(default=())


def convert_for_target(
    model: ir.Model,
    version: int,
    settings: Settings,
    shapes: Shapes | None = None,
    *,
    highest_ir: int | None = None,
) -> Conversion:
    """A copy of `model` at opset `version`, and the obstacles on the target and where results are verified.

    Looked for are operators that lose their kernel, and DequantizeLinear nodes that ONNX Runtime's optimizer breaks at
    `version` alone; those that have a spelling that it does not break get it. `shapes`: of `model`, if at hand.
    A model at `version` comes back itself. Raises ModelError where an operator cannot be converted.
    """
    converted = ir.convert_opset(model, version, highest_ir=highest_ir)
    if converted is model:
        return Conversion(model)
    shapes = shapes or AnalysisManager(model).get(Shapes)
    new_shapes = AnalysisManager(converted).get(Shapes)
    respell(converted, new_shapes.dtype, ir.Rewriter(converted), lambda *_: True)
    found = []
    place, lost = operators_without_kernel(model, shapes, converted, new_shapes, settings)
    if lost:
        condition = f"{place} for every operator at opset {version}"
        found.append(Obstacle(condition, f"none for {', '.join(lost)}", tuple(lost)))
    before = dict(broken_nodes(model, shapes.dtype))
    after = dict(broken_nodes(converted, new_shapes.dtype))
    for node in new_faults(before, after)[:1]:
        side = f"from opset {FIRST_OPSET} on" if version >= FIRST_OPSET else f"below opset {FIRST_OPSET}"
        condition = f"quantization that ONNX Runtime optimizes soundly {side}"
        because = f"not what DequantizeLinear gives in {where(node)!r}: {after[node]}"
        found.append(Obstacle(condition, because, ("DequantizeLinear",)))
    return Conversion(converted, tuple(found))
