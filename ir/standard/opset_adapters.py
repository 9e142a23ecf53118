"""Steps between neighbouring opsets that onnx's converter gets wrong, written here, or refused with the reason.

Each works on a node of a model at the last opset before the change and gives the nodes for the first after it, or
raises `CannotConvertError`. Found by converting made models of every operator by every step: tests/ir/opset_cases.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper as oh
import onnx.shape_inference
from onnx import numpy_helper

from ..io.proto_graphs import graphs_within
from ..op_traits import REDUCTIONS
from ..values import Array

_HIDDEN: Final = "optimize_graph.converted"
"""The domain that nodes are put into while onnx's converter looks at the others."""


class CannotConvertError(Exception):
    """Why a node cannot be converted."""


@dataclass
class Site:
    """Facts about the model around a node, at the opset before the step."""

    proto: onnx.ModelProto
    made: int = 0

    def fresh(self) -> str:
        """A value name that the model does not use."""
        self.made += 1
        return f"converted:{self.version}:{self.made}"

    @cached_property
    def version(self) -> int:
        """The opset of the standard before the step."""
        return {entry.domain: int(entry.version) for entry in self.proto.opset_import}[""]

    @cached_property
    def _dims(self) -> Mapping[str, Sequence[int | None]]:
        """Dims by inference from the inputs: what a file declares of other values may be false."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for graph in graph_protos(proto):
            del graph.value_info[:]
        for port in proto.graph.output:
            if port.type.HasField("tensor_type"):
                port.type.tensor_type.ClearField("shape")
        try:
            proto = onnx.shape_inference.infer_shapes(proto)
        except Exception:  # what C++ makes of a model that it cannot follow: nothing is known then
            return {}
        found: dict[str, Sequence[int | None]] = {}
        for graph in graph_protos(proto):
            for port in (*graph.input, *graph.output, *graph.value_info):
                if port.type.HasField("tensor_type") and port.type.tensor_type.HasField("shape"):
                    dims = port.type.tensor_type.shape.dim
                    found[port.name] = [each.dim_value if each.HasField("dim_value") else None for each in dims]
            for tensor in graph.initializer:
                found[tensor.name] = list(tensor.dims)
        return found

    @cached_property
    def _constants(self) -> Mapping[str, onnx.TensorProto]:
        inputs = {port.name for port in self.proto.graph.input}
        found = {
            tensor.name: tensor
            for graph in graph_protos(self.proto)
            for tensor in graph.initializer
            if tensor.name not in inputs
        }
        for graph in graph_protos(self.proto):
            for node in graph.node:
                if (
                    node.op_type == "Constant"
                    and not node.domain
                    and node.attribute
                    and node.attribute[0].name == "value"
                ):
                    found[node.output[0]] = node.attribute[0].t
        return found

    @cached_property
    def _used(self) -> frozenset[str]:
        return frozenset(
            name
            for graph in graph_protos(self.proto)
            for name in (*(port.name for port in graph.output), *(name for node in graph.node for name in node.input))
        )

    def rank(self, name: str) -> int | None:
        """The rank of a value; None when it is unknown."""
        dims = self._dims.get(name)
        return None if dims is None else len(dims)

    def dim(self, name: str, axis: int) -> int | None:
        """A dim of a value; None when it is unknown."""
        dims = self._dims.get(name)
        return None if dims is None or axis >= len(dims) else dims[axis]

    def constant(self, name: str) -> Array | None:
        """The content of a constant, else None."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_used(self, name: str) -> bool:
        """Whether a value has users."""
        return name in self._used


def graph_protos(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Every graph of a model."""
    return (graph for graph in graphs_within(proto.graph) if isinstance(graph, onnx.GraphProto))


Adapter = Callable[[onnx.NodeProto, Site], list[onnx.NodeProto] | None]
"""The nodes that replace a node; None leaves it to onnx's converter."""


def boundary(proto: onnx.ModelProto, current: int, version: int) -> tuple[int, int] | None:
    """The first step on the way from `current` to `version` that is written here for an operator of the model."""
    used = {node.op_type for graph in graph_protos(proto) for node in graph.node if not node.domain}
    if "Upsample" in used and current < version:
        used.add("Resize")  # which it becomes on the way
    way = 1 if version > current else -1
    for before in range(current, version, way):
        if any((op_type, before, before + way) in ADAPTERS for op_type in used):
            return before, before + way
    return None


def take_step(
    proto: onnx.ModelProto, after: int, convert: Callable[[onnx.ModelProto, int], onnx.ModelProto]
) -> onnx.ModelProto:
    """The model at the neighbouring opset `after`: some nodes as written here, the others as `convert` does them.

    Raises CannotConvertError with the operator's name in its text.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    site = Site(proto)
    before = site.version
    hidden = False
    for graph in graph_protos(result):
        written: list[onnx.NodeProto] = []
        for node in graph.node:
            adapter = None if node.domain else ADAPTERS.get((node.op_type, before, after))
            if adapter is None:
                written.append(node)
                continue
            try:
                made = adapter(node, site)
            except CannotConvertError as error:
                raise CannotConvertError(
                    f"{node.op_type} cannot be converted from opset {before} to {after}: {error}"
                ) from error
            if made is None:
                written.append(node)
                continue
            for each in made:
                each.domain = _HIDDEN
            hidden = True
            written += made
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in written]
        del graph.node[:]
        graph.node.extend(copies)
    if hidden:
        result.opset_import.add(domain=_HIDDEN, version=1)
    result = convert(result, after)
    for graph in graph_protos(result):
        for node in graph.node:
            if node.domain == _HIDDEN:
                node.domain = ""
    kept = [entry for entry in result.opset_import if entry.domain != _HIDDEN]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    return result


# --- parts ------------------------------------------------------------------------------------------------------------


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((each.i for each in node.attribute if each.name == name), default)


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    return next((each.s.decode() for each in node.attribute if each.name == name), default)


def _set(node: onnx.NodeProto, name: str, value: int | str | None) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(oh.make_attribute(name, value))


def _constant(content: Array, site: Site) -> onnx.NodeProto:
    return oh.make_node("Constant", [], [site.fresh()], value=numpy_helper.from_array(content))


# --- Softmax, LogSoftmax, Hardmax -------------------------------------------------------------------------------------


def _softmax_up(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    """Until 12 over all dims from `axis` (1) on, flattened; from 13 on over the one dim `axis` (-1)."""
    axis, rank = _integer(node, "axis", 1), site.rank(node.input[0])
    if axis == -1 or (rank is not None and axis == rank - 1):
        made = _copy(node)
        _set(made, "axis", -1)
        return [made]
    shape, flat, over = site.fresh(), site.fresh(), site.fresh()
    return [
        oh.make_node("Shape", [node.input[0]], [shape]),
        oh.make_node("Flatten", [node.input[0]], [flat], axis=axis),
        oh.make_node(node.op_type, [flat], [over], axis=-1),
        oh.make_node("Reshape", [over, shape], [node.output[0]]),
    ]


def _softmax_down(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    axis, rank = _integer(node, "axis", -1), site.rank(node.input[0])
    if rank is None and axis != -1:
        raise CannotConvertError(f"axis {axis} of an input of unknown rank may not be the last")
    if rank is None or axis % rank == rank - 1:
        made = _copy(node)
        _set(made, "axis", -1 if rank is None else rank - 1)
        return [made]
    order = list(range(rank))
    order[axis % rank], order[-1] = order[-1], order[axis % rank]
    turned, over = site.fresh(), site.fresh()
    return [
        oh.make_node("Transpose", [node.input[0]], [turned], perm=order),
        oh.make_node(node.op_type, [turned], [over], axis=rank - 1),
        oh.make_node("Transpose", [over], [node.output[0]], perm=order),
    ]


# --- Resize -----------------------------------------------------------------------------------------------------------


def _resize_up(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    """Resize 10 computes as `asymmetric`, and `nearest` rounds down to enlarge and up to shrink (ONNX Runtime)."""
    made = _copy(node)
    _set(made, "coordinate_transformation_mode", "asymmetric")
    if _text(node, "mode", "nearest") == "nearest":
        scales = site.constant(node.input[1])
        if scales is None:
            raise CannotConvertError(
                "nearest elements by factors that are computed: they are rounded up or down by them"
            )
        smallest, largest = float(np.min(scales)), float(np.max(scales))
        if smallest < 1 < largest:
            raise CannotConvertError("nearest elements of dims that grow and of others that shrink round in two ways")
        _set(made, "nearest_mode", "ceil" if smallest < 1 else "floor")
    region = _constant(np.zeros(0, np.float32), site)
    del made.input[:]
    made.input.extend([node.input[0], region.output[0], node.input[1]])
    return [region, made]


# --- negative axes ----------------------------------------------------------------------------------------------------


def _axes_from_the_front(node: onnx.NodeProto, site: Site) -> None:
    """Until 10 an axis counts from the front. (What else changes is left to onnx's converter.)"""
    rank = site.rank(node.input[0])
    for attribute in node.attribute:
        if attribute.name not in ("axis", "axes"):
            continue
        negative = attribute.i < 0 or any(each < 0 for each in attribute.ints)
        if not negative:
            continue
        if rank is None:
            raise CannotConvertError("a negative axis of an input of unknown rank")
        if attribute.HasField("i"):
            attribute.i %= rank
        attribute.ints[:] = [each % rank for each in attribute.ints]


# --- GroupNormalization -----------------------------------------------------------------------------------------------


def _group_normalization_up(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto]:
    """Until 20 scale and bias have an element for each group; from 21 on for each channel."""
    groups = _integer(node, "num_groups", 0)
    made = _copy(node)
    channels = site.dim(node.input[0], 1)
    nodes: list[onnx.NodeProto] = []
    if channels is not None and groups and channels % groups == 0:
        target = _constant(np.array([1, channels // groups], np.int64), site)
        nodes.append(target)
    else:
        shape, count, each = site.fresh(), _constant(np.array([groups], np.int64), site), site.fresh()
        one = _constant(np.array([1], np.int64), site)
        target = oh.make_node("Concat", [one.output[0], each], [site.fresh()], axis=0)
        nodes += [
            oh.make_node("Shape", [node.input[0]], [shape], start=1, end=2),
            count,
            oh.make_node("Div", [shape, count.output[0]], [each]),
            one,
            target,
        ]
    last, flat = _constant(np.array([1], np.int64), site), _constant(np.array([-1], np.int64), site)
    nodes += [last, flat]
    for index in (1, 2):
        column, spread, whole = site.fresh(), site.fresh(), site.fresh()
        nodes += [
            oh.make_node("Unsqueeze", [node.input[index], last.output[0]], [column]),
            oh.make_node("Expand", [column, target.output[0]], [spread]),
            oh.make_node("Reshape", [spread, flat.output[0]], [whole]),
        ]
        made.input[index] = whole
    return [*nodes, made]


def _group_normalization_down(_node: onnx.NodeProto, _site: Site) -> list[onnx.NodeProto]:
    raise CannotConvertError("scale and bias have an element for each channel, and until 20 for each group")


# --- Dropout ----------------------------------------------------------------------------------------------------------


def _dropout(node: onnx.NodeProto, site: Site) -> None:
    """The mask has the type of the data until 9, is boolean from 10 on, and says from 12 on what was kept."""
    if len(node.output) > 1 and node.output[1] and site.is_used(node.output[1]):
        raise CannotConvertError("its mask is used, which has another type or other elements there")


# --- Split ------------------------------------------------------------------------------------------------------------


def _split_up(node: onnx.NodeProto, site: Site) -> list[onnx.NodeProto] | None:
    """From 18 on equal pieces are said by `num_outputs`, which ONNX Runtime refuses for a dim that is smaller."""
    rank = site.rank(node.input[0])
    axis = _integer(node, "axis", 0)
    size = None if rank is None else site.dim(node.input[0], axis % rank)
    if (len(node.input) > 1 and node.input[1]) or size is None or size % len(node.output):
        return None
    sizes = _constant(np.full(len(node.output), size // len(node.output), np.int64), site)
    made = _copy(node)
    made.input[:] = [node.input[0], sizes.output[0]]
    return [sizes, made]


_WITH_AXES: Final = (
    *("ArgMax", "ArgMin", "Compress", "Concat", "Flatten", "Gather", "Hardmax", "LogSoftmax", "Softmax", "Split"),
    *("Squeeze", "TopK", *REDUCTIONS),
)

ADAPTERS: Final[dict[tuple[str, int, int], Adapter]] = {
    **{(name, 12, 13): _softmax_up for name in ("Hardmax", "LogSoftmax", "Softmax")},
    **{(name, 13, 12): _softmax_down for name in ("Hardmax", "LogSoftmax", "Softmax")},
    **{(name, 11, 10): _axes_from_the_front for name in _WITH_AXES},
    ("Resize", 10, 11): _resize_up,
    ("Split", 17, 18): _split_up,
    ("GroupNormalization", 20, 21): _group_normalization_up,
    ("GroupNormalization", 21, 20): _group_normalization_down,
    **{("Dropout", *step): _dropout for step in ((9, 10), (10, 9), (11, 12), (12, 11))},
}
