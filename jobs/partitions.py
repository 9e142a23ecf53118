"""The partitions that a model falls into on a provider that takes some of its operators and leaves the rest."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from .. import ir
from ..passes.analyses import Shapes
from ..passes.analyses.manager import AnalysisManager
from ..passes.analyses.model_stats import operator
from ..passes.rewriting.kernel_check import has_own_kernel
from ..passes.targets.target import Target


@dataclass(frozen=True)
class Partitions:
    """How a provider takes the main graph of a model: in `count` pieces, `taken` of `nodes` nodes.

    `left`: the operators that it does not take, by how many nodes; `splitting`: those of them at which a piece ends.
    """

    target: str
    count: int
    taken: int
    nodes: int
    left: Mapping[str, int]
    splitting: Mapping[str, int]

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        pieces = "1 partition" if self.count == 1 else f"{self.count} partitions"
        names = ", ".join(f"{name} ({count})" for name, count in (self.splitting or self.left).items())
        cause = f"; {'split by' if self.splitting else 'left'} {names}" if names else ""
        return f"{pieces} with {self.taken} of {self.nodes} nodes on {self.target}{cause}"


def partitions_of(model: ir.Model, target: Target) -> Partitions | None:
    """The partitions of a model; None for a target without another one that runs what it does not take.

    As ONNX Runtime's CreateSupportedPartitionNodeGroups (core/providers/partitioning_utils.cc) forms them: in waves of
    a topological order. A wave takes every node that it can reach without passing one that the provider leaves behind
    a node of the wave, so that none makes a cycle. The nodes of a partition need not be connected. Operators whose
    types are not known count as taken. OpenVINO's provider has an algorithm of its own.
    """
    if not target.file.fallback:
        return None
    shapes = AnalysisManager(model).get(Shapes)
    nodes = [node for node in model.graph if node.op_type != "Constant"]
    owners = ir.owners_in(ir.nodes(model))
    users = {node: list(_users(node, owners)) for node in nodes}
    waiting = Counter(user for found in users.values() for user in found)
    ready, later = deque(node for node in nodes if not waiting[node]), deque[ir.Node]()
    border, sizes = set[ir.Node](), [0]
    left, splitting = Counter[str](), Counter[str]()
    while ready or later:
        if not ready:
            splitting.update(map(operator, later))
            ready, later = later, ready
            border.clear()
            sizes.append(0)
            continue
        node = ready.popleft()
        is_taken = has_own_kernel(node, shapes, target) is not False
        if not is_taken and node in border:
            later.append(node)
            continue
        if is_taken:
            sizes[-1] += 1
            border.update(users[node])
        else:
            left[operator(node)] += 1
        for user in users[node]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    count = sum(map(bool, sizes))
    if count < 2:  # the operators after the only piece split nothing
        splitting.clear()
    return Partitions(str(target), count, sum(sizes), len(nodes), _sorted(left), _sorted(splitting))


def _users(node: ir.Node, owners: Mapping[ir.Graph, ir.Node]) -> Iterator[ir.Node]:
    """The nodes of the graph that read a result, themselves or in a body: once each."""
    found = dict[ir.Node, None]()
    for user in (user for value in node.outputs for user in value.consumers()):
        outer = user
        while isinstance(outer.graph, ir.Graph) and outer.graph in owners:
            outer = owners[outer.graph]
        found[outer] = None
    return iter(found)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
