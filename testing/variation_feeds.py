"""Inputs for varied models: special numbers, symbols of 1 and 0, overridden initializers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from .. import ir
from ..runtime import make_feeds
from ..runtime.inputs.bind_dims import Sizing
from ..runtime.inputs.feed_plans import FeedPlan

SPECIAL = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 0.5, 1e-40, 3.0)

SMALL = FeedPlan(Sizing(batch=2, length=5, past=3, image=12, samples=24))


Feeds = dict[str, np.ndarray]


def made_for(model: onnx.ModelProto, seed: int) -> Feeds:
    """Small inputs that fit a model."""
    return dict(make_feeds(ir.from_proto(model), seed=seed, plan=SMALL))  # type: ignore[arg-type]


def feeds_for(model: onnx.ModelProto, seed: int, like: onnx.ModelProto | None = None) -> Iterator[tuple[Feeds, bool]]:
    """Inputs, and whether all their numbers are finite: as made for the model, the symbols 1 and 0, special numbers,
    other content for what the caller may override.
    """
    random = np.random.default_rng(seed)
    plain = made_for(model, seed)
    if like is not None:  # dims that lost their numbers still have to fit the weights
        plain |= {name: array for name, array in made_for(like, seed).items() if array.dtype == plain[name].dtype}
    yield plain, True
    if symbols := {dim.dim_param for value in model.graph.input for dim in dims_of(value) if dim.dim_param}:
        yield resized(model, plain, dict.fromkeys(symbols, 1)), True
    if (first := batches(model)) and not reduces_backwards(model):
        yield resized(model, plain, dict.fromkeys(first, 0)), True
    defaults = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    given = {value.name: defaults[value.name] for value in model.graph.input if value.name in defaults}
    if given:
        yield {**plain, **{name: changed(content, random) for name, content in given.items()}}, True
    yield {name: special(content, random) for name, content in plain.items()}, False


def dims_of(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    """The dims of an input."""
    dims: Sequence[onnx.TensorShapeProto.Dimension] = value.type.tensor_type.shape.dim
    return dims


def batches(model: onnx.ModelProto) -> set[str]:
    """The symbols that may be 0, those that stand first and nowhere else: ONNX Runtime divides by other sizes."""
    if not may_be_empty(model):
        return set()
    first: set[str] = set()
    others: set[str] = set()
    for value in model.graph.input:
        for axis, dim in enumerate(dims_of(value)):
            (others if axis else first).add(dim.dim_param)
    return first - others - {""}


def resized(model: onnx.ModelProto, feeds: Feeds, sizes: Mapping[str, int]) -> Feeds:
    """The content of `feeds` in the dims that the model has for these `sizes` of symbols."""
    made = dict(feeds)
    for value in model.graph.input:
        if value.name in feeds and dims_of(value):
            content = feeds[value.name]
            wanted = [sizes.get(dim.dim_param, size) for dim, size in zip(dims_of(value), content.shape, strict=True)]
            made[value.name] = np.resize(content, wanted) if content.size else np.ones(wanted, content.dtype)
    return made


def changed(content: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same numbers in another order, floats nudged."""
    moved = random.permutation(content.reshape(-1)).reshape(content.shape)
    with np.errstate(over="ignore"):
        return np.asarray(moved * 1.25 if content.dtype.kind == "f" else moved).astype(content.dtype)


def special(content: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Floats with special numbers among them."""
    if content.dtype.kind != "f":
        return content
    numbers = random.choice(SPECIAL, content.shape).astype(content.dtype)
    return np.asarray(np.where(random.random(content.shape) < 0.5, numbers, content))


def may_be_empty(model: onnx.ModelProto) -> bool:
    """ONNX Runtime's Einsum divides by the sizes of its operands, and the process dies."""
    return all(node.op_type != "Einsum" for node in model.graph.node)


def reduces_backwards(model: onnx.ModelProto) -> bool:
    """Whether an axis is negative: ONNX Runtime then leaves the dims of an empty input as they are."""
    return any(map(_reduces_backwards, ir.nodes(ir.from_proto(model))))


def _reduces_backwards(node: ir.Node) -> bool:
    if node.op_type in ("ArgMax", "ArgMin"):
        return ir.attribute(node, "axis") < 0  # type: ignore[operator]
    axes = ir.parameter(node, "axes") if node.op_type.startswith("Reduce") else None
    return isinstance(axes, np.ndarray) and any(int(axis) < 0 for axis in axes.reshape(-1))
