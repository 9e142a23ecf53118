"""From the bytes of a file to a `ModelProto`; whatever is no ONNX model is told what it looks like instead."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import onnx
from google.protobuf.message import DecodeError

from ..diagnostics import Diagnostic, Location, ModelError

PROTOBUF_LIMIT = 2**31 - 1
"""The most bytes that protobuf reads or writes as one message."""

DEEPEST = 100  # messages inside messages that protobuf's decoder follows
_SIGNATURES = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch's .pt and .pth, Keras and NumPy's .npz are"),
    (0, b"\x80\x02", "a Python pickle, as old PyTorch files are"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x89HDF", "an HDF5 file, as Keras .h5 files are"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in ONNX Runtime's own .ort format"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded (`git lfs pull`)"),
    (8, b'{"', "a safetensors file"),
    (0, b"\x7fELF", "a program"),
)


def fail(code: str, message: str, where: Location | str = "", hint: str = "") -> NoReturn:
    """Raise a ModelError; `where` may be just the name of the file."""
    place = Location(file=where) if isinstance(where, str) else where
    raise ModelError(Diagnostic(code, message, place, hint))


def read_bytes(path: Path, *, follow_symlinks: bool) -> bytes:
    """The content of a regular file. Raises ModelError when there is none, or when it is a link that is refused."""
    name = str(path)
    try:
        if path.is_symlink() and not follow_symlinks:
            fail("link-refused", "the model is a symbolic link", name, "--follow-symlinks allows it")
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            inside = sorted(each.name for each in path.glob("*.onnx"))[:3]
            fail("not-a-file", "is a folder", name, f"name the model in it: {', '.join(inside)}" if inside else "")
        if not stat.S_ISREG(status.st_mode):
            fail("not-a-file", "is not a regular file", name)
        if status.st_size == 0:
            fail("file-empty", "is empty", name)
        if status.st_size > PROTOBUF_LIMIT:
            hint = "weights beyond that size are kept in a file of external data beside the model"
            fail("file-too-large", "is larger than the 2 GiB that an ONNX file may have", name, hint)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        fail(*_access_problem(error), name)


def _access_problem(error: OSError | ValueError) -> tuple[str, str]:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENOTDIR:
            return "file-not-found", "there is no such file"
        case errno.EACCES | errno.EPERM:
            return "file-not-readable", "may not be read: permission denied"
        case errno.ELOOP:
            return "link-refused", "is a link that leads to itself"
        case _:
            return "file-not-readable", f"cannot be read: {getattr(error, 'strerror', None) or error}"


def parse(data: bytes, name: str = "") -> onnx.ModelProto:
    """The message in `data`. Raises ModelError saying what the bytes look like when they are no ONNX model."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        _explain(data, name)
    if not proto.HasField("graph") or not proto.HasField("ir_version"):
        _explain(data, name)
    return proto


def _explain(data: bytes, name: str) -> NoReturn:
    looks = _looks_like(data[:512])
    if looks:
        fail("not-onnx", f"is not an ONNX model: it looks like {looks}", name)
    if _ends_early(data):
        fail("file-truncated", "ends in the middle of the model", name, "copy or download it again")
    if _depth(data) > DEEPEST:
        hint = "as many as ONNX Runtime and onnx read, too"
        fail("nested-too-deeply", "graphs lie inside graphs more than 32 levels deep", name, hint)
    fail("not-onnx", "is not an ONNX model, or is damaged", name)


def _looks_like(head: bytes) -> str:
    for offset, signature, what in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return what
    if head.lstrip()[:1] == b"<":
        return "HTML or XML, perhaps the page of a failed download"
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start >= len(head) - 3 else ""
    return "text" if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text) else ""


# --- the wire format: tag and value, after https://protobuf.dev/programming-guides/encoding ---------------------------


class WireError(Exception):
    """The bytes do not follow the wire format."""


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise WireError


def fields(data: bytes | memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The number of each length-delimited field, and where its tag, its content and what follows it start.

    What follows may start beyond `end`. Raises WireError.
    """
    while at < end:
        header = at
        tag, at = _varint(data, at, end)
        match tag & 7:
            case 0:
                _, at = _varint(data, at, end)
            case 1:
                at += 8
            case 2:
                length, at = _varint(data, at, end)
                yield tag >> 3, header, at, at + length
                at += length
            case 5:
                at += 4
            case _:
                raise WireError
    if at > end:
        raise WireError


def _ends_early(data: bytes) -> bool:
    """Whether a file that begins as a model (field 1 is its IR version) announces more bytes than it has."""
    if data[:1] != b"\x08":
        return False
    try:
        return any(end > len(data) for _, _, _, end in fields(data, 0, len(data)))
    except WireError:
        return len(data) < 64


# model.graph or model.functions, then graph.node, node.attribute, attribute.g or attribute.graphs, and so on
WAY = {"model": {7: "graph", 25: "function"}, "graph": {1: "node"}, "function": {7: "node"}} | {
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}


def _depth(data: bytes) -> int:
    """How deep messages are nested, counted no further than is needed to say that it is too deep."""
    deepest, pending = 0, [("model", 0, len(data), 1)]
    while pending and deepest <= DEEPEST:
        kind, start, end, depth = pending.pop()
        deepest = max(deepest, depth)
        try:
            inner = [
                (WAY[kind][n], at, stop, depth + 1) for n, _, at, stop in fields(data, start, end) if n in WAY[kind]
            ]
        except WireError:
            continue
        pending += [each for each in inner if each[2] <= end]
    return deepest
