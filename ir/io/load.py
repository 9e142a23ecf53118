"""Reading a model: from a file, bytes or a proto to the in-memory form, and back to a proto.

What onnx-ir's form would lose is found while reading (`not_representable`); such a model is passed on byte for byte.
The findings are kept in the metadata of the main graph, because `Model.clone` drops that of the model itself.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

import onnx
import onnx.defs
import onnx.parser
import onnx_ir as oir

from ..diagnostics import Diagnostic, Location, ModelError, Severity
from ..schema import stamp_versions
from ..traversal import graphs, subgraphs_of
from ..values import INTERFACE_TYPE
from .decode_proto import fail, parse, read_bytes
from .encoded_attributes import Chunk, EncodedAttr, adopt, cut_out, has_large_lists, pasted, set_aside
from .external_data import ExternalFolder
from .proto_graphs import graphs_within
from .validate_proto import Intake

_REMARKS = "optimize_graph.remarks"
_LOSSES = "optimize_graph.not_representable"
_DATA_FILES = "optimize_graph.data_files"
_DECLARED = "optimize_graph.declared"  # on an initializer: the file has a value_info for it

# onnx-ir logs what `verify` reports; without a handler Python would print it.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector: it walks every live object again and again, so that loading would not be linear."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load(path: str | PathLike[str], *, follow_symlinks: bool = False) -> oir.Model:
    """The model in a file; external data stays on disk.

    `follow_links` allows the model and its data to be symbolic links.
    Raises ModelError when the file, or a file that belongs to it, is at fault.
    """
    place = Path(fspath(path))
    with collector_paused():
        left, held = cut_out(read_bytes(place, follow_symlinks=follow_symlinks))
        proto = parse(left, str(place))
        del left  # it is as large as the weights are
        return _deserialize(proto, ExternalFolder(place.parent, str(place), follow_symlinks), held)


def from_text(text: str) -> oir.Model:
    """The model in ONNX text."""
    return from_proto(onnx.parser.parse_model(text))


def from_proto(proto: onnx.ModelProto | bytes, *, folder: str | PathLike[str] | None = None) -> oir.Model:
    """The model in a proto, which stays as it is, or in its bytes; `folder` is where external data lies."""
    with collector_paused():
        held: Mapping[str, EncodedAttr] = {}
        if not isinstance(proto, bytes) and any(
            has_large_lists(graph.node) for graph in graphs_within(proto.graph, *proto.functions)
        ):
            proto = serialized(proto)
        if isinstance(proto, bytes):
            left, held = cut_out(proto)
            own = parse(left)
        else:
            own = onnx.ModelProto()
            own.CopyFrom(proto)
        return _deserialize(own, ExternalFolder(None if folder is None else Path(fspath(folder))), held)


def load_remarks(model: oir.Model) -> list[Diagnostic]:
    """The changes and remarks of `load`."""
    return list(model.graph.meta.get(_REMARKS, ()))


def add_load_remarks(model: oir.Model, remarks: Iterable[Diagnostic]) -> None:
    """Note what was changed after loading."""
    model.graph.meta[_REMARKS] = (*model.graph.meta.get(_REMARKS, ()), *remarks)


def not_representable(model: oir.Model) -> tuple[str, ...]:
    """The parts of the file that this form cannot hold; if any, copy the file byte for byte: `to_proto` raises."""
    return tuple(model.graph.meta.get(_LOSSES, ()))


def data_files(model: oir.Model) -> tuple[str, ...]:
    """The files of external data that the model was loaded with, as it named them."""
    return tuple(model.graph.meta.get(_DATA_FILES, ()))


def to_proto(model: oir.Model) -> onnx.ModelProto:
    """The model as a proto, without inferred value_info. Raises ModelError when something would be lost."""
    _refuse_losses(model)
    with _undeclared_hidden(model):
        return complete_proto(model)


def complete_proto(model: oir.Model) -> onnx.ModelProto:
    """The model as a proto, with a value_info for every initializer that has a type, as onnx-ir writes it."""
    with set_aside(model) as held:
        proto = _proto(model)
    return parse(b"".join(pasted(serialized(proto), held))) if held else proto


def _proto(model: oir.Model) -> onnx.ModelProto:
    """The same of a model whose encoded attributes are set aside."""
    try:
        with collector_paused():
            return with_interface_types(oir.to_proto(model), model)
    except oir.serde.SerdeError as error:
        root = _root_cause(error)
        raise ModelError(Diagnostic("cannot-be-written", f"the model cannot be written: {root}")) from error


def _refuse_losses(model: oir.Model) -> None:
    if losses := not_representable(model):
        fail("not-representable", f"writing this model would lose {', '.join(losses)}", "", "pass the file on as it is")


def with_interface_types(proto: onnx.ModelProto, model: oir.Model) -> onnx.ModelProto:
    """`proto`, made of `model`, with the types of inputs and outputs that onnx-ir cannot hold (maps)."""
    for values, infos in ((model.graph.inputs, proto.graph.input), (model.graph.outputs, proto.graph.output)):
        for value, info in zip(values, infos, strict=True):
            if INTERFACE_TYPE in value.meta:
                info.type.ParseFromString(value.meta[INTERFACE_TYPE])
    return proto


def to_bytes(model: oir.Model) -> bytes:
    """The model as the bytes of a file: the same for the same model, in every process."""
    chunks = to_chunks(model)
    return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)


def to_chunks(model: oir.Model) -> list[Chunk]:
    """The same in pieces, without a copy of attributes that are kept encoded. Raises ModelError."""
    _refuse_losses(model)
    with set_aside(model) as held, _undeclared_hidden(model):
        return pasted(serialized(_proto(model)), held)


def serialized(proto: onnx.ModelProto) -> bytes:
    """The bytes of `proto`. Raises ModelError when it is larger than protobuf allows."""
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's EncodeError or ValueError, depending on its version: above 2 GiB
        raise ModelError(
            Diagnostic("file-too-large", f"the model cannot be serialized: {_root_cause(error)}")
        ) from error
    return data


@contextmanager
def _undeclared_hidden(model: oir.Model) -> Iterator[None]:
    """onnx-ir writes a value_info for every initializer that has a type: hide those that no file declared."""
    hidden = [
        (value, value.type, value.shape)
        for graph in graphs(model)
        for value in graph.initializers.values()
        if not value.is_graph_input() and not value.is_graph_output() and _DECLARED not in value.meta
    ]
    for value, _, _ in hidden:
        value.type = value.shape = None
    try:
        yield
    finally:
        for value, kind, shape in hidden:
            value.type, value.shape = kind, shape


# --- from proto to model ----------------------------------------------------------------------------------------------


def _deserialize(proto: onnx.ModelProto, folder: ExternalFolder, held: Mapping[str, EncodedAttr]) -> oir.Model:
    intake = Intake(folder)
    remarks: list[Diagnostic] = []
    try:
        _check_versions(proto, folder.file)
        intake.examine(proto)
        model = oir.from_proto(proto)
        _complete(model, proto)
        adopt(model, held)
        for value in (*model.graph.inputs, *model.graph.outputs):
            if value.name in intake.interface_types:
                value.meta[INTERFACE_TYPE] = intake.interface_types[value.name].SerializeToString(deterministic=True)
    except (oir.serde.SerdeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        message = f"the model is malformed: {_root_cause(error)}"
        raise ModelError(Diagnostic("model-malformed", message, Location(file=folder.file))) from error
    if model.ir_version < 4:
        _raise_ir_version(model, remarks, folder.file)
    for loss in intake.losses:
        message = f"the optimizer's form cannot hold {loss}: the model is passed on unchanged"
        where = Location(file=folder.file)
        remarks.append(Diagnostic("not-representable", message, where, severity=Severity.REMARK))
    model.graph.meta[_REMARKS] = tuple(remarks)
    model.graph.meta[_LOSSES] = tuple(intake.losses)
    model.graph.meta[_DATA_FILES] = tuple(intake.data_files)
    stamp_versions(model)
    return model


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} …"


def _check_versions(proto: onnx.ModelProto, file: str) -> None:
    newer = f"onnx {onnx.__version__} is installed; a newer one may know it"
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        message = f"IR version {proto.ir_version} is not supported (1 to {onnx.IR_VERSION} are)"
        fail("ir-version-unsupported", message, file, newer if proto.ir_version > 0 else "")
    known = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    if proto.ir_version < 3 and not proto.opset_import:
        proto.opset_import.add(domain="", version=1)  # what the standard says for files older than opset imports
    for owner in (proto, *proto.functions):
        seen: dict[str, int] = {}
        for entry in owner.opset_import:
            if entry.domain == "ai.onnx":  # the default domain's other name: one key for it, as onnx-ir does on nodes
                entry.domain = ""
            if seen.setdefault(entry.domain, entry.version) != entry.version:
                fail("opset-ambiguous", f"two versions of domain {entry.domain!r} are imported", file)
            if entry.version < 1 or entry.version > known.get(entry.domain, entry.version):
                message = f"opset {entry.version} of domain {entry.domain or 'ai.onnx'!r} is not supported"
                fail("opset-unsupported", message, file, newer if entry.version > 0 else "")


def _complete(model: oir.Model, proto: onnx.ModelProto) -> None:
    """Add what onnx-ir drops, and undo what it doubles."""
    pending = [(model.graph, proto.graph)]
    for function, written in zip(model.functions.values(), proto.functions, strict=True):
        declared = {info.name: info for info in written.value_info}
        for value in function.inputs:
            if value.name in declared:
                oir.serde.deserialize_value_info_proto(declared[value.name], value)
        pending += _bodies(function.graph, written.node)
    while pending:
        graph, source = pending.pop()
        for info in source.value_info:
            if info.name in graph.initializers:
                graph.initializers[info.name].meta[_DECLARED] = True
        pending += _bodies(graph, source.node)
        for value in graph.initializers.values():
            _write_metadata_once(value.const_value)


def _bodies(graph: oir.Graph, protos: Iterable[onnx.NodeProto]) -> Iterator[tuple[oir.Graph, onnx.GraphProto]]:
    for node, proto in zip(graph, protos, strict=True):
        for written in proto.attribute:
            attribute = node.attributes[written.name]
            if attribute.is_ref():
                continue
            if attribute.type == oir.AttributeType.GRAPH:
                yield attribute.as_graph(), written.g
            elif attribute.type == oir.AttributeType.GRAPHS:
                yield from zip(attribute.as_graphs(), written.graphs, strict=True)
            elif attribute.type == oir.AttributeType.TENSOR:
                _write_metadata_once(attribute.as_tensor())


def _write_metadata_once(tensor: oir.TensorProtocol | None) -> None:
    """onnx-ir writes the metadata of a tensor that came from a proto twice: from the proto and from its copy."""
    if isinstance(tensor, oir.serde.TensorProtoTensor) and tensor.raw.metadata_props:
        del tensor.raw.metadata_props[:]


def _raise_ir_version(model: oir.Model, remarks: list[Diagnostic], file: str) -> None:
    """Lift a model below IR version 4 to it.

    Before, every initializer had to be an input, and ONNX Runtime treats it as a constant there; from 4 on, one that is
    an input may be overridden. So they leave the inputs: those of the main graph and of If, and those of loop bodies
    beyond what the loop feeds.
    """
    fed = {id(model.graph): 0}
    for graph in graphs(model):
        for node in graph:
            fed.update((id(body), 0 if node.op_type == "If" else len(node.inputs)) for body in subgraphs_of(node))
        inputs, first = list(graph.inputs), fed.get(id(graph), len(graph.inputs))
        kept = [value for index, value in enumerate(inputs) if index < first or not value.is_initializer()]
        if len(kept) == len(inputs):
            continue
        graph.inputs.clear()
        graph.inputs.extend(kept)
        message = f"{len(inputs) - len(kept)} initializers that were also inputs are constants now"
        where = Location(file=file, graph=graph.name or "")
        remarks.append(Diagnostic("ir-version-raised", message, where, severity=Severity.REMARK))
    message = f"IR version {model.ir_version} was raised to 4, the oldest in which constants need not be inputs"
    remarks.append(Diagnostic("ir-version-raised", message, Location(file=file), severity=Severity.REMARK))
    model.ir_version = 4
