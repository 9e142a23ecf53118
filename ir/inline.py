"""Instantiating a function of the model at one of its calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import onnx_ir as oir

from .mutation.rewriter import Rewriter
from .schema import schema

_EXPANDED_NODES = 1_000_000  # a hostile model doubles a function a hundred times


def inlinable_functions(model: oir.Model) -> set[oir.OperatorIdentifier]:
    """The functions whose bodies may stand in the model's graph.

    Not those that reach themselves, that take graphs as attributes, whose operators mean something else at the
    model's opset, or with which all calls would expand to more than a million nodes.
    """
    disputed = _disputed_domains(model)
    sizes = _expanded_sizes(model)
    sites = Counter(node.op_identifier() for root in (model.graph, *_bodies(model)) for node in root.all_nodes())
    fitting: set[oir.OperatorIdentifier] = set()
    expanded = 0
    for identifier in sorted(sizes, key=lambda each: sizes[each]):
        function = model.functions[identifier]
        expanded += sites[identifier] * sizes[identifier]
        if expanded > _EXPANDED_NODES:
            break
        if any(_holds_graph(parameter) for parameter in function.attributes.values()):
            continue
        if disputed.isdisjoint(function.opset_imports) and all(
            _means_the_same(node, model) for node in function.all_nodes()
        ):
            fitting.add(identifier)
    return fitting


def _disputed_domains(model: oir.Model) -> set[str]:
    """The domains that the model's graph does not import, and its functions in several versions."""
    versions: defaultdict[str, set[int]] = defaultdict(set)
    for function in model.functions.values():
        for domain, version in function.opset_imports.items():
            versions[domain].add(version)
    return {domain for domain, found in versions.items() if len(found) > 1 and domain not in model.opset_imports}


def _bodies(model: oir.Model) -> list[oir.Graph]:
    return [function.graph for function in model.functions.values()]


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
        resolve_references(inner, parameters)
        inner.version = imports.get(inner.domain)
    rewriter.adopt_names(body, prefix=node.name or function.name)
    arguments = [*node.inputs, *[None] * (len(body.inputs) - len(node.inputs))]
    results = rewriter.inline(body, arguments, before=node)
    rewriter.replace(node, results[: len(node.outputs)])
    return copied


def _expanded_sizes(model: oir.Model) -> dict[oir.OperatorIdentifier, int]:
    """How many nodes a call of each function becomes; functions that reach themselves are missing."""
    sizes: dict[oir.OperatorIdentifier, int] = {}
    waiting: dict[oir.OperatorIdentifier, int] = {}
    callers: defaultdict[oir.OperatorIdentifier, list[oir.OperatorIdentifier]] = defaultdict(list)
    for identifier, function in model.functions.items():
        sizes[identifier] = 0
        waiting[identifier] = 0
        for node in function.all_nodes():
            called = node.op_identifier()
            if called in model.functions:
                callers[called].append(identifier)
                waiting[identifier] += 1
            else:
                sizes[identifier] += 1
    ready = [identifier for identifier, count in waiting.items() if count == 0]
    for identifier in ready:  # grows while it is walked
        for caller in callers[identifier]:
            sizes[caller] += sizes[identifier]
            waiting[caller] -= 1
            if waiting[caller] == 0:
                ready.append(caller)
    return {identifier: sizes[identifier] for identifier in ready}


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


def resolve_references(node: oir.Node, parameters: Mapping[str, oir.Attr]) -> None:
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


def instantiate(
    rewriter: Rewriter, body: oir.Graph, arguments: Sequence[oir.Value | None], *, before: oir.Node, prefix: str
) -> list[oir.Value | None]:
    """Put a copy of a node's body in front of `before`, its inputs bound to `arguments`; gives back its results."""
    copied = body.clone(allow_outer_scope_values=True)
    rewriter.adopt_names(copied, prefix=prefix)
    return rewriter.inline(copied, arguments, before=before)
