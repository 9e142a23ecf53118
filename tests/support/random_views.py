"""Random chains of data movement, the same for a seed in every process: models of many chains over a few inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dim = int | str
SYMBOLS = {"n": 3, "m": 2}
SOURCES: tuple[tuple[Dim, ...], ...] = (
    ("n", 6, 8), (2, "n", 12), (4, 3, 2, 6), ("n", "m", 24), (1, 12, 4, 4), (24,), ("n", 4, 1, 6), (2, 8, 3, 3),
    ("m", 5),
)  # fmt: skip


@dataclass
class Chains:
    """A model of chains; `outputs` are their ends."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, numbers: object) -> str:
        name = self.name("c")
        self.initializers.append(numpy_helper.from_array(np.array(numbers, dtype=np.int64), name))
        return name

    def add(self, op_type: str, inputs: list[str], outputs: int = 1, **attributes: object) -> list[str]:
        names = [self.name("v") for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        return names

    def chain(self, source: str, dims: tuple[Dim, ...], length: int) -> None:
        value, current = source, list(dims)
        for _ in range(length):
            step = STEPS[int(self.random.integers(len(STEPS)))]
            value, current = step(self, value, current)
        if value != source:
            self.outputs.append(value)

    def model(self) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(f"x{at}", TensorProto.FLOAT, dims) for at, dims in enumerate(SOURCES)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.outputs]
        for value in outputs:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "views", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def random_chains(seed: int, count: int = 100) -> onnx.ModelProto:
    """A model of `count` chains of one to seven operators."""
    chains = Chains(np.random.default_rng(seed))
    for _ in range(count):
        at = int(chains.random.integers(len(SOURCES)))
        chains.chain(f"x{at}", SOURCES[at], int(chains.random.integers(1, 8)))
    return chains.model()


def feeds(**symbols: int) -> dict[str, np.ndarray]:
    """Numbered elements, at these sizes of the symbols."""
    sizes = {**SYMBOLS, **symbols}
    shapes = [[sizes[dim] if isinstance(dim, str) else dim for dim in dims] for dims in SOURCES]
    return {f"x{at}": np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for at, shape in enumerate(shapes)}


Current = list[Dim]
Step = Callable[[Chains, str, Current], tuple[str, Current]]


def _pick(chains: Chains, dims: Current, accept: Callable[[Dim], bool]) -> int | None:
    axes = [axis for axis, dim in enumerate(dims) if accept(dim)]
    return int(chains.random.choice(axes)) if axes else None


def _static(dim: Dim) -> bool:
    return isinstance(dim, int)


def _transpose(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    perm = [int(axis) for axis in chains.random.permutation(len(dims))]
    return chains.add("Transpose", [value], perm=perm)[0], [dims[axis] for axis in perm]


def _merge(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    """Merge a dim into the one before it; products of symbols are spelled `n*m`, and no longer split."""
    if len(dims) < 2:
        return value, dims
    axis = int(chains.random.integers(len(dims) - 1))
    first, second = dims[axis], dims[axis + 1]
    merged: Dim = first * second if isinstance(first, int) and isinstance(second, int) else f"{first}*{second}"
    result = [*dims[:axis], merged, *dims[axis + 2 :]]
    target = [0 if isinstance(dim, str) and at < axis else dim for at, dim in enumerate(result)]
    target = [-1 if isinstance(dim, str) else dim for dim in target]
    if target.count(-1) > 1:
        return value, dims
    return chains.add("Reshape", [value, chains.constant(target)])[0], result


def _split_dim(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: isinstance(dim, int) and dim > 3)
    if axis is None:
        return value, dims
    size = dims[axis]
    assert isinstance(size, int)
    outer = int(chains.random.choice([number for number in range(2, size + 1) if size % number == 0]))
    target = [0 if isinstance(dim, str) else dim for dim in dims[:axis]] + [outer, size // outer]
    rest = dims[axis + 1 :]
    if sum(isinstance(dim, str) for dim in rest) > 1:
        return value, dims
    target += [-1 if isinstance(dim, str) else dim for dim in rest]
    return chains.add("Reshape", [value, chains.constant(target)])[0], [*dims[:axis], outer, size // outer, *rest]


def _slice(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: isinstance(dim, int) and dim > 1)
    if axis is None:
        return value, dims
    size = dims[axis]
    assert isinstance(size, int)
    start, step = int(chains.random.integers(size)), int(chains.random.choice([1, 1, 1, 2, -1, 3]))
    stop = int(chains.random.integers(start + 1, size + 1)) if step > 0 else -(1 << 60)
    if chains.random.random() < 0.4 and size % 2 == 0 and step > 0:
        start, stop, step = (0, size // 2, 1) if chains.random.random() < 0.5 else (size // 2, size, 1)
    count = len(range(size)[slice(start, stop if step > 0 else None, step)])
    operands = [chains.constant([number]) for number in (start, stop, axis, step)]
    return chains.add("Slice", [value, *operands])[0], [*dims[:axis], count, *dims[axis + 1 :]]


def _gather(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, _static)
    if axis is None:
        return value, dims
    size = dims[axis]
    assert isinstance(size, int)
    kind = int(chains.random.integers(4))
    if kind == 0 and len(dims) > 1:
        index = int(chains.random.integers(-size, size))
        return chains.add("Gather", [value, chains.constant(index)], axis=axis)[0], [*dims[:axis], *dims[axis + 1 :]]
    indices = np.repeat(np.arange(size), 2) if kind == 1 else np.arange(size)[:: (-1 if kind == 2 else 1)]
    if kind == 3 and size % 2 == 0:
        indices = indices.reshape(2, -1)
    result = [*dims[:axis], *indices.shape, *dims[axis + 1 :]]
    return chains.add("Gather", [value, chains.constant(indices)], axis=axis)[0], result


def _unsqueeze(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = int(chains.random.integers(len(dims) + 1))
    return chains.add("Unsqueeze", [value, chains.constant([axis])])[0], [*dims[:axis], 1, *dims[axis:]]


def _squeeze(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: dim == 1)
    if axis is None or len(dims) == 1:
        return value, dims
    return chains.add("Squeeze", [value, chains.constant([axis])])[0], [*dims[:axis], *dims[axis + 1 :]]


def _expand(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: dim == 1)
    if axis is None:
        return value, dims
    target = [1] * len(dims)
    target[axis] = int(chains.random.integers(2, 4))
    return chains.add("Expand", [value, chains.constant(target)])[0], [*dims[:axis], target[axis], *dims[axis + 1 :]]


def _tile(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: isinstance(dim, int) and dim < 5)
    if axis is None:
        return value, dims
    size = dims[axis]
    assert isinstance(size, int)
    repeats = [2 if at == axis else 1 for at in range(len(dims))]
    return chains.add("Tile", [value, chains.constant(repeats)])[0], [*dims[:axis], 2 * size, *dims[axis + 1 :]]


def _split(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    axis = _pick(chains, dims, lambda dim: isinstance(dim, int) and dim % 2 == 0)
    if axis is None:
        return value, dims
    size = dims[axis]
    assert isinstance(size, int)
    parts = chains.add("Split", [value], 2, axis=axis, num_outputs=2)
    return parts[int(chains.random.integers(2))], [*dims[:axis], size // 2, *dims[axis + 1 :]]


def _blocks(chains: Chains, value: str, dims: Current) -> tuple[str, Current]:
    if len(dims) != 4 or not all(map(_static, dims)):
        return value, dims
    n, c, h, w = (int(dim) for dim in dims)
    if c % 4 == 0:
        mode = "CRD" if chains.random.random() < 0.5 else "DCR"
        return chains.add("DepthToSpace", [value], blocksize=2, mode=mode)[0], [n, c // 4, h * 2, w * 2]
    if h % 2 == 0 and w % 2 == 0:
        return chains.add("SpaceToDepth", [value], blocksize=2)[0], [n, c * 4, h // 2, w // 2]
    return value, dims


STEPS: tuple[Step, ...] = (
    _transpose, _transpose, _merge, _merge, _split_dim, _split_dim, _slice, _slice, _gather, _unsqueeze, _squeeze,
    _expand, _tile, _split, _blocks,
)  # fmt: skip
