"""What is in a model: its interface, operators and parameters, what a run of it takes, and where the time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import ir, runtime
from ..options import DEFAULT_TARGET
from ..passes.analyses import ModelStats, model_stats
from ..passes.analyses.model_stats import operator, weights
from ..passes.targets.target import Target
from .measure import Subject, point_feeds, shapes_of
from .partitions import Partitions, partitions_of


@dataclass(frozen=True)
class Port:
    """An input or output as the model declares it: `FLOAT[batch, 3]`, `Sequence(Tensor(FLOAT))`."""

    name: str
    type: str


@dataclass(frozen=True)
class Parameters:
    """Weights and constants of one element type."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """What is in a model. `operators`: nodes in all scopes; what those of the main graph take is in `model_stats`.

    `functions`: nodes in the body of each; `subgraphs`: bodies of If, Loop and Scan. `profile`: where the time goes.
    `partitions`: on a target that takes only part of a model.
    """

    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: Mapping[str, int]
    parameters: Mapping[str, Parameters]
    functions: Mapping[str, int]
    subgraphs: int
    model_stats: ModelStats
    profile: runtime.Profile | None = None
    partitions: Partitions | None = None

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return asdict(self)


def inspect(
    model: str | Path | ir.Model,
    *,
    at: Mapping[str, int] | None = None,
    inputs: Path | None = None,
    timed: bool = False,
    target: str | Path = DEFAULT_TARGET,
    options: runtime.SessionOptions | None = None,
    follow_symlinks: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Inspection:
    """Look into a model; what a run takes is counted at the sizes in `at`, or those of `inputs`, or usual ones.

    `timed`: run it under ONNX Runtime's profiler, too; that takes a file. `target`: one that may take only part of it.
    Raises ModelError.
    """
    progress("load")
    path = None if isinstance(model, ir.Model) else Path(model)
    loaded = model if isinstance(model, ir.Model) else ir.load(model, follow_symlinks=follow_symlinks)
    profile = None
    if timed:
        if path is None:
            raise TypeError("only a model in a file can be profiled")
        progress("profile")
        how = options or runtime.SessionOptions()
        sets = ([at or {}], []) if inputs is None else ([], [inputs])
        (feed_set,) = point_feeds(Subject(path, loaded), at=sets[0], inputs=sets[1], options=how)
        profile = runtime.profile(path, feed_set.feeds, how)
        shapes = shapes_of(feed_set.feeds)
    else:
        sized = loaded.clone() if at else loaded
        ir.fix_dims(sized, at or {})
        shapes = (
            runtime.typical_shapes(sized) if inputs is None else shapes_of(runtime.read_feeds(inputs, loaded).feeds)
        )
    progress("count")
    return Inspection(
        producer=" ".join(filter(None, (loaded.producer_name, loaded.producer_version))),
        ir_version=loaded.ir_version,
        opsets={domain or "ai.onnx": version for domain, version in loaded.opset_imports.items()},
        inputs=tuple(map(port, loaded.graph.inputs)),
        outputs=tuple(map(port, loaded.graph.outputs)),
        operators=operators(loaded),
        parameters=parameters(loaded),
        functions={_function_name(each): len(each.graph) for each in loaded.functions.values()},
        subgraphs=sum(1 for _ in ir.graphs(loaded)) - 1 - len(loaded.functions),
        model_stats=model_stats(loaded, inputs=shapes, formulas=True),
        profile=profile,
        partitions=partitions_of(loaded, Target(target)),
    )


def port(value: ir.Value) -> Port:
    """The declared name, type and dims."""
    if not isinstance(value.type, ir.TensorType):
        return Port(value.name or "", str(value.type))
    dims = "?" if value.shape is None else ", ".join(_dim(dim) for dim in value.shape)
    return Port(value.name or "", f"{value.type.dtype.name}[{dims}]")


def _dim(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else str(dim.value or "?")


def operators(model: ir.Model) -> dict[str, int]:
    """How many nodes each operator type has, in all scopes: the most frequent first."""
    counts = Counter(operator(node) for node in ir.nodes(model))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def parameters(model: ir.Model) -> dict[str, Parameters]:
    """Weights and constants by element type: the largest first."""
    found: dict[str, Parameters] = {}
    for tensor in weights(model):
        have = found.get(tensor.dtype.name, Parameters(0, 0, 0))
        found[tensor.dtype.name] = Parameters(
            have.tensors + 1, have.elements + int(tensor.size), have.bytes + int(tensor.nbytes)
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


def _function_name(function: ir.Function) -> str:
    return f"{function.domain}.{function.name}" + (f":{function.overload}" if function.overload else "")
