"""Large list attributes, kept as the bytes that the file has for them.

A random forest is one node whose attributes list every node of every tree. As Python's numbers and strings they take
fifty times the space of the file (185 MB: 8.5 GB and 110 s). No rule looks inside such a list, so it stays encoded:
before protobuf reads a model, large lists are cut out of its bytes, and they are pasted into the bytes that are
written. In between, a string attribute with a token that no file can know stands in their place.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import onnx
import onnx_ir as oir
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from ..traversal import graphs
from .decode_proto import DEEPEST, PROTOBUF_LIMIT, WAY, WireError, fail, fields

LARGE: Final = 1 << 20
"""Bytes from which on a list attribute stays encoded."""

_LISTS = {
    onnx.AttributeProto.INTS: oir.AttributeType.INTS,
    onnx.AttributeProto.FLOATS: oir.AttributeType.FLOATS,
    onnx.AttributeProto.STRINGS: oir.AttributeType.STRINGS,
}
_TOKEN = secrets.token_hex(16)
Chunk = bytes | memoryview


class EncodedAttr(oir.Attr):
    """A list attribute as the bytes of its `AttributeProto`; `value` decodes them anew each time it is asked for."""

    __slots__ = ("encoded",)

    def __init__(self, name: str, kind: oir.AttributeType, encoded: bytes) -> None:
        super().__init__(name, kind, None)
        self.encoded = encoded

    @property
    def value(self) -> Any:
        """The list as a tuple of Python's numbers or strings: some fifty times as large as `encoded`."""
        return oir.serde.deserialize_attribute(onnx.AttributeProto.FromString(self.encoded)).value

    def digest(self) -> bytes:
        """32 bytes that are equal for equal encodings; remembered."""
        known: bytes | None = self.meta.get("digest")
        if known is None:
            self.meta["digest"] = known = hashlib.blake2b(self.encoded, digest_size=32).digest()
        return known

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EncodedAttr):
            return self.name == other.name and self.encoded == other.encoded
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as that of every attribute

    def __str__(self) -> str:
        return f"{self.type.name} of {len(self.encoded):,} bytes"

    def __repr__(self) -> str:
        return f"EncodedAttr({self.name!r}, {self})"


def is_encoded(node: oir.Node) -> bool:
    """Whether an attribute of `node` is kept encoded."""
    return any(isinstance(attribute, EncodedAttr) for attribute in node.attributes.data.values())


def encoded_bytes(model: oir.Model) -> int:
    """Bytes of all attributes of a model that are kept encoded."""
    return sum(len(attribute.encoded) for _, attribute in _encoded(model))


# --- in the bytes of a model ------------------------------------------------------------------------------------------


def cut_out(data: bytes) -> tuple[bytes, dict[str, EncodedAttr]]:
    """The bytes of a model without its large list attributes, and what was cut out, by the token in its place.

    What is not well-formed stays, for protobuf to tell what is wrong with it.
    """
    held: dict[str, EncodedAttr] = {}

    def change(encoded: memoryview) -> bytes | None:
        attribute = _read(bytes(encoded))
        if attribute is None:
            return None
        token = f"{_TOKEN}:{len(held)}"
        held[token] = attribute
        return _placeholder(attribute.name, token)

    if len(data) < LARGE:
        return data, held
    try:
        chunks = _rewritten(memoryview(data), "model", 0, len(data), change, LARGE)
    except WireError:
        return data, {}
    return (data if chunks is None else b"".join(chunks)), held


def pasted(data: bytes, held: Mapping[str, EncodedAttr]) -> list[Chunk]:
    """The bytes of a model, in pieces, with what stands in `held` in the place of its token.

    Raises ModelError when they are more than protobuf allows.
    """
    if not held:
        return [data]

    def change(encoded: memoryview) -> bytes | None:
        proto = onnx.AttributeProto.FromString(encoded)
        found = held.get(proto.s.decode(errors="replace")) if proto.type == onnx.AttributeProto.STRING else None
        return None if found is None else found.encoded

    chunks = _rewritten(memoryview(data), "model", 0, len(data), change, len(_TOKEN)) or [data]
    if sum(map(len, chunks)) > PROTOBUF_LIMIT:
        fail("file-too-large", "the model cannot be serialized: its attributes are larger than protobuf allows")
    return chunks


def has_large_lists(nodes: Iterable[onnx.NodeProto]) -> bool:
    """Whether nodes of a proto may have attributes that `cut_out` takes: 16 bytes are more than most elements need."""
    return any(
        max(len(each.ints), len(each.floats), len(each.strings)) * 16 >= LARGE
        for node in nodes
        for each in node.attribute
        if each.type in _LISTS
    )


def _read(encoded: bytes) -> EncodedAttr | None:
    """The attribute in `encoded`, or None where it is no list, or one that this form would change."""
    try:
        proto = onnx.AttributeProto.FromString(encoded)
    except DecodeError:
        return None
    kind = _LISTS.get(proto.type)
    others = {each.name for each, _ in proto.ListFields()} - {"name", "type", "doc_string"}
    if kind is None or others != {kind.name.lower()} or len(UnknownFieldSet(proto)):
        return None
    if bytes in (type(proto.name), type(proto.doc_string)):
        return None
    if kind == oir.AttributeType.STRINGS:
        try:
            for text in proto.strings:
                text.decode()
        except UnicodeDecodeError:
            return None
    return EncodedAttr(proto.name, kind, encoded)


def _placeholder(name: str, token: str) -> bytes:
    proto = onnx.AttributeProto(name=name, type=onnx.AttributeProto.STRING, s=token.encode())
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _rewritten(  # noqa: PLR0913  # a recursion over a range of bytes
    data: memoryview,
    kind: str,
    start: int,
    end: int,
    change: Callable[[memoryview], bytes | None],
    least: int,
    depth: int = 0,
) -> list[Chunk] | None:
    """The message from `start` to `end`, in pieces, with `change(attribute)` for attributes of at least `least` bytes.

    None where nothing changes. Lengths of the messages around are written anew. Raises WireError.
    """
    chunks: list[Chunk] = []
    copied = start
    for number, header, at, stop in fields(data, start, end):
        inner = WAY[kind].get(number)
        if inner is None or stop - at < least or stop > end or depth > DEEPEST:
            continue
        made: list[Chunk] | None = None
        if inner == "attribute" and (content := change(data[at:stop])) is not None:
            made = [content]
        if made is None:
            made = _rewritten(data, inner, at, stop, change, least, depth + 1)
        if made is not None:
            chunks += [data[copied:header], _varint(number << 3 | 2), _varint(sum(map(len, made))), *made]
            copied = stop
    return [*chunks, data[copied:end]] if chunks else None


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


# --- in the in-memory form --------------------------------------------------------------------------------------------


def adopt(model: oir.Model, held: Mapping[str, EncodedAttr]) -> None:
    """Put what was cut out into a model that was read from the bytes that were left."""
    if not held:
        return
    for graph in graphs(model):
        for node in graph:
            for attribute in list(node.attributes.values()):
                if attribute.type == oir.AttributeType.STRING and not attribute.is_ref():
                    found = held.get(attribute.as_string())
                    if found is not None:
                        node.attributes.add(found)


@contextmanager
def set_aside(model: oir.Model) -> Iterator[dict[str, EncodedAttr]]:
    """The attributes that are kept encoded, by the tokens that stand in their place while the context lasts."""
    held: dict[str, EncodedAttr] = {}
    places = list(_encoded(model))
    for node, attribute in places:
        token = f"{_TOKEN}:{len(held)}"
        held[token] = attribute
        node.attributes.add(oir.AttrString(attribute.name, token))
    try:
        yield held
    finally:
        for node, attribute in places:
            node.attributes.add(attribute)


def _encoded(model: oir.Model) -> Iterator[tuple[oir.Node, EncodedAttr]]:
    for graph in graphs(model):
        for node in graph:
            for attribute in list(node.attributes.data.values()):
                if isinstance(attribute, EncodedAttr):
                    yield node, attribute
