"""Facts about one value that need no analysis: is it constant, overridable, private, public.

Types and shapes that are *inferred* are not here: a value carries what the file declares, and the declared may be
false for outputs. The analysis `Shapes` in `passes` holds what is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import onnx_ir as oir

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

INTERFACE_TYPE = "optimize_graph.type"
"""Metadata of an input or output: the serialized type that onnx-ir cannot hold."""


def is_overridable(value: oir.Value) -> bool:
    """Whether the caller of the model may replace this initializer: it is also a graph input (ONNX IR 4 and later).

    `load` takes the initializers of older files out of the inputs, since ONNX Runtime treats them as constants there.
    """
    return value.is_initializer() and value.is_graph_input()


def constant_tensor(value: oir.Value | None) -> oir.TensorProtocol | None:
    """The tensor of a constant: an initializer that is no input, or the result of a Constant node."""
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain != "" or len(node.attributes) != 1:
        return None
    (attribute,) = node.attributes.values()
    if attribute.is_ref():
        return None
    match attribute.name:
        case "value":
            return attribute.value if attribute.type is oir.AttributeType.TENSOR else None
        case "value_int":
            return oir.tensor(np.array(attribute.as_int(), dtype=np.int64))
        case "value_ints":
            return oir.tensor(np.array(attribute.as_ints(), dtype=np.int64))
        case "value_float":
            return oir.tensor(np.array(attribute.as_float(), dtype=np.float32))
        case "value_floats":
            return oir.tensor(np.array(attribute.as_floats(), dtype=np.float32))
        case _:
            return None  # strings and sparse tensors are left alone


def is_constant(value: oir.Value | None) -> bool:
    """Whether `value` has one known content that no caller can override."""
    return constant_tensor(value) is not None


def constant(value: oir.Value | None) -> Array | None:
    """The content of a constant as a read-only view (weights on disk stay there, mapped), else None."""
    tensor = constant_tensor(value)
    if tensor is None:
        return None
    if isinstance(tensor, oir.StringTensor):  # as bytes of one length, NumPy would drop the zeros at their ends
        texts = np.empty(tensor.size, dtype=object)
        texts[:] = list(tensor.string_data())
        return texts.reshape(tensor.shape.numpy())
    content = np.asarray(tensor.numpy()).view()
    content.flags.writeable = False
    return content


def scalar(value: oir.Value | None) -> float | int | bool | None:
    """The number in a constant that holds exactly one element (of any rank), else None."""
    tensor = constant_tensor(value)
    if tensor is None or tensor.size != 1 or tensor.dtype == oir.DataType.STRING:
        return None
    number = np.asarray(tensor.numpy()).reshape(()).item()
    return number if isinstance(number, (bool, int, float)) else None


def is_public(value: oir.Value) -> bool:
    """Whether the name and type of `value` belong to the interface of its graph."""
    return value.is_graph_output() or value.is_graph_input()


def is_read(value: oir.Value) -> bool:
    """Whether `value` has users: a node of any scope, or the outputs of its graph."""
    return value.is_graph_output() or bool(value.uses())


def is_private(value: oir.Value) -> bool:
    """Whether exactly one node reads `value`, in the graph that defines it, and no caller sees it.

    A node that reads it twice still counts as one reader (`Mul(x, x)`).
    """
    if is_public(value):
        return False
    users = {user for user, _ in value.uses()}
    return len(users) == 1 and next(iter(users)).graph is value.graph


def origin(value: oir.Value) -> oir.Value:
    """The value that `value` is a copy of, through every Identity."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.domain == "":
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value


def declared_dtype(value: oir.Value) -> oir.DataType | None:
    """The element type that the file declares, or the tensor of an initializer has; None for non-tensors."""
    if value.const_value is not None and value.is_initializer():
        return value.const_value.dtype
    return value.dtype if isinstance(value.type, oir.TensorType) else None


def release(tensor: oir.TensorProtocol | None) -> None:
    """Release the mapped pages of a tensor on disk; its next use maps them again."""
    if isinstance(tensor, oir.ExternalTensor):
        with suppress(BufferError):  # an array of the caller's still looks at the pages: they go with it
            tensor.release()


@contextmanager
def read_only(tensors: Iterable[oir.TensorProtocol | None]) -> Iterator[None]:
    """Let nothing be written into the arrays of `tensors` for as long as the context lasts."""
    arrays: list[Array] = []
    for tensor in tensors:
        raw = getattr(tensor, "raw", None)
        if isinstance(raw, np.ndarray) and raw.flags.writeable:
            raw.flags.writeable = False
            arrays.append(raw)
    try:
        yield
    finally:
        for array in arrays:
            array.flags.writeable = True
