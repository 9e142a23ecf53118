"""The size of a model and the cost of one run, as plain numbers: for tables, reports and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ... import ir
from ...ir.shapes.symbolic import Dim, Expr
from .cost import Cost
from .liveness import Liveness
from .manager import AnalysisManager
from .shapes import Shapes


@dataclass(frozen=True)
class Share:
    """The known cost of all nodes of one operator type."""

    nodes: int = 0
    flops: int = 0
    bytes_moved: int = 0


@dataclass(frozen=True)
class ModelStats:
    """Sizes of a model, and what a run takes where its symbols have the values in `bindings`.

    `nodes`: in all scopes, Constant nodes apart. `weight_bytes`: of all initializers and constants. `flops` and
    `bytes_moved`: of the nodes of the main graph that are known; how many are not, `unknown` says by operator.
    `planned_peak_bytes`: the most that activations hold at once, none written in place but views; None where a size is
    not known.
    `flops_formula`, `bytes_formula`: the same in the symbols of the interface, where every node is known.
    """

    nodes: int
    weight_bytes: int
    flops: int
    bytes_moved: int
    planned_peak_bytes: int | None
    bindings: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    flops_formula: str | None = None
    bytes_formula: str | None = None
    operators: Mapping[str, Share] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return asdict(self)


def model_stats(
    model: ir.Model,
    bindings: Mapping[str, int] | None = None,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    formulas: bool = False,
) -> ModelStats:
    """The figures of `model` where symbols have the values in `bindings`, or those that the dims of `inputs` give them.

    `formulas`: also as expressions of the symbols. Linear in the size of the model; weights are not read.
    """
    analyses = AnalysisManager(model)
    cost = analyses.get(Cost)
    sizes = {**_sizes(cost.shapes, model, inputs or {}), **(bindings or {})}
    shares: dict[str, Share] = {}
    unknown: dict[str, int] = {}
    for node in cost.nodes:
        name = operator(node)
        found = cost.of(node, sizes)
        if found.flops is None or found.bytes is None:
            unknown[name] = unknown.get(name, 0) + 1
        have = shares.get(name, Share())
        shares[name] = Share(have.nodes + 1, have.flops + (found.flops or 0), have.bytes_moved + (found.bytes or 0))
    flops, moved = cost.formulas() if formulas else (None, None)
    return ModelStats(
        nodes=node_count(model),
        weight_bytes=weight_bytes(model),
        flops=sum(share.flops for share in shares.values()),
        bytes_moved=sum(share.bytes_moved for share in shares.values()),
        planned_peak_bytes=analyses.get(Liveness).peak_bytes(sizes),
        bindings={name: size for name, size in sizes.items() if not name.startswith("?")},
        unknown=unknown,
        flops_formula=_formula(flops),
        bytes_formula=_formula(moved),
        operators={name: share for name, share in shares.items() if name != "Constant"},
    )


def live_bytes(model: ir.Model, inputs: Mapping[str, Sequence[int]]) -> list[int] | None:
    """Bytes of live activations while each node of the main graph runs, on inputs of these dims; see `Liveness`."""
    return live_bytes_of(model)(inputs)


def live_bytes_of(model: ir.Model) -> Callable[[Mapping[str, Sequence[int]]], list[int] | None]:
    """The same for inputs of any dims, analysed once."""
    analyses = AnalysisManager(model)
    liveness, shapes = analyses.get(Liveness), analyses.get(Shapes)
    return lambda inputs: liveness.live_bytes(_sizes(shapes, model, inputs))


def operator(node: ir.Node) -> str:
    """`Conv`, `com.microsoft.QuickGelu`: the operator with the domain that is not the standard's."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def node_count(model: ir.Model) -> int:
    """Nodes in all scopes, Constant nodes apart."""
    return sum(1 for node in ir.nodes(model) if node.op_type != "Constant")


def weights(model: ir.Model) -> Iterable[ir.TensorProtocol]:
    """The tensors of all initializers and constants."""
    for graph in ir.graphs(model):
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
        for node in graph:
            if node.op_type == "Constant":
                found = (ir.constant_tensor(value) for value in node.outputs)
                yield from (tensor for tensor in found if tensor is not None)


def weight_bytes(model: ir.Model) -> int:
    """The bytes of all initializers and constants."""
    return sum(tensor.nbytes for tensor in weights(model))


def _sizes(shapes: Shapes, model: ir.Model, inputs: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The values of the symbols that the dims of given inputs imply; unnamed ones by the text of their atom."""
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        dims = shapes.dims(value)
        given = inputs.get(value.name or "")
        if dims is None or given is None or len(dims) != len(given):
            continue
        found.update(
            (symbol, size) for dim, size in zip(dims, given, strict=True) if (symbol := _symbol(dim)) is not None
        )
    return found


def _symbol(dim: Dim) -> str | None:
    """The key of a dim that is one symbol and nothing else, as `evaluate` looks it up."""
    if not isinstance(dim, Expr) or len(dim.terms) != 1:
        return None
    ((atoms, factor),) = dim.terms.items()
    if factor != 1 or len(atoms) != 1 or atoms[0].arguments:
        return None
    return atoms[0].name if atoms[0].born == 0 else atoms[0].text


def _formula(dim: Dim | None) -> str | None:
    return None if dim is None else str(dim)
