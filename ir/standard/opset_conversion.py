"""Another version of the standard operators, by onnx's own converter and without what that one loses.

The converter (`onnx.version_converter`) serializes the model, inlines functions, drops metadata, adds value_info and
knows no weights on disk. So it is shown a skeleton: the same nodes and values under numbers, large weights as inputs.
What it makes of the skeleton is carried over to a copy of the model, node by node: what it left alone stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.version_converter
import onnx_ir as oir

from ..diagnostics import Diagnostic, Location, ModelError
from ..inline import inlinable_functions, inline_call
from ..io.decode_proto import fail
from ..io.encoded_attributes import EncodedAttr
from ..io.load import collector_paused, not_representable
from ..io.weightless import Skeleton
from ..mutation.new_nodes import new_node
from ..mutation.rewriter import Rewriter
from ..schema import defaults_of, schema, stamp_versions
from ..traversal import nodes, subgraphs_of
from ..verifier import verify
from .opset_adapters import CannotConvertError, boundary, graph_protos, take_step

_CODE = "opset-conversion"
_PROVENANCE = "convert-opset"


def convert_opset(model: oir.Model, version: int, *, highest_ir: int | None = None) -> oir.Model:
    """A copy of `model` with its standard operators (domain ai.onnx) at opset `version`; weights are shared, not read.

    The interface, names, metadata and declared types stay; the functions of the model are inlined. The IR version rises
    to what the standard pairs with the opset, but not above `highest_ir`. A model at `version` comes back itself.
    Raises ModelError: `opset-unsupported` for a version that the installed onnx does not know, `opset-conversion` when
    an operator cannot be converted or the result is malformed.
    """
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= version <= newest:
        fail("opset-unsupported", f"onnx {onnx.__version__} knows the opsets 1 to {newest}, not {version}")
    current = standard_opset(model)
    if current is None or current == version:
        return model
    if losses := not_representable(model):
        fail(_CODE, f"a model with {', '.join(losses)} cannot be converted to another opset", hint="keep its opset")
    with collector_paused():
        result = model.clone()
        _inline_functions(result)
        _refuse_what_is_overlooked(result, current, version)
        if version < current:
            _drop_defaults(result, version)
        skeleton = Skeleton(result)
        _Transfer(result, skeleton, _convert(skeleton.proto, current, version)).run()
        result.opset_imports.pop("ai.onnx", None)
        result.opset_imports[""] = version
        stamp_versions(result)
        result.ir_version = _ir_version(result.ir_version, version, highest_ir)
        _check(result)
    return result


def standard_opset(model: oir.Model) -> int | None:
    """The version of ai.onnx that the model imports; None when it uses other domains only."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx"))


def _ir_version(current: int, opset: int, highest: int | None) -> int:
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True)
    return max(current, needed if highest is None else min(needed, highest))


def _inline_functions(model: oir.Model) -> None:
    """The converter inlines all functions, too, but gives what it inlined other names."""
    if not model.functions:
        return
    ready = inlinable_functions(model)
    rewriter = Rewriter(model)
    pending = [node for node in model.graph.all_nodes() if node.op_identifier() in model.functions]
    while pending:
        node = pending.pop()
        if node.op_identifier() not in ready:
            name = "::".join(node.op_identifier()[:2])
            fail(_CODE, f"function {name} cannot be inlined, so it cannot be converted", hint="keep the opset")
        inlined = inline_call(rewriter, node, model.functions[node.op_identifier()])
        pending += [inner for inner in inlined if inner.op_identifier() in model.functions]
    model.functions.clear()


def _refuse_what_is_overlooked(model: oir.Model, current: int, version: int) -> None:
    """Say no where the converter says nothing and gives a wrong model."""
    for node in nodes(model):
        if node.domain and any(subgraphs_of(node)):
            what = f"the graphs in {node.domain}::{node.op_type}, which are not looked into,"
        elif node.op_type == "Scan" and not node.domain and min(current, version) < 9 <= max(current, version):
            what = "Scan, which has a batch dim until opset 8 alone,"  # the body keeps the shapes (case scan_sum)
        else:
            continue
        fail(_CODE, f"{what} cannot be converted", Location(node=node.name or ""), f"keep opset {current}")


def _drop_defaults(model: oir.Model, version: int) -> None:
    """Going down, the converter leaves attributes that `version` does not know, though they only say the default."""
    known: dict[str, frozenset[str] | None] = {}
    for node in nodes(model):
        if node.domain or not node.attributes:
            continue
        if node.op_type not in known:
            target = schema(node.op_type, version)
            known[node.op_type] = None if target is None else frozenset(target.attributes)
        names = known[node.op_type]
        if names is None or names.issuperset(node.attributes):
            continue
        defaults = defaults_of(node)
        for name, attribute in list(node.attributes.items()):
            if isinstance(attribute, EncodedAttr):
                continue  # no default is as long
            if name not in names and name in defaults and attribute.value == defaults[name]:
                del node.attributes[name]


# --- the converter ----------------------------------------------------------------------------------------------------


def _convert(proto: onnx.ModelProto, current: int, version: int) -> onnx.ModelProto:
    """By onnx's converter, but for the steps that are written in `opset_steps`."""
    while current != version:
        step = boundary(proto, current, version)
        reached = version if step is None else step[0]
        if reached != current:
            proto = _by_onnx(proto, reached, current=current)
        if step is None:
            break
        before, current = step
        try:
            proto = take_step(proto, current, partial(_by_onnx, current=before))
        except CannotConvertError as error:
            raise ModelError(Diagnostic(_CODE, str(error), hint=f"keep opset {before}")) from error
    return proto


def _by_onnx(proto: onnx.ModelProto, version: int, *, current: int) -> onnx.ModelProto:
    try:
        return onnx.version_converter.convert_version(proto, version)
    except Exception as error:  # whatever Python makes of a C++ exception: RuntimeError, IndexError, ConvertError
        raise ModelError(_explanation(error, proto, current, version)) from error


def _explanation(error: Exception, proto: onnx.ModelProto, current: int, version: int) -> Diagnostic:
    """Which operator stops the conversion, and how far the model goes: found by going version by version."""
    step = 1 if version > current else -1
    reached = current
    while reached + step != version:
        try:
            proto = onnx.version_converter.convert_version(proto, reached + step)
        except Exception as failure:
            error = failure
            break
        reached += step
    reason = _reason(error)
    changed = _changed_operators(proto, reached, reached + step)
    named = [operator for operator in changed if re.search(rf"\b{operator}\b", reason)] or changed
    what = " or ".join(named[:4]) or "the model"
    message = f"{what} cannot be converted from opset {reached} to {reached + step}: {reason}"
    hint = f"it goes as far as opset {reached}" if reached != current else f"keep opset {current}"
    return Diagnostic(_CODE, message, hint=hint)


def _reason(error: Exception) -> str:
    """The converter's message, without its own file, line and assertion."""
    text = " ".join(str(error).split())
    text = text.partition(" failed: ")[2] or text
    text = re.sub(r"\$(\d+)", r"\1", text)
    return text[:200] or type(error).__name__


def _changed_operators(proto: onnx.ModelProto, old: int, new: int) -> list[str]:
    """The standard operators in use that opset `old` and `new`, its neighbour, define otherwise."""
    used = dict.fromkeys(node.op_type for graph in graph_protos(proto) for node in graph.node if not node.domain)
    known = {name: schema(name, max(old, new)) for name in used}
    return [name for name, each in known.items() if each is None or each.since_version == max(old, new)]


# --- carrying the result over -----------------------------------------------------------------------------------------


@dataclass
class _Transfer:
    """Makes of `model` what the converter made of its skeleton."""

    model: oir.Model
    skeleton: Skeleton
    converted: onnx.ModelProto
    scopes: list[tuple[oir.Graph, onnx.GraphProto]] = field(default_factory=list)
    here: dict[oir.Graph, dict[str, oir.Value]] = field(default_factory=dict)  # values that the converter named
    placed: list[tuple[oir.Node, onnx.NodeProto]] = field(default_factory=list)

    def run(self) -> None:
        self.rewriter = Rewriter(self.model)
        self.values = dict(self.skeleton.values)
        self.gone = dict(self.skeleton.nodes)
        self.scopes.append((self.model.graph, self.converted.graph))
        for graph, proto in self.scopes:  # grows while it is walked
            self._place(graph, proto)
        for node, written in self.placed:
            self._connect(node, written)
        for graph, proto in self.scopes:
            self._keep_outputs(graph, proto)
        self._remove()

    def _place(self, graph: oir.Graph, proto: onnx.GraphProto) -> None:
        """Place every node of one graph; operands follow when all nodes are placed."""
        here = self.here[graph] = {}
        for tensor in proto.initializer:
            if tensor.name not in self.values:
                name, tensor.name = tensor.name, self.rewriter.fresh_name("constant")
                content = oir.serde.deserialize_tensor(tensor)
                here[name] = oir.Value(name=tensor.name, const_value=content, type=oir.TensorType(content.dtype))
                graph.initializers.add(here[name])
        last: oir.Node | None = None
        for written in proto.node:
            node = self.skeleton.nodes.get(written.name)
            if node is None or (node.op_type, node.domain) != (written.op_type, written.domain):
                node = self._new(written, graph, last)
            else:
                del self.gone[written.name]
                self._update(node, written, here)
            self.placed.append((node, written))
            last = node
            for attribute in written.attribute:
                if attribute.HasField("g"):
                    self.scopes.append((node.attributes[attribute.name].as_graph(), attribute.g))

    def _update(self, node: oir.Node, written: onnx.NodeProto, here: dict[str, oir.Value]) -> None:
        """Give a node that is still there the attributes that it has now."""
        before = {each.name: each for each in self.skeleton.written[written.name].attribute}
        after = {each.name: each for each in written.attribute}
        for name in before.keys() - after.keys():
            del node.attributes[name]
        for name, attribute in after.items():
            if not attribute.HasField("g") and before.get(name) != attribute:
                node.attributes[name] = oir.serde.deserialize_attribute(attribute)
        if len(node.outputs) != len(written.output):
            message = f"the conversion changes how many outputs {node.op_type} has"
            fail(_CODE, message, Location(node=node.name or ""), "keep the opset")
        pairs = zip(written.output, node.outputs, strict=True)
        here.update((name, value) for name, value in pairs if name not in self.values)

    def _new(self, written: onnx.NodeProto, graph: oir.Graph, last: oir.Node | None) -> oir.Node:
        """A node that the converter added, perhaps in place of one whose results it gives."""
        if any(attribute.HasField("g") for attribute in written.attribute):
            fail(_CODE, f"{written.op_type} comes out of the conversion as another operator", hint="keep the opset")
        attributes = {each.name: oir.serde.deserialize_attribute(each) for each in written.attribute}
        node = new_node(
            written.op_type,
            [],
            attributes,
            domain=written.domain,
            version=None,
            outputs=len(written.output),
            provenance=_PROVENANCE,
        )
        node.name = self.rewriter.fresh_node_name(written.op_type)
        for name, value in zip(written.output, node.outputs, strict=True):
            if name in self.values:
                self._succeed(self.values[name], value, graph)
                self.values[name] = value
            else:
                value.name = self.rewriter.fresh_name(written.op_type) if name else ""
                self.here[graph][name] = value
        if last is not None:
            graph.insert_after(last, node)
        elif len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)
        return node

    def _succeed(self, old: oir.Value, new: oir.Value, graph: oir.Graph) -> None:
        """Give `new` the name of `old`, its place among the outputs and what is declared of it.

        `old` may live on, as the inner value of an operator that now takes three nodes: what was declared is not its.
        """
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
        name = old.name
        old.name = self.rewriter.fresh_name(f"{name}_inner")
        new.name = name
        new.type, new.shape, new.doc_string = old.type, old.shape, old.doc_string
        new.metadata_props.update(old.metadata_props)
        old.type = old.shape = old.doc_string = None
        old.metadata_props.clear()

    def _connect(self, node: oir.Node, written: onnx.NodeProto) -> None:
        assert node.graph is not None
        here = self.here[node.graph]
        wanted: list[oir.Value | None] = []
        for name in written.input:
            value = here.get(name, self.values.get(name)) if name else None
            if value is None and name:
                message = f"the conversion leaves an input of {node.op_type} undefined"
                fail(_CODE, message, Location(node=node.name or ""), "keep the opset")
            wanted.append(value)
        while wanted and wanted[-1] is None:
            wanted.pop()
        given = len(node.inputs)
        while given and node.inputs[given - 1] is None:
            given -= 1
        if given == len(wanted) and all(old is new for old, new in zip(node.inputs, wanted, strict=False)):
            return
        node.resize_inputs(len(wanted))
        for index, value in enumerate(wanted):
            node.replace_input_with(index, value)

    def _keep_outputs(self, graph: oir.Graph, proto: onnx.GraphProto) -> None:
        here = self.here[graph]
        results = [here.get(each.name, self.values.get(each.name)) for each in proto.output]
        if len(results) != len(graph.outputs) or any(a is not b for a, b in zip(results, graph.outputs, strict=True)):
            fail(_CODE, "the conversion changes the outputs of a graph", Location(graph=graph.name or ""))

    def _remove(self) -> None:
        """Remove the nodes and small initializers without users that the converter removed."""
        for node in reversed(self.gone.values()):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self.rewriter.erase(node)
            elif node.op_type != "Constant":  # the converter overlooks that a subgraph may read it
                fail(_CODE, f"the conversion loses {node.op_type}", Location(node=node.name or ""), "keep the opset")
        kept = {tensor.name for _, proto in self.scopes for tensor in proto.initializer}
        for before in graph_protos(self.skeleton.proto):
            for tensor in before.initializer:
                value = self.skeleton.values[tensor.name]
                if tensor.name not in kept and not value.uses() and not value.is_graph_output():
                    self.rewriter.erase_initializer(value)


def _check(model: oir.Model) -> None:
    problems = [str(problem) for problem in verify(model)]
    if not problems:
        proto = Skeleton(model).proto
        for port in (*proto.graph.input, *proto.graph.output):
            _complete(port.type)
        try:
            onnx.checker.check_model(proto)
        except onnx.checker.ValidationError as error:
            problems.append(" ".join(str(error).split())[:200])
    if problems:
        fail(_CODE, f"the converted model is malformed: {problems[0]}", hint="keep the opset")


def _complete(port: onnx.TypeProto) -> None:
    """The checker wants a type and a rank of inputs and outputs; models without them run all the same."""
    if port.WhichOneof("value") is None:
        port.tensor_type.elem_type = onnx.TensorProto.FLOAT
    if port.HasField("tensor_type"):
        port.tensor_type.shape.SetInParent()
