"""Opset-aware access to a node: its schema, its attributes with defaults, parameters that moved between the two.

Every node carries the version of its operator set (`node.version`): `load` stamps it and the `Rewriter` keeps it, so
that a node can be asked without knowing the model around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
import onnx.defs
import onnx.helper
import onnx_ir as oir

from .values import Array, constant

AttributeValue = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | oir.TensorProtocol | oir.Graph


class _Unknown:
    """The type of `UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = _Unknown()
"""A parameter that is given, but by a value that is computed at run time."""


@cache
def schema(op_type: str, version: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """The schema of an operator at an opset version, or None for an unknown operator or version."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


@cache
def standard_operators() -> Mapping[str, Mapping[str, tuple[int, ...]]]:
    """The operators that the installed onnx defines: by domain and name, the opsets that define each, ascending."""
    found: dict[str, dict[str, list[int]]] = {}
    for each in onnx.defs.get_all_schemas_with_history():
        found.setdefault(each.domain, {}).setdefault(each.name, []).append(each.since_version)
    return {
        domain: {name: tuple(sorted(versions)) for name, versions in operators.items()}
        for domain, operators in found.items()
    }


def schema_of(node: oir.Node) -> onnx.defs.OpSchema | None:
    """The schema of `node`, or None when its operator, domain or opset version is unknown."""
    if node.version is None:
        return None
    return schema(node.op_type, node.version, node.domain)


@cache
def _defaults(op_type: str, version: int, domain: str) -> Mapping[str, object]:
    known = schema(op_type, version, domain)
    if known is None:
        return {}
    return {
        name: onnx.helper.get_attribute_value(attribute.default_value)
        for name, attribute in known.attributes.items()
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED
    }


def defaults_of(node: oir.Node) -> Mapping[str, object]:
    """The defaults that the schema of `node` gives to its attributes; strings decoded."""
    if node.version is None:
        return {}
    raw = _defaults(node.op_type, node.version, node.domain)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in raw.items()}


def attribute(node: oir.Node, name: str) -> object:
    """The value of an attribute, or its schema default, or None when it is absent and has no default.

    A reference to a function's attribute is `UNKNOWN`. Lists come as tuples.
    """
    given = node.attributes.get(name)
    if given is None:
        default = defaults_of(node).get(name)
        return tuple(default) if isinstance(default, list) else default
    if given.is_ref():
        return UNKNOWN
    value: object = given.value
    return value


def attributes(node: oir.Node) -> dict[str, object]:
    """Every attribute that is given or has a schema default, by name (see `attribute`)."""
    names = [*node.attributes, *(name for name in defaults_of(node) if name not in node.attributes)]
    return {name: attribute(node, name) for name in names}


def input_index(node: oir.Node, formal: str) -> int | None:
    """The position of the input that the schema calls `formal`, or None."""
    known = schema_of(node)
    if known is None:
        return None
    return next((index for index, slot in enumerate(known.inputs) if slot.name == formal), None)


def named_input(node: oir.Node, formal: str) -> oir.Value | None:
    """The input that the schema calls `formal`, or None when it is absent."""
    index = input_index(node, formal)
    return node.inputs[index] if index is not None and index < len(node.inputs) else None


def parameter(node: oir.Node, name: str) -> Array | _Unknown | None:
    """A parameter that is an attribute at some opsets and an input at others (axes, pads, min, k, …), as an array.

    None when it is not given and has no default; `UNKNOWN` when it is computed at run time.
    """
    known = schema_of(node)
    if known is None:
        return UNKNOWN
    if name in known.attributes:
        value = attribute(node, name)
        if value is None or isinstance(value, _Unknown):
            return value
        return np.asarray(value)
    given = named_input(node, name)
    if given is None:
        return None
    content = constant(given)
    return UNKNOWN if content is None else content


def stamp_versions(model: oir.Model) -> None:
    """Write on every node the opset version that its graph or function imports for its domain."""
    roots = [(model.graph, model.opset_imports)]
    roots += [(function.graph, function.opset_imports) for function in model.functions.values()]
    for root, imports in roots:
        for node in root.all_nodes():
            node.version = imports.get(node.domain, imports.get("ai.onnx") if node.domain == "" else None)


def is_optional_output(node: oir.Node, index: int) -> bool:
    """Whether the schema lets a node leave out its output at `index` (not so for variadic outputs: Split, Loop, If)."""
    known = schema_of(node)
    if known is None or index >= len(known.outputs):
        return False
    return known.outputs[index].option == onnx.defs.OpSchema.FormalParameterOption.Optional
