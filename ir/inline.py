"""Instantiating a function of the model at one of its calls."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as oir

from .opset import schema
from .rewriter import Rewriter

_EXPANDED_NODES = 1_000_000  # a hostile model doubles a function a hundred times; it stays a call


def inlinable_functions(model: oir.Model) -> set[oir.OperatorIdentifier]:
    """The functions whose bodies may stand in the model's graph.

    Not those that reach themselves, that take graphs as attributes, whose operators mean something else at the
    model's opset, or that would expand to more than a million nodes.
    """
    sizes = _expanded_sizes(model)
    return {
        identifier
        for identifier, function in model.functions.items()
        if identifier in sizes
        and sizes[identifier] <= _EXPANDED_NODES
        and all(_means_the_same(node, model) for node in function.all_nodes())
        and not any(_holds_graph(parameter) for parameter in function.attributes.values())
    }


def inline_call(rewriter: Rewriter, node: oir.Node, function: oir.Function) -> list[oir.Node]:
    """Replace `node`, a call of `function`, by a copy of the function's body; gives back the nodes of the copy."""
    body = function.graph.clone()
    defaults = {name: each for name, each in function.attributes.items() if each.value is not None}
    parameters = {**defaults, **node.attributes}
    home = node.graph
    assert home is not None
    imports = rewriter.imports_of(home)
    for domain, version in function.opset_imports.items():
        imports.setdefault(domain, version)
    copied = list(body.all_nodes())
    for inner in copied:
        _resolve_references(inner, parameters)
        inner.version = imports.get(inner.domain)
    rewriter.adopt_names(body, prefix=node.name or function.name)
    arguments = [*node.inputs, *[None] * (len(body.inputs) - len(node.inputs))]
    results = rewriter.inline(body, arguments, before=node)
    rewriter.replace(node, results[: len(node.outputs)])
    return copied


def _expanded_sizes(model: oir.Model) -> dict[oir.OperatorIdentifier, int]:
    """How many nodes a call of each function becomes; functions that reach themselves are missing."""
    calls = {
        identifier: [node.op_identifier() for node in function.all_nodes()]
        for identifier, function in model.functions.items()
    }
    sizes: dict[oir.OperatorIdentifier, int] = {}
    waiting = dict.fromkeys(calls)
    progress = True
    while waiting and progress:
        progress = False
        for identifier in list(waiting):
            inner = [each for each in calls[identifier] if each in calls]
            if all(each in sizes for each in inner):
                sizes[identifier] = len(calls[identifier]) - len(inner) + sum(sizes[each] for each in inner)
                del waiting[identifier]
                progress = True
    return sizes


def _means_the_same(node: oir.Node, model: oir.Model) -> bool:
    """Whether the operator's definition at the model's opset is the one that the function was written for."""
    if node.op_identifier() in model.functions:
        return True
    version = model.opset_imports.get(node.domain, node.version)
    if version == node.version:
        return True
    if version is None or node.version is None:
        return False
    ours, theirs = (schema(node.op_type, each, node.domain) for each in (version, node.version))
    return ours is not None and theirs is not None and ours.since_version == theirs.since_version


def _holds_graph(attribute: oir.Attr) -> bool:
    return attribute.type in (oir.AttributeType.GRAPH, oir.AttributeType.GRAPHS)


def _resolve_references(node: oir.Node, parameters: Mapping[str, oir.Attr]) -> None:
    """An attribute that refers to a parameter gets its value, or goes where the call gives none."""
    for name, attribute in list(node.attributes.items()):
        if not attribute.is_ref():
            continue
        given = parameters.get(attribute.ref_attr_name or "")
        del node.attributes[name]
        if given is None:
            continue
        if given.is_ref():  # the call itself stands in a function
            node.attributes[name] = oir.RefAttr(name, given.ref_attr_name or "", given.type)
        else:
            node.attributes[name] = oir.Attr(name, given.type, given.value)
