"""Is this model well formed? onnx-ir checks neither order nor names nor schemas; everything else relies on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import onnx.defs
import onnx_ir as oir

from .diagnostics import Diagnostic, Location
from .schema import schema
from .traversal import subgraphs_of

_Option = onnx.defs.OpSchema.FormalParameterOption


def verify(model: oir.Model) -> list[Diagnostic]:
    """The violations of the model, if any. Linear in its size.

    Checked: order and scope of every read, names, outputs, initializers, opset imports, the schemas of known operators
    (number of inputs and outputs, attributes and their types), and that use-def chains tell the truth.
    """
    check = _Check(model)
    check.root(model.graph, model.opset_imports)
    for function in model.functions.values():
        check.root(function.graph, function.opset_imports, is_function=True)
    check.chains()
    return check.found


@dataclass
class _Check:
    model: oir.Model
    found: list[Diagnostic] = field(default_factory=list)
    place: dict[oir.Node, int] = field(default_factory=dict)
    holder: dict[oir.Graph, oir.Node] = field(default_factory=dict)  # whose attribute a graph is
    names: dict[oir.Graph, Counter[str]] = field(default_factory=dict)
    reads: Counter[oir.Value] = field(default_factory=Counter)

    def root(self, root: oir.Graph, imports: Mapping[str, int], *, is_function: bool = False) -> None:
        """Check one graph and its subgraphs: definitions first, then uses."""
        all_graphs = [root]
        for graph in all_graphs:  # grows while it is walked
            for index, node in enumerate(graph):
                self.place[node] = index
                for body in subgraphs_of(node):
                    self.holder[body] = node
                    all_graphs.append(body)
            self._names(graph, is_function=is_function and graph is root)
        for graph in all_graphs:
            for node in graph:
                self._node(node, graph, imports)
            for value in graph.outputs:
                if value.graph is not graph or not self._is_defined(value):
                    self._report("output-undefined", "a graph output is defined nowhere in its graph", graph, value)

    def _report(
        self,
        code: str,
        message: str,
        graph: oir.Graph | None,
        value: oir.Value | None = None,
        node: oir.Node | None = None,
        hint: str = "",
    ) -> None:
        where = Location(
            graph=(graph.name if graph else "") or "",
            node=f"{node.name or '?'} ({node.op_type})" if node else "",
            value=(value.name or "?") if value else "",
        )
        self.found.append(Diagnostic(code, message, where, hint))

    # --- names and definitions --------------------------------------------------------------------------------------

    def _names(self, graph: oir.Graph, *, is_function: bool) -> None:
        names = self.names[graph] = Counter(value.name or "" for value in graph.inputs)
        for key, value in graph.initializers.items():
            if not value.is_graph_input():
                names[value.name or ""] += 1
            self._initializer(key, value, graph, is_function=is_function)
        if names[""]:
            self._report("name-missing", "an input or initializer has no name", graph)
        for node in graph:
            if node.graph is not graph:
                self._report("chain-broken", "a node does not know its graph", graph, node=node)
            names.update(value.name for value in node.outputs if value.name)
        if len(names) < names.total():
            for name, count in names.items():
                if count > 1 and name:
                    self._report("duplicate-name", f"{count} values have the name {name!r}", graph)

    def _initializer(self, key: str, value: oir.Value, graph: oir.Graph, *, is_function: bool) -> None:
        if is_function:
            self._report("function-initializer", "the body of a function has an initializer", graph, value)
        if value.const_value is None:
            self._report("initializer-empty", "an initializer has no content", graph, value)
        elif isinstance(value.type, oir.TensorType) and value.type.dtype != value.const_value.dtype:
            message = f"declared {value.type.dtype.name}, but its content is {value.const_value.dtype.name}"
            self._report("initializer-type", message, graph, value)
        if key != value.name:
            self._report("name-broken", f"an initializer is registered as {key!r}", graph, value)

    @staticmethod
    def _is_defined(value: oir.Value) -> bool:
        return value.producer() is not None or value.is_graph_input() or value.is_initializer()

    # --- nodes ------------------------------------------------------------------------------------------------------

    def _node(self, node: oir.Node, graph: oir.Graph, imports: Mapping[str, int]) -> None:
        for value in node.inputs:
            if value is not None:
                self.reads[value] += 1
                self._read(value, node, graph)
        version = imports.get(node.domain)
        if version is None:
            message = f"domain {node.domain or 'ai.onnx'!r} is not among the opset imports"
            self._report("domain-not-imported", message, graph, node=node)
        elif node.version is not None and node.version != version:
            message = f"the node is written for opset {node.version}, the model imports {version}"
            self._report("opset-differs", message, graph, node=node)
        elif node.op_identifier() not in self.model.functions:
            for code, message in schema_problems(node, version):
                self._report(code, message, graph, node=node)

    def _read(self, value: oir.Value, node: oir.Node, graph: oir.Graph) -> None:
        """Check that `value` is defined before `node` runs, in its scope or one around it, and by that name."""
        home, inner, reader = value.graph, graph, node
        if not value.name:
            self._report("name-missing", "a value that is read has no name", graph, node=node)
        while inner is not home:
            if value.name in self.names[inner]:
                message = "a value of an outer graph is read where another one has the same name"
                self._report("name-shadowed", message, graph, value, node)
                return
            outer = self.holder.get(inner)
            if outer is None or outer.graph is None:
                message = "an input is defined nowhere in its scope"
                self._report("input-undefined", message, graph, value, node)
                return
            reader, inner = outer, outer.graph
        producer = value.producer()
        if producer is None:
            if not value.is_graph_input() and not value.is_initializer():
                self._report("input-undefined", "an input is defined nowhere", graph, value, node)
        elif self.place.get(producer, -1) >= self.place[reader] or producer not in self.place:
            message = "a value is read before it is computed"
            self._report("order", message, graph, value, node, "the nodes are not sorted, or form a cycle")

    def chains(self) -> None:
        """Check that every value counts exactly the reads that the graphs have."""
        values = dict.fromkeys(self.reads)
        for graph in self.names:
            values.update(dict.fromkeys((*graph.inputs, *graph.initializers.values())))
        for node in self.place:
            values.update(dict.fromkeys(node.outputs))
        for value in values:
            uses = len(value.uses())
            if uses != self.reads[value]:
                message = f"counts {uses} readers, but the graphs have {self.reads[value]}"
                self._report("chain-broken", message, value.graph, value)


# --- schemas ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Signature:
    """The requirements of a schema, in plain Python: repeated queries of a schema are slow."""

    inputs: tuple[int, int]
    required: tuple[int, ...]
    outputs: tuple[int, int]
    attributes: Mapping[str, int]
    needed: tuple[str, ...]


@cache
def _signature(op_type: str, version: int, domain: str) -> _Signature | None:
    known = schema(op_type, version, domain)
    if known is None:
        return None
    return _Signature(
        (known.min_input, known.max_input),
        tuple(index for index, slot in enumerate(known.inputs) if slot.option == _Option.Single),
        (known.min_output, known.max_output),
        {name: each.type.value for name, each in known.attributes.items()},  # type: ignore[attr-defined]  # an enum
        tuple(name for name, each in known.attributes.items() if each.required),
    )


@cache
def _is_newer(op_type: str, domain: str) -> bool:
    return onnx.defs.has(op_type, domain)


def schema_problems(node: oir.Node, version: int) -> Iterator[tuple[str, str]]:
    """Violations of the schema of `node` at opset `version`, as (code, message): operator, arity and attributes."""
    signature = _signature(node.op_type, version, node.domain)
    if signature is None:
        if _is_newer(node.op_type, node.domain):
            yield "operator-unknown", f"opset {version} has no operator {node.op_type}"
        return
    yield from _arity_problems(node, signature)
    for name in signature.needed:
        if name not in node.attributes:
            yield "attribute-missing", f"required attribute {name!r} is missing"
    for name, attribute in node.attributes.items():
        wanted = signature.attributes.get(name)
        if wanted is None:
            if not name.startswith("__"):
                yield "attribute-unknown", f"operator {node.op_type} of opset {version} has no attribute {name!r}"
        elif attribute.type.value != wanted:
            yield "attribute-type", f"attribute {name!r} is {attribute.type.name}, not {oir.AttributeType(wanted).name}"


def _arity_problems(node: oir.Node, signature: _Signature) -> Iterator[tuple[str, str]]:
    count = len(node.inputs)
    while count and node.inputs[count - 1] is None:
        count -= 1
    low, high = signature.inputs
    if not low <= count <= high:
        yield "arity", f"{count} inputs, where {low} to {high} are allowed"
    for index in signature.required:
        if index < count and node.inputs[index] is None:
            yield "arity", f"required input {index} is left out"
    low, high = signature.outputs
    if not low <= len(node.outputs) <= high:
        yield "arity", f"{len(node.outputs)} outputs, where {low} to {high} are allowed"


@dataclass(frozen=True)
class _Operands:
    """The formal inputs of a schema: the type variable of each, what it may be, and whether all its uses agree."""

    variables: tuple[str, ...]
    allowed: tuple[frozenset[str], ...]
    agree: tuple[bool, ...]


@cache
def _operands(op_type: str, version: int, domain: str) -> _Operands | None:
    known = schema(op_type, version, domain)
    if known is None:
        return None
    constraints = {each.type_param_str: frozenset(each.allowed_type_strs) for each in known.type_constraints}
    return _Operands(
        tuple(formal.type_str for formal in known.inputs),
        tuple(constraints.get(formal.type_str, frozenset({formal.type_str})) for formal in known.inputs),
        tuple(formal.is_homogeneous for formal in known.inputs),
    )


def type_problems(node: oir.Node, dtypes: Sequence[oir.DataType | None]) -> Iterator[tuple[str, str]]:
    """Violations of the type constraints of `node` by the element types of its operands (None: unknown).

    An operand of a type that the operator has no definition for, or operands of one type variable that differ.
    """
    operands = None if node.version is None else _operands(node.op_type, node.version, node.domain)
    if operands is None or not operands.variables:
        return
    bound: dict[str, oir.DataType] = {}
    for index, dtype in enumerate(dtypes):
        if dtype is None:
            continue
        formal = min(index, len(operands.variables) - 1)
        variable = operands.variables[formal]
        if f"tensor({dtype.name.lower()})" not in operands.allowed[formal]:
            yield "operand-type", f"operand {index} is {dtype.name}, which opset {node.version} does not define"
        elif operands.agree[formal] and bound.setdefault(variable, dtype) != dtype:
            yield "operand-type", f"operand {index} is {dtype.name}, where {bound[variable].name} is expected"
