"""Writing a model: beside its place first, so that the very file that will be delivered can be verified before.

Saving over the input with external data is three steps that leave a loadable model after each: the data under a name
that follows from its content, then the .onnx renamed into place, then the old data removed, if this package wrote it
for that very file (the replaced model says so in its metadata) and no other file in the folder names it.
"""

from __future__ import annotations

import errno
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO, Final

import onnx
import onnx_ir as oir

from ..diagnostics import Diagnostic, EnvironmentSetupError, Location, ModelError
from ..fingerprint import CHUNK, digest
from ..traversal import graphs
from .decode_proto import parse
from .encoded_attributes import Chunk
from .external_data import all_tensors, content_bytes, in_memory, substitute, substituted, tensors_of
from .load import data_files, to_chunks

SINGLE_FILE_LIMIT: Final = 1900 << 20
"""Bytes of weights up to which a model stays one file; protobuf ends at 2 GiB."""

DATA_KEY: Final = "optimize_graph.data"
"""The metadata key of a model that names the file of external data that was written for it."""

_EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in the .onnx, where shape inference can read them
_PAGED_FROM, _PAGE, _ALIGNED = 64 << 10, 4096, 64
_SCANNED_UP_TO = 100 << 20


@dataclass
class Staged:
    """A model that is written and loadable at `path`, but not yet in its place: `commit` or `discard` it.

    Leaving it as a context manager without a commit discards it.
    """

    path: Path
    target: Path
    data: tuple[Path, ...] = ()
    _made: tuple[Path, ...] = ()  # those of `data` that were not there before
    _adopt: Callable[[], None] = field(default=lambda: None, repr=False)
    _open: bool = True

    def commit(self) -> None:
        """Rename into place, then remove the external data that was written for the replaced model alone.

        A model in memory that reads removed data reads the new data from then on; clones of it must be loaded again.
        Raises MachineError when the file cannot be renamed; nothing is left then.
        """
        old = _own_data(self.target)
        with _cleaning(self.discard, self.target):
            if self.target.exists():
                shutil.copymode(self.target, self.path)
            self.path.replace(self.target)
        self._open = False
        stale = [self.target.parent / name for name in old]
        stale = [path for path in stale if path not in self.data and _is_removable(path, self.target)]
        if stale:
            self._adopt()
        for path in stale:
            with suppress(OSError):  # the model is delivered; a file too many is no failure
                path.unlink()

    def discard(self) -> None:
        """Remove everything that was written. Does nothing after a commit."""
        if not self._open:
            return
        self._open = False
        for path in (self.path, *self._made):
            path.unlink(missing_ok=True)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def save(model: oir.Model, path: str | PathLike[str]) -> None:
    """Write the model to `path`, at once or not at all (see `stage`)."""
    stage(model, path).commit()


def stage(model: oir.Model, path: str | PathLike[str], *, single_file_limit: int = SINGLE_FILE_LIMIT) -> Staged:
    """Write the model beside `path`.

    Weights go to external data when the model was loaded with such data or has more than `single_file_limit` bytes of
    them. Raises ModelError when the model cannot be written, MachineError when the place cannot be written to.
    """
    target = _checked(path)
    tensors = all_tensors(model)
    external = bool(data_files(model)) or any(isinstance(tensor, oir.ExternalTensor) for tensor in tensors)
    if not external and content_bytes(model) <= single_file_limit:
        staged = Staged(_beside(target), target)
        with _cleaning(staged.discard, target), _noted(model, ""):
            _write(staged.path, to_chunks(model))
        return staged
    with _cleaning(lambda: None, target):
        layout = _Layout.of(model, target.stem)
    if not layout.size:
        return _staged(layout.to_chunks(model), target)
    data = target.parent / layout.name
    staged = Staged(
        _beside(target), target, (data,), () if data.exists() else (data,), lambda: layout.adopt(model, data)
    )
    with _cleaning(staged.discard, target):
        _place(data, layout.write)
        _write(staged.path, layout.to_chunks(model))
    return staged


def stage_bytes(data: bytes, path: str | PathLike[str]) -> Staged:
    """Write the bytes of a model that needs no external data beside `path`."""
    return _staged([data], _checked(path))


def _staged(chunks: Iterable[Chunk], target: Path) -> Staged:
    staged = Staged(_beside(target), target)
    with _cleaning(staged.discard, target):
        _write(staged.path, chunks)
    return staged


def stage_unchanged(source: str | PathLike[str], path: str | PathLike[str], files: Sequence[str] = ()) -> Staged:
    """Copy a model file byte for byte beside `path`, with its external data (`files`: see `data_files`).

    Raises MachineError when another file has the place of the external data.
    """
    origin, target = Path(fspath(source)), _checked(path)
    moved = [] if origin.parent.resolve() == target.parent.resolve() else list(files)
    data = tuple(target.parent / name for name in files)
    made = tuple(target.parent / name for name in moved if not (target.parent / name).exists())
    staged = Staged(_beside(target), target, data, made)
    with _cleaning(staged.discard, target):
        for name in moved:
            place = target.parent / name
            if place in made:
                place.parent.mkdir(parents=True, exist_ok=True)
                _place(place, _copy_of(origin.parent / name))
            elif not _same_content(place, origin.parent / name):
                message = f"the external data {name!r} would replace another file"
                raise EnvironmentSetupError(Diagnostic("output-data-exists", message, Location(file=str(place))))
        _place(staged.path, _copy_of(origin))
    return staged


# --- where and how ----------------------------------------------------------------------------------------------------


def _checked(path: str | PathLike[str]) -> Path:
    target = Path(fspath(path))
    where = Location(file=str(target))
    if target.is_dir():
        raise EnvironmentSetupError(Diagnostic("output-not-a-file", "is a folder", where, "name a file in it"))
    if target.exists() and not target.is_file():
        raise EnvironmentSetupError(Diagnostic("output-not-a-file", "is not a regular file", where))
    if not target.parent.is_dir():
        raise EnvironmentSetupError(
            Diagnostic("output-folder-missing", "the folder does not exist", where, "create it first")
        )
    return target


def _beside(target: Path) -> Path:
    """A new name in the same folder, so that renaming is atomic and relative external data is found."""
    return target.parent / f".{target.stem}.{secrets.token_hex(4)}.onnx"


@contextmanager
def _cleaning(clean: Callable[[], None], target: Path) -> Iterator[None]:
    """Clean up when something goes wrong; failures of the disk become errors for people."""
    where = Location(file=str(target))
    try:
        yield
    except OSError as error:
        clean()
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                finding = Diagnostic("disk-full", f"cannot be written: {error.strerror}", where, "nothing was left")
            case errno.EACCES | errno.EPERM | errno.EROFS:
                finding = Diagnostic("output-not-writable", f"cannot be written: {error.strerror}", where)
            case _:
                finding = Diagnostic("output-failed", f"cannot be written: {error.strerror or error}", where)
        raise EnvironmentSetupError(finding) from error
    except BaseException:
        clean()
        raise


def _write(path: Path, chunks: Iterable[Chunk]) -> None:
    with path.open("xb") as file:
        file.writelines(chunks)


def _place(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file under a temporary name, then rename it."""
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        with part.open("xb") as file:
            write(file)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _copy_of(origin: Path) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        with origin.open("rb") as source:
            shutil.copyfileobj(source, file, CHUNK)

    return write


def _same_content(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(CHUNK):
            if piece != second.read(CHUNK):
                return False
    return True


# --- external data ----------------------------------------------------------------------------------------------------


@dataclass
class _Layout:
    """Which tensor lies where in the file of external data. Equal contents lie there once."""

    name: str = ""
    size: int = 0
    places: dict[bytes, tuple[int, oir.TensorProtocol]] = field(default_factory=dict)  # by digest: offset, tensor

    @classmethod
    def of(cls, model: oir.Model, stem: str) -> _Layout:
        layout = cls()
        for graph in graphs(model):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    layout._add(value.const_value)
            for attribute in (attribute for node in graph for attribute in node.attributes.values()):
                for tensor in tensors_of(attribute):
                    if isinstance(tensor, oir.ExternalTensor):  # what stood in the .onnx stays there
                        layout._add(tensor)
        content = hashlib.blake2b(digest_size=8)
        for key, (offset, _) in layout.places.items():
            content.update(offset.to_bytes(8, "little") + key)
        layout.name = f"{stem}.{content.hexdigest()}.data"
        return layout

    def _add(self, tensor: oir.TensorProtocol) -> None:
        if tensor.dtype == oir.DataType.STRING or tensor.nbytes <= _EXTERNAL_FROM:
            return
        key = digest(tensor)
        if key not in self.places:
            step = _PAGE if tensor.nbytes > _PAGED_FROM else _ALIGNED
            offset = -(-self.size // step) * step
            self.places[key] = offset, tensor
            self.size = offset + tensor.nbytes

    def write(self, file: BinaryIO) -> None:
        for offset, tensor in self.places.values():
            file.seek(offset)
            if isinstance(tensor, oir.ExternalTensor):
                tensor.tofile(file)  # in the kernel where it can, else in pieces
            else:
                file.write(tensor.tobytes())

    def to_chunks(self, model: oir.Model) -> list[Chunk]:
        """The bytes of the model with references to the data file, made without a copy of the weights."""
        with (
            substituted(model, lambda tensor: self._reference(tensor, self.name)),
            _noted(model, self.name if self.size else ""),
        ):
            return to_chunks(model)

    def adopt(self, model: oir.Model, data: Path) -> None:
        """Let the model in memory read the file that was written."""
        substitute(model, lambda tensor: self._reference(tensor, str(data.absolute())))

    def _reference(self, tensor: oir.TensorProtocol, location: str) -> oir.TensorProtocol:
        if tensor.dtype == oir.DataType.STRING or tensor.nbytes <= _EXTERNAL_FROM:
            return in_memory(tensor)
        offset, _ = self.places[digest(tensor)]
        return oir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=oir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )


@contextmanager
def _noted(model: oir.Model, data: str) -> Iterator[None]:
    """Note in the metadata, while it is written, the data file that belongs to it; with "", no older note either."""
    before = dict(model.metadata_props)
    model.metadata_props.pop(DATA_KEY, None)
    if data:
        model.metadata_props[DATA_KEY] = data
    try:
        yield
    finally:
        model.metadata_props.clear()
        model.metadata_props.update(before)


# --- what a replaced model leaves behind ------------------------------------------------------------------------------


def _own_data(path: Path) -> tuple[str, ...]:
    """The external data that was written for the model at `path` and that it refers to; nothing when in doubt."""
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _SCANNED_UP_TO:
            return ()
        proto = parse(path.read_bytes())
    except (OSError, ModelError):
        return ()
    own = {entry.value for entry in proto.metadata_props if entry.key == DATA_KEY}
    if not own:
        return ()
    found: dict[str, None] = {}
    pending = [proto.graph]
    protos = [list(function.node) for function in proto.functions]
    while pending or protos:
        tensors: list[onnx.TensorProto] = []
        if pending:
            graph = pending.pop()
            tensors += graph.initializer
            nodes: Sequence[onnx.NodeProto] = graph.node
        else:
            nodes = protos.pop()
        for attribute in (attribute for node in nodes for attribute in node.attribute):
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
            pending += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for tensor in tensors:
            found.update((entry.value, None) for entry in tensor.external_data if entry.key == "location")
    return tuple(name for name in found if name in own and name.startswith(f"{path.stem}."))  # not a copy's original


def _is_removable(path: Path, target: Path) -> bool:
    """Whether `path` is a file of the same folder, with one name, that no other file there names, nor a model above.

    Models have any suffix, and scripts name data, too. Files too large to be read quickly count where they are models.
    """
    folder = target.parent
    if path.parent != folder or path.is_symlink() or not path.is_file() or path == target:
        return False
    name = path.name.encode()
    try:
        if path.stat().st_nlink > 1:
            return False
        others = [other for other in folder.iterdir() if other != path and _may_name_data(other)]
    except OSError:
        return False
    above = folder.resolve().parent.glob("*.onnx")
    return not any(_mentions(other, name) for other in (*others, *above))


def _may_name_data(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".onnx" or path.stat().st_size <= _SCANNED_UP_TO)


def _mentions(path: Path, name: bytes) -> bool:
    """Whether the bytes of `path` contain `name`; a file that cannot be read counts as if it did."""
    try:
        with path.open("rb") as file:
            tail = b""
            while piece := file.read(CHUNK):
                if name in tail + piece:
                    return True
                tail = piece[-len(name) :]
    except OSError:
        return True
    return False
