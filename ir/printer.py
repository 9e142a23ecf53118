"""A model as text to read, to compare and to keep in golden tests: ONNX text syntax, with weights elided.

<ir_version: 8, opset_import: ["": 17]>
main (float[N,3] x) => (float[N,4] y) {
  %w: float[3,4] = #5b0ae2f1
  %shift: float[1] = {0.5}
  a = MatMul (x, w)
  y = Add (a, shift)
}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as oir

from .fingerprint import digest
from .io.encoded_attributes import EncodedAttr
from .traversal import nodes_within

_INLINE_UP_TO = 8  # elements
_PLAIN = re.compile(r"[^\s\"(){}<>,=]+")


def text(model: oir.Model, *, canonical: bool = False, digests: bool = True) -> str:
    """The model as text: the same in every process, with constants of more than 8 elements as short digests.

    `canonical` names inner values by their order and lists constants by their first reader, so that fresh names do not
    matter; `digests=False` leaves the content of large constants out.
    """
    printer = _Printer(canonical, digests)
    imports = _imports(model.opset_imports)
    lines = [f"<ir_version: {model.ir_version}, opset_import: [{imports}]>"]
    lines += printer.graph("main" if canonical else model.graph.name or "main", model.graph, is_main=True)
    for function in model.functions.values():
        lines += ["", *_Printer(canonical, digests).function(function)]
    return "\n".join(lines) + "\n"


@dataclass
class _Printer:
    """Prints one scope after another; recursion follows the nesting of graphs, which protobuf bounds."""

    canonical: bool
    digests: bool
    names: dict[oir.Value, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def graph(self, title: str, graph: oir.Graph, *, is_main: bool = False) -> Iterator[str]:
        if is_main:
            for value in (*graph.inputs, *graph.outputs):
                self.names[value] = value.name or ""
                self.taken.add(value.name or "")
        constants = self._constants(graph)
        self._define(graph, constants)
        inputs = ", ".join(self._declared(value) for value in graph.inputs)
        outputs = ", ".join(self._declared(value) for value in graph.outputs)
        yield f"{title} ({inputs}) => ({outputs}) {{"
        yield from self._body(graph, constants)
        yield "}"

    def function(self, function: oir.Function) -> Iterator[str]:
        graph = function.graph
        self._define(graph, [])
        overload = f", overload: {function.overload!r}" if function.overload else ""
        yield f"<domain: {function.domain!r}{overload}, opset_import: [{_imports(function.opset_imports)}]>"
        parameters = [self._attribute(each) if each.value is not None else each.name for each in _in_order(function)]
        attributes = f" <{', '.join(parameters)}>" if parameters else ""
        inputs = ", ".join(self._name(value) for value in graph.inputs)
        outputs = ", ".join(self._name(value) for value in graph.outputs)
        yield f"{function.name}{attributes} ({inputs}) => ({outputs}) {{"
        yield from self._body(graph, [])
        yield "}"

    def _body(self, graph: oir.Graph, constants: Sequence[oir.Value]) -> Iterator[str]:
        for value in constants:
            content = "?" if value.const_value is None else self._tensor(value.const_value)
            kind = "?" if value.const_value is None else _tensor_type(value.const_value)
            yield f"  %{self._name(value)}: {kind} = {content}"
        for node in graph:
            yield from (f"  {line}" for line in self._node(node))

    # --- names ------------------------------------------------------------------------------------------------------

    def _constants(self, graph: oir.Graph) -> list[oir.Value]:
        constants = list(graph.initializers.values())
        if not self.canonical:
            return constants
        order: dict[oir.Value, None] = {}
        for node in graph:
            for reader in (node, *nodes_within(node)):
                order.update((v, None) for v in reader.inputs if v is not None and v.is_initializer())
        mine = [value for value in order if value.graph is graph]
        return mine + sorted((v for v in constants if v not in order), key=lambda value: value.name or "")

    def _define(self, graph: oir.Graph, constants: Sequence[oir.Value]) -> None:
        if not self.canonical:
            return
        for prefix, values in (("i", graph.inputs), ("c", constants)):
            for value in values:
                self._fresh(value, prefix)
        for node in graph:
            for value in node.outputs:
                if value.name:
                    self._fresh(value, "v")

    def _fresh(self, value: oir.Value, prefix: str) -> None:
        while value not in self.names:
            number = self.counts[prefix] = self.counts.get(prefix, -1) + 1
            if f"{prefix}{number}" not in self.taken:
                self.names[value] = f"{prefix}{number}"

    def _name(self, value: oir.Value | None) -> str:
        if value is None or (not value.name and value not in self.names):
            return '""'
        name = self.names.get(value, value.name or "")
        return name if _PLAIN.fullmatch(name) else f'"{name}"'

    def _declared(self, value: oir.Value) -> str:
        kind = _type(value.type, value.shape)
        return f"{kind} {self._name(value)}" if kind else self._name(value)

    # --- nodes ------------------------------------------------------------------------------------------------------

    def _node(self, node: oir.Node) -> Iterator[str]:
        outputs = ", ".join(self._name(value) for value in node.outputs)
        inputs = ", ".join(self._name(value) for value in node.inputs)
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        operator += f":{node.overload}" if node.overload else ""
        given = [node.attributes[name] for name in sorted(node.attributes)]
        plain = [self._attribute(each) for each in given if not _holds_graphs(each)]
        bodies = [each for each in given if _holds_graphs(each)]
        head = f"{outputs} = {operator}" if outputs else operator
        head += f" <{', '.join(plain)}>" if plain else ""
        if not bodies:
            yield f"{head} ({inputs})"
            return
        yield f"{head} ({inputs}) <"
        for attribute in bodies:
            several = attribute.type == oir.AttributeType.GRAPHS
            for index, graph in enumerate(attribute.as_graphs() if several else (attribute.as_graph(),)):
                title = f"{attribute.name}[{index}]" if several else attribute.name
                yield from (f"  {line}" for line in self.graph(title, graph))
        yield ">"

    def _attribute(self, attribute: oir.Attr) -> str:
        return f"{attribute.name} = {self._value(attribute)}"

    def _value(self, attribute: oir.Attr) -> str:
        if attribute.is_ref():
            return f"@{attribute.ref_attr_name}"
        if isinstance(attribute, EncodedAttr):
            return f"#{attribute.digest().hex()[:8]}" if self.digests else "…"
        match attribute.type:
            case oir.AttributeType.TENSOR:
                tensor = attribute.as_tensor()
                return f"{_tensor_type(tensor)} {self._tensor(tensor)}"
            case oir.AttributeType.TENSORS:
                return f"[{', '.join(f'{_tensor_type(t)} {self._tensor(t)}' for t in attribute.as_tensors())}]"
            case oir.AttributeType.TYPE_PROTO:
                return _type(attribute.value.type, attribute.value.shape)
            case oir.AttributeType.TYPE_PROTOS:
                return f"[{', '.join(_type(each.type, each.shape) for each in attribute.value)}]"
            case _:
                value = attribute.value
                many = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
                return f"[{', '.join(map(_literal, value))}]" if many else _literal(value)

    def _tensor(self, tensor: oir.TensorProtocol) -> str:
        if tensor.size <= _INLINE_UP_TO:
            return f"{{{', '.join(_literal(each) for each in np.asarray(tensor.numpy()).reshape(-1).tolist())}}}"
        return f"#{digest(tensor).hex()[:8]}" if self.digests else "…"


def _holds_graphs(attribute: oir.Attr) -> bool:
    return attribute.type in (oir.AttributeType.GRAPH, oir.AttributeType.GRAPHS) and not attribute.is_ref()


def _in_order(function: oir.Function) -> list[oir.Attr]:
    return [function.attributes[name] for name in sorted(function.attributes)]


def _imports(imports: Mapping[str, int]) -> str:
    return ", ".join(f'"{domain}": {version}' for domain, version in sorted(imports.items()))


def _literal(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, float):
        single = float(np.float32(value))
        return repr(value) if single != value else _shortest(value)
    return str(value)


def _shortest(value: float) -> str:
    """The shortest decimal that is this float32: 0.1, not 0.10000000149011612."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    return str(np.float32(value))


def _tensor_type(tensor: oir.TensorProtocol) -> str:
    return _type(oir.TensorType(tensor.dtype), oir.Shape(tensor.shape.numpy()))


def _type(kind: oir.TypeProtocol | None, shape: oir.Shape | None) -> str:
    """A type as ONNX text has it: `float[N,3]`, `float` for rank 0, `float[]` for an unknown rank."""
    match kind:
        case None:
            return ""
        case oir.SequenceType():
            return f"seq({_type(kind.elem_type, shape)})"
        case oir.OptionalType():
            return f"optional({_type(kind.elem_type, shape)})"
    sparse = "sparse_tensor(" if isinstance(kind, oir.SparseTensorType) else ""
    dims = "[]" if shape is None else f"[{','.join(_dim(each) for each in shape)}]" if len(shape) else ""
    return f"{sparse}{kind.dtype.name.lower()}{dims}{')' if sparse else ''}"


def _dim(dim: int | oir.SymbolicDim) -> str:
    if isinstance(dim, int):
        return str(dim)
    return dim.value or "?"
