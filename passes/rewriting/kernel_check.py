"""Check that the target has kernels for the nodes of a replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ... import ir
from ...ir.shapes.facts import Call, Fact
from ...ir.shapes.inference import infer
from ..analyses import Shapes
from ..pipeline.pass_ import Settings, where
from ..pipeline.rewrite_log import MissedRewrite
from ..targets.kernel_table import ABSENT, CONTRIB, has_kernel
from ..targets.target import Target

Types = tuple[ir.DataType | None, ...]
Attributes = tuple[tuple[str, int | float | str], ...]
_SCALARS = frozenset({ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING})


ON_TARGET, WHERE_VERIFIED = "a kernel on the target", "a kernel where the result is verified"


def missing_kernel(
    name: str,
    root: ir.Node,
    made: Sequence[ir.Node],
    replaced: Sequence[ir.Node],
    shapes: Shapes,
    settings: Settings,
) -> MissedRewrite | None:
    """Why rule or pass `name` may not write `made` at `root`: no kernel for one of them where it must run; else None.

    It must run on the target, and in the newest release where the result is verified, unless the replaced nodes did not
    run there either. The types come from `Shapes`, which must know the nodes.
    """
    for condition, target in _places(settings):
        lost = _lacking(made, shapes, target)
        if lost is not None and _lacking(replaced, shapes, target) is None:
            return MissedRewrite(name, where(root), condition, _why(lost, shapes, target))
    return None


def _why(lost: ir.Node, shapes: Shapes, target: Target) -> str:
    operator = lost.op_type if lost.domain in ("", CONTRIB) else f"{lost.domain}::{lost.op_type}"
    if (lost.domain, lost.op_type) in target.file.forbidden:
        return f"{operator} must not be emitted for {target}"
    types = ", ".join(each.name for each in dict.fromkeys(_types(lost.inputs, shapes)) if each)
    return f"none for {operator} on {types}"


def operators_without_kernel(
    model: ir.Model, shapes: Shapes, converted: ir.Model, shapes_converted: Shapes, settings: Settings
) -> tuple[str, list[str]]:
    """Operators that lose their kernel in `converted`, `model` at another opset: the place and their names.

    The place is the target, or what verifies the result. A node counts where no node of the model on these types lacks
    a kernel there; nodes of subgraphs count, too. A kernel is registered for definitions of an operator: when the
    standard defines the operator anew, nodes of the new opset wait for a kernel of their own (RandomNormal at 22 on the
    CPU, MaxPool at 22 on CUDA: microsoft/onnxruntime#26393).
    """
    for condition, target in _places(settings):
        before = _without_kernel(model, shapes, target)
        lost = _without_kernel(converted, shapes_converted, target) - before
        if lost:
            return condition, sorted({op_type for (_, op_type), _ in lost})
    return "", []


def _without_kernel(model: ir.Model, shapes: Shapes, target: Target) -> set[tuple[tuple[str, str], Types]]:
    nodes = (node for node in ir.nodes(model) if node_runs(node, shapes, target) is False)
    return {((node.domain, node.op_type), _types(node.inputs, shapes)) for node in nodes}


def _places(settings: Settings) -> list[tuple[str, Target]]:
    """Where a result must run: the condition in words, and the target."""
    places = ((ON_TARGET, settings.target), (WHERE_VERIFIED, settings.verify_target))
    return [(condition, target) for condition, target in places if target is not None and target.file.restricts]


def _lacking(nodes: Sequence[ir.Node], shapes: Shapes, target: Target) -> ir.Node | None:
    return next((node for node in nodes if node_runs(node, shapes, target) is False), None)


def node_runs(node: ir.Node, shapes: Shapes, target: Target) -> bool | None:
    """Whether a target runs a node; None where that is not known."""
    inputs, outputs = _types(node.inputs, shapes), _types(node.outputs, shapes)
    return runs(target, _name(node), inputs, outputs, _numbers(node))


def has_own_kernel(node: ir.Node, shapes: Shapes, target: Target) -> bool | None:
    """Whether a target has a kernel for a node itself, nothing being written out or cast; None where not known."""
    return has_kernel(target, *_name(node), _types(node.inputs, shapes), _types(node.outputs, shapes))


@lru_cache(maxsize=1 << 14)
def runs(
    target: Target,
    name: tuple[str, str, int],
    inputs: Types,
    outputs: Types,
    attributes: Attributes = (),
) -> bool | None:
    """Whether a target runs an operator (domain, name, opset) on these types; None where that is not known.

    In ONNX Runtime, without a kernel of its own for them, a function of the standard runs where its body does: that is
    written out (`GraphPartitioner`), unless the fallback has a kernel. Operators with float32 kernels on the CPU run
    in float16 between two casts (`InsertCastTransformer`).
    """
    if name[:2] == ("", "Constant"):  # becomes an initializer
        return True
    if name[:2] in target.file.forbidden:
        return False
    answer = has_kernel(target, *name, inputs, outputs)
    if answer is not False or not target.is_onnxruntime:
        return answer
    fallback = target.file.fallback
    if fallback and has_kernel(replace(target, name=fallback), *name, inputs, outputs):
        return False
    if target.is_cpu and ir.DataType.FLOAT16 in (*inputs, *outputs):
        single = runs(target, name, _in_single(inputs), _in_single(outputs), attributes)
        if single is not False:
            return single
    return _body_runs(target, name, inputs, attributes)


def _body_runs(target: Target, name: tuple[str, str, int], inputs: Types, attributes: Attributes) -> bool | None:
    """The same for the body that the standard gives to the operator; False where it gives none."""
    domain, op_type, opset = name
    signature = ir.function_signature(op_type, opset) if not domain else None
    if signature is None or not ir.body_is_current(op_type, opset):
        return False
    if None in inputs:
        return None
    given = [*inputs, *(ABSENT,) * (len(signature.inputs) - len(inputs))]
    known = [(each, None) if each not in (ABSENT, None) else None for each in given]
    body = ir.function_body(op_type, opset, dict(attributes), known)
    if body is None:
        return False
    facts = {value: Fact(value.dtype, None) for value in body.inputs}
    answers = set()
    for node in body:
        results = infer(Call(node, [None if value is None else facts[value] for value in node.inputs]))
        facts.update(zip(node.outputs, results, strict=True))
        types = tuple(ABSENT if value is None else facts[value].dtype for value in node.inputs)
        answers.add(runs(target, _name(node), types, tuple(each.dtype for each in results), _numbers(node)))
    return False if False in answers else None if None in answers else True


def _name(node: ir.Node) -> tuple[str, str, int]:
    return node.domain, node.op_type, node.version or 0


def _types(values: Sequence[ir.Value | None], shapes: Shapes) -> Types:
    return tuple(ABSENT if value is None or value.name == "" else shapes.dtype(value) for value in values)


def _in_single(types: Types) -> Types:
    return tuple(ir.DataType.FLOAT if each == ir.DataType.FLOAT16 else each for each in types)


def _numbers(node: ir.Node) -> Attributes:
    """The attributes that may choose among bodies."""
    plain = (
        (name, each.value) for name, each in node.attributes.items() if each.type in _SCALARS and not each.is_ref()
    )
    return tuple(sorted(plain))
