"""External data: where a tensor's content lies on disk, checked before anything opens it.

onnx and onnx-ir refuse hard links, which uv and conda make, and read past the end of what a tensor declares; so the
checks are made here, once, and the tensor gets the absolute place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as oir

from ..diagnostics import Location
from ..traversal import graphs
from .decode_proto import fail
from .encoded_attributes import encoded_bytes


@dataclass(frozen=True)
class ExternalFolder:
    """The folder that external data must lie in, and how links are treated. Raises ModelError from `resolve`."""

    folder: Path | None
    file: str = ""
    follow_symlinks: bool = False

    def resolve(self, proto: onnx.TensorProto, nbytes: int) -> str:
        """Rewrite the reference of `proto` to its absolute place; the name of the file as the model wrote it."""
        where = Location(file=self.file, value=proto.name)
        entries: dict[str, str] = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
        path = self._checked(location, where)
        offset, length = _number(entries, "offset", 0, where), _number(entries, "length", nbytes, where)
        if length < nbytes:
            message = f"external data of {length} bytes is declared for a tensor that needs {nbytes}"
            fail("external-data-too-short", message, where)
        size = path.stat().st_size
        if offset + max(length, nbytes) > size:
            message = f"the external data {location!r} has {size} bytes; the tensor lies at {offset} + {length}"
            fail("external-data-too-short", message, where, "the file is incomplete or belongs to another model")
        del proto.external_data[:]
        for key, value in (("location", str(path)), ("offset", str(offset)), ("length", str(nbytes))):
            proto.external_data.add(key=key, value=value)
        return location

    def _checked(self, location: str, where: Location) -> Path:
        if self.folder is None:
            hint = "load it from its file"
            fail("external-data-missing", "the model has external data, but no folder to look in", where, hint)
        if not location or "\0" in location:
            fail("external-data-missing", "no file is named for the external data", where)
        outside = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if outside or ".." in PurePosixPath(location.replace("\\", "/")).parts:
            message = f"the external data {location!r} lies outside the folder of the model"
            fail("external-data-outside", message, where, "it must be named relative to the model, without `..`")
        path = self.folder
        for part in PurePosixPath(location).parts:
            path = path / part
            if not self.follow_symlinks and path.is_symlink():
                message = f"the external data {location!r} is, or lies behind, a symbolic link"
                fail("link-refused", message, where, "--follow-symlinks allows it")
        try:
            if not path.is_file():
                fail("external-data-missing", f"the external data {location!r} is not there", where, str(path))
            with path.open("rb"):
                pass
        except OSError as error:
            fail("external-data-not-readable", f"the external data {location!r}: {error.strerror}", where)
        return path.absolute()


def _number(entries: dict[str, str], key: str, default: int, where: Location) -> int:
    text = entries.get(key, "")
    if text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        fail("external-data-malformed", f"the external data's {key} is {text[:40]!r}", where)
    return int(text)


# --- the tensors of a model in memory ---------------------------------------------------------------------------------


def content_bytes(model: oir.Model) -> int:
    """Bytes of all tensors of a model, wherever they lie, and of its large list attributes."""
    return sum(tensor.nbytes for tensor in all_tensors(model)) + encoded_bytes(model)


def all_tensors(model: oir.Model) -> list[oir.TensorProtocol]:
    """The content of every initializer and tensor attribute, in the order of the model."""
    found: list[oir.TensorProtocol] = []
    for graph in graphs(model):
        found += [value.const_value for value in graph.initializers.values() if value.const_value is not None]
        for node in graph:
            for attribute in node.attributes.values():
                found += tensors_of(attribute)
    return found


def tensors_of(attribute: oir.Attr) -> Sequence[oir.TensorProtocol]:
    """The tensors that an attribute holds."""
    if attribute.is_ref():
        return ()
    if attribute.type == oir.AttributeType.TENSOR:
        return (attribute.as_tensor(),)
    return attribute.as_tensors() if attribute.type == oir.AttributeType.TENSORS else ()


def substitute(
    model: oir.Model, change: Callable[[oir.TensorProtocol], oir.TensorProtocol]
) -> list[Callable[[], object]]:
    """Put `change(tensor)` for each initializer, and for attributes that hold external data; what undoes it."""
    undo: list[Callable[[], object]] = []
    for graph in graphs(model):
        for value in graph.initializers.values():
            old = value.const_value
            if old is not None and (new := change(old)) is not old:
                value.const_value = new
                undo.append(partial(setattr, value, "const_value", old))
        for node in graph:
            for attribute in list(node.attributes.values()):
                held = tensors_of(attribute)
                if not any(isinstance(tensor, oir.ExternalTensor) for tensor in held):
                    continue
                made = [change(tensor) for tensor in held]
                content = made[0] if attribute.type == oir.AttributeType.TENSOR else made
                node.attributes[attribute.name] = oir.Attr(
                    attribute.name, attribute.type, content, doc_string=attribute.doc_string
                )
                undo.append(partial(node.attributes.add, attribute))
    return undo


@contextmanager
def substituted(model: oir.Model, change: Callable[[oir.TensorProtocol], oir.TensorProtocol]) -> Iterator[None]:
    """The same for as long as the context lasts."""
    undo = substitute(model, change)
    try:
        yield
    finally:
        for step in undo:
            step()


def in_memory(tensor: oir.TensorProtocol) -> oir.TensorProtocol:
    """The tensor itself, or the content of external data read into memory."""
    if not isinstance(tensor, oir.ExternalTensor):
        return tensor
    with Path(tensor.path).open("rb") as file:
        file.seek(tensor.offset or 0)
        content = file.read(tensor.nbytes)
    proto = onnx.TensorProto(name=tensor.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    proto.raw_data, proto.doc_string = content, tensor.doc_string or ""
    read = oir.serde.TensorProtoTensor(proto)
    read.metadata_props.update(tensor.metadata_props)
    return read
