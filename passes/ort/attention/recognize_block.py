"""Scaled dot-product attention recognized from its softmax outward, by what the operators around it do.

A block is softmax(scale * Q K^T + terms) V. The scores are one product of two views, scaled anywhere, to which terms
that broadcast are added; the softmax over them is multiplied by a third view. Which dims are batch, heads, rows and
columns follows from the two products, so that it does not matter how queries, keys and values are laid out, packed or
repeated: their views are composed, and emitted anew in the layout that a kernel takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .... import ir
from ....ir.shapes.facts import Dims
from ....ir.shapes.symbolic import broadcast, equals_if_broadcast, exact_quotient, product
from ...analyses import Dim, Shapes
from ...analyses.nonzero_dims import dims_unless_empty
from ...targets.cuda import FLOAT16_TYPES
from ...views.node_view import chain, node_view
from ...views.view import Factor, View, identity, whole
from ...views.view import broadcast as broadcasting
from .block import ABSORBING, Attention, Heads, Plan, Source, Term, repeats, shared_heads, split_heads

LARGE = 1e9
"""Scores that a Where replaces by -LARGE or less have weights of 0 beside others."""


def find_softmax(root: ir.Node, shapes: Shapes) -> AfterSoftmax | None:
    """What is between a Softmax and `root`, a product whose first operand is its result and nothing else."""
    found = AfterSoftmax(root, shapes)
    return found if found.reaches_softmax() else None


@dataclass(frozen=True)
class _Addend:
    """What is added to scores of the dims `at`, times `factor`; see `Term` for the rest."""

    value: ir.Value
    at: Dims
    factor: float = 1.0
    low: float | None = None
    hides: bool = False
    is_floor: bool = False


@dataclass
class _Stage:
    """The scores at one place: a value, what multiplies everything before it, and what was met on the way there."""

    value: ir.Value
    factor: float = 1.0
    softcap: float = 0.0
    scales: tuple[tuple[ir.Value, Dims], ...] = ()
    sink: tuple[ir.Value, Dims] | None = None
    terms: tuple[_Addend, ...] = ()
    nodes: tuple[ir.Node, ...] = ()


@dataclass
class AfterSoftmax:
    """The nodes from a product with the values back to the Softmax, the last of them; `block` goes on from there."""

    root: ir.Node
    shapes: Shapes
    nodes: list[ir.Node] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    is_guarded: bool = False

    def dims(self, value: ir.Value) -> Dims | None:
        """The dims on the assumption that none is 0: attention over nothing gives nothing."""
        return dims_unless_empty(self.shapes, value)

    # --- behind the softmax -----------------------------------------------------------------------------------------

    def reaches_softmax(self) -> bool:
        """Whether the first operand of the product is the result of a Softmax, regrouped or guarded against NaN."""
        value = self.root.inputs[0] if self.root.inputs else None
        users = {self.root}
        for _ in range(6):
            node = None if value is None else value.producer()
            if value is None or node is None or node.domain or value.is_graph_output():
                return False
            if set(value.consumers()) - users:
                return False
            self.nodes.append(node)
            if node.op_type == "Softmax":
                return True
            if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Cast", "Slice"):
                value, users = node.inputs[0], {node}
            elif (guarded := _nan_guarded(node)) is not None and not self.is_guarded:
                value, users = guarded, {node, *(user for user in guarded.consumers() if user.op_type == "IsNaN")}
                self.is_guarded = True
            else:
                return False
        return False

    # --- the block --------------------------------------------------------------------------------------------------

    def block(self) -> Attention | str:
        """The attention whose second product is the root; a text says why it is none."""
        softmax = self.nodes[-1]
        scores, result, mixed = softmax.inputs[0], self.dims(self.root.outputs[0]), self.root.inputs[0]
        if scores is None or result is None or mixed is None or (dims := self.dims(scores)) is None:
            return "the shape of the scores is not known"
        if ir.attribute(softmax, "axis") not in (-1, len(dims) - 1) or (softmax.version or 0) < 13:
            return f"softmax over axis {ir.attribute(softmax, 'axis')} of {self.shapes.show(scores)}"
        start = _Stage(scores)
        if (cut := next((node for node in self.nodes if node.op_type == "Slice"), None)) is not None:
            stage = self.without_sink(scores, cut)
            if isinstance(stage, str):
                return stage
            start, dims = stage, self.dims(stage.value) or ()
        weights = self.dims(mixed)
        if weights is None or len(dims) < 2 or weights[-2:] != dims[-2:]:
            return f"{self.shapes.show(mixed)} regroups the rows of {self.shapes.show(scores)}"
        reasons = []
        for stage in self.products(start):
            found = self.from_product(stage)
            if not isinstance(found, str):
                return found
            reasons.append(found)
        return (reasons or self.obstacles or ["no product of queries and keys"])[0]

    def without_sink(self, scores: ir.Value, cut: ir.Node) -> _Stage | str:
        """The scores beside which a column, dropped after the softmax, takes a share of each row."""
        joined, dims = scores.producer(), self.dims(scores) or ()
        taken = node_view(cut.outputs[0], self.shapes, self.dims)
        text = f"{self.shapes.show(cut.outputs[0])} is a part of the softmax over {self.shapes.show(scores)}"
        is_joined = joined is not None and joined.op_type == "Concat" and not joined.domain and ir.is_private(scores)
        if joined is None or not is_joined or len(joined.inputs) != 2 or taken is None or taken.source != dims:
            return text
        if ir.attribute(joined, "axis") not in (-1, len(dims) - 1):
            return text
        first, second = joined.inputs
        for inner, sink, at in ((first, second, 0), (second, first, 1)):
            own, column = (None if value is None else self.dims(value) for value in (inner, sink))
            kept = identity(dims).slice(len(dims) - 1, at, 1, own[-1]) if own and column and column[-1] == 1 else None
            if inner is not None and sink is not None and column and kept is not None and taken.same(kept):
                return _Stage(inner, sink=(sink, column), nodes=(joined,))
        return text

    def products(self, stage: _Stage, depth: int = 0) -> Iterator[_Stage]:
        """The products that the scores may come from, nearest first, with what was met on the way to each."""
        value = stage.value
        node, dims = value.producer(), self.dims(value)
        if node is None or node.domain or dims is None or len(dims) < 2 or depth > 12 or not ir.is_private(value):
            return
        here = replace(stage, nodes=(*stage.nodes, node))
        if node.op_type == "MatMul":
            yield here
            return
        steps = list(self.steps(node, here, dims))
        if not steps:
            self.obstacles.append(f"{node.op_type} of {value.name!r} is neither scale nor mask")
        for step in steps:
            yield from self.products(step, depth + 1)

    def steps(self, node: ir.Node, here: _Stage, dims: Dims) -> Iterator[_Stage]:
        """Where to go on behind an operator on scores."""
        a, b = (*node.inputs, None, None)[:2]
        if a is None:
            return
        takes_terms = here.softcap == 0 and not here.scales
        match node.op_type:
            case "Reshape" | "Squeeze" | "Unsqueeze":
                before = self.dims(a)
                if before is not None and len(before) >= 2 and before[-2:] == dims[-2:]:
                    yield replace(here, value=a)
            case "Cast" if self.is_upcast(node):
                yield replace(here, value=a)
            case "Mul" | "Div":
                yield from self.scaled(node, here, a, b)
                yield from self.scaled_by_row(node, here, dims)
            case "Add" | "Sum" if b is not None and len(node.inputs) == 2 and takes_terms:
                for inner, term in ((a, b), (b, a)):
                    if self.is_inner(inner, dims):
                        yield replace(here, value=inner, terms=(*here.terms, _Addend(term, dims, here.factor)))
            case "Sub" if b is not None and takes_terms and self.is_inner(a, dims):
                yield replace(here, value=a, terms=(*here.terms, _Addend(b, dims, -here.factor)))
            case "Where" | "Max" | "Clip" if takes_terms:
                yield from (self.replaced if node.op_type == "Where" else self.raised)(node, here, dims)
            case "Tanh" if takes_terms:  # what scales rows outside of it is no scale of queries
                yield replace(here, value=a, softcap=here.factor, factor=1.0)
            case _:
                return

    def is_upcast(self, node: ir.Node) -> bool:
        """Whether scores of 16 bits go on in float32, in which the kernels add up and take exponentials, too."""
        before, after = (None if value is None else self.shapes.dtype(value) for value in (*node.inputs, *node.outputs))
        return before in FLOAT16_TYPES and after == ir.DataType.FLOAT

    def is_inner(self, value: ir.Value, dims: Dims) -> bool:
        """Whether `value` has these dims; the number of its columns may be one that broadcasts to theirs.

        Where it does not, the product with the values, of which there is one for each column, fails in any run.
        """
        own = self.dims(value)
        if own is None or len(own) != len(dims) or own[:-1] != dims[:-1]:
            return False
        return own[-1] == dims[-1] or (own[-1] != 1 and broadcast(own[-1], dims[-1]) == dims[-1])

    def scaled(self, node: ir.Node, here: _Stage, a: ir.Value, b: ir.Value | None) -> Iterator[_Stage]:
        """Scores that are multiplied by one positive number, or divided by one."""
        for inner, constant in ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),):
            number = None if constant is None else _positive(constant)
            if inner is not None and number is not None:
                yield replace(here, value=inner, factor=here.factor * (number if node.op_type == "Mul" else 1 / number))

    def scaled_by_row(self, node: ir.Node, here: _Stage, dims: Dims) -> Iterator[_Stage]:
        """Scores that are multiplied by one number for each head or query, which the queries may be instead."""
        a, b = node.inputs
        for inner, scale in ((a, b), (b, a)) if node.op_type == "Mul" else ():
            own = None if scale is None else self.dims(scale)
            if inner is not None and scale is not None and own and own[-1] == 1 and self.dims(inner) == dims:
                yield replace(here, value=inner, scales=(*here.scales, (scale, dims)))

    def replaced(self, node: ir.Node, here: _Stage, dims: Dims) -> Iterator[_Stage]:
        """Scores that a Where replaces by a number so low that their weights are 0, or equal if all of a row are.

        The mask that is added instead has a number that absorbs any score.
        """
        condition, yes, no = node.inputs
        if condition is None or yes is None or no is None:
            return
        for inner, low, keeps in ((yes, no, True), (no, yes, False)):
            number = ir.scalar(low)
            if number is not None and number * here.factor <= -LARGE and self.is_inner(inner, dims):
                term = _Addend(condition, dims, low=float(number) * here.factor, hides=not keeps)
                yield replace(here, value=inner, terms=(*here.terms, term))

    def raised(self, node: ir.Node, here: _Stage, dims: Dims) -> Iterator[_Stage]:
        """Scores of which those below a number are raised to it, so low a number that only the terms can be."""
        a, b, *others = (*node.inputs, None)
        for inner, low in ((a, b), (b, a)) if node.op_type == "Max" else ((a, b),):
            if any(each is not None for each in others):
                return
            number = ir.scalar(low)
            if inner is None or low is None or number is None or not -math.inf < number * here.factor <= ABSORBING:
                continue
            if self.dims(inner) == dims:
                term = _Addend(low, dims, low=float(number) * here.factor, is_floor=True)
                yield replace(here, value=inner, terms=(*here.terms, term))

    # --- from the product on ----------------------------------------------------------------------------------------

    def from_product(self, stage: _Stage) -> Attention | str:
        """The attention whose first product is at `stage`; a text says why it is none."""
        node = stage.value.producer()
        first, second, third = (*(node.inputs if node is not None else ()), self.root.inputs[1])
        scores, result = self.dims(stage.value), self.dims(self.root.outputs[0])
        if first is None or second is None or third is None or scores is None or result is None:
            return "the shapes of queries, keys and values are not known"
        if len({self.shapes.dtype(value) for value in (first, second, third)}) > 1:
            return "queries, keys and values of several types"
        q, scale_of_q = self.unscaled(first)
        k, scale_of_k = self.unscaled(second)
        v = chain(third, self.shapes, self.dims)
        scale = stage.factor * (stage.softcap or 1.0) * scale_of_q * scale_of_k
        blocks, reason = [], ""
        for batch, heads in self.splits(scores, result, stage, q[-1][1] if q else None):
            dims = (batch, heads, *scores[-2:])
            found = self.arrange(q, k, v, dims, scores, result)
            if found is None:
                continue
            terms, scales = self.terms(stage, dims), self.scales(stage, dims)
            sink = self.sink(stage, dims)
            if terms is None or scales is None or (stage.sink is not None and sink is None):
                added = [*(term.value for term in stage.terms), *(value for value, _ in stage.scales)]
                values = added + ([] if stage.sink is None else [stage.sink[0]])
                others = ", ".join(map(self.shapes.show, values))
                reason = f"{others} neither shift nor scale {self.shapes.show(stage.value)} by rows"
                continue
            nodes = (self.root, *self.nodes, *stage.nodes, *_private(q), *_private(k), *_private(v))
            block = Attention(*found, dims, scale, scales, stage.softcap, terms, sink, self.is_guarded, nodes)
            if all(term.plan is not None for term in terms):
                return block
            blocks.append(block)
        shown = ", ".join(self.shapes.show(value) for value in (first, second, third))
        return blocks[0] if blocks else reason or f"{shown} have no batch and heads in common"

    def unscaled(self, value: ir.Value) -> tuple[list[Source], float]:
        """What an operand is a view of, nearest first, behind the positive factors that multiply it on the way."""
        found, factor = chain(value, self.shapes, self.dims), 1.0
        while found and (scaled := self.scaled_operand(found[-1][0])) is not None:
            inner, number = scaled
            view = found[-1][1]
            composed = [(source, outer.then(view)) for source, outer in chain(inner, self.shapes, self.dims)]
            found = [(source, outer) for source, outer in composed if outer is not None]
            factor *= number
        return found, factor

    def scaled_operand(self, value: ir.Value) -> tuple[ir.Value, float] | None:
        """An operand without the positive number that multiplies it, and that number."""
        node = value.producer()
        if node is None or node.op_type not in ("Mul", "Div") or node.domain or not ir.is_private(value):
            return None
        a, b = node.inputs
        steps = () if a is None else self.scaled(node, _Stage(value), a, b)
        return next(((step.value, step.factor) for step in steps
                     if self.dims(step.value) == self.dims(value)), None)  # fmt: skip

    def splits(self, scores: Dims, result: Dims, stage: _Stage, q: View | None) -> Iterator[tuple[Dim, Dim]]:
        """Candidates for the dims batch and heads: two leading dims somewhere, or factors of the only one."""
        leading = [scores[:-2], *(term.at[:-2] for term in stage.terms), result[:-2]]
        seen = [
            (product(dims[:at]), product(dims[at:]))
            for dims in sorted(leading, key=len)
            for at in range(len(dims) - 1, 0, -1)
        ]
        if all(len(dims) == 1 for dims in leading):
            (total,) = scores[:-2]
            for factor in reversed(q.groups[0] if q is not None and q.groups else ()):
                batch = exact_quotient(total, factor.count) if factor.count != 0 else None
                if batch is not None:
                    seen.append((batch, factor.count))
            seen.append((total, 1))
        elif not any(leading):
            seen.append((1, 1))
        yield from dict.fromkeys(seen)

    def arrange(
        self, q: list[Source], k: list[Source], v: list[Source], dims: Dims, scores: Dims, result: Dims
    ) -> tuple[Heads, Heads, Heads] | None:
        """Queries, keys and values as [batch, heads, length, size], heads that are repeated in a row once."""
        batch, heads, rows, columns = dims
        queries = split_heads(q, (*scores[:-2], rows), (batch, heads), swapped=False)
        keys = split_heads(k, (*scores[:-2], columns), (batch, heads), swapped=True)
        values = split_heads(v, (*result[:-2], columns), (batch, heads), swapped=False)
        if not queries or not keys or not values:
            return None
        sizes = [sources[0][1].dims[3] for sources in (queries, keys, values)]
        if sizes[0] != sizes[1] or not all(isinstance(number, int) for number in (heads, *sizes)):
            return None
        times = math.gcd(repeats(keys[-1][1]), repeats(values[-1][1]))
        return Heads(tuple(queries)), shared_heads(keys, times), shared_heads(values, times)

    def terms(self, stage: _Stage, dims: Dims) -> tuple[Term, ...] | None:
        """What is added, as terms of `dims`; None where it broadcasts otherwise, or a kernel would add it otherwise."""
        terms, dtype = [], self.shapes.dtype(stage.value)
        for addend in stage.terms:
            value, low = addend.value, addend.low
            if addend.is_floor:
                terms.append(Term(value, (1, 1, 1, 1), Plan(value, (), frozenset()), low=low, is_floor=True))
                continue
            view = self.term_view(value, addend.at, dims)
            if view is None or view.dims[-1] == 1:
                return None
            if low is None and self.shapes.dtype(value) != dtype:
                return None  # added in float32, whose lowest number the 16 bits of the scores lack
            if low is not None and math.isfinite(low) and dtype == ir.DataType.FLOAT16:
                return None  # no number of float16 absorbs the scores
            if low is not None and low > ABSORBING and len(stage.terms) > 1:
                return None  # another term may be as low: then the scores decide
            terms.append(Term(value, view.dims, self.plan(value, view), addend.factor, low, addend.hides))
        while terms and terms[-1].is_floor:
            terms.pop()  # there is nothing so low inside
        if terms and not any(equals_if_broadcast(term.dims[-1], dims[-1]) for term in terms):
            return None  # their sum may broadcast over the columns
        return tuple(terms)

    def scales(self, stage: _Stage, dims: Dims) -> tuple[Plan, ...] | None:
        """What multiplies the scores of each row."""
        plans = []
        for value, at in stage.scales:
            view = self.term_view(value, at, dims)
            plan = None if view is None else self.plan(value, view)
            if plan is None or self.shapes.dtype(value) != self.shapes.dtype(stage.value):
                return None
            plans.append(plan)
        return tuple(plans)

    def sink(self, stage: _Stage, dims: Dims) -> Plan | None:
        """The score of a column beside the others, once where it is repeated."""
        value, at = stage.sink or (stage.value, ())
        view = self.term_view(value, at, dims) if at else None
        if view is None or self.shapes.dtype(value) != self.shapes.dtype(stage.value):
            return None
        sources = []
        for source, inner in chain(value, self.shapes, self.dims):
            outer = inner.then(view)
            if outer is not None:
                groups = (() if all(factor.is_broadcast for factor in group) else group for group in outer.groups)
                sources.append((source, replace(outer, groups=tuple(groups))))
        return Heads(tuple(sources)).cheapest(merged=False)

    def plan(self, value: ir.Value, view: View) -> Plan | None:
        """The fewest operators that give a view of `value`; none for leading dims of 1 alone, over two dims or four."""
        views = [(source, inner.then(view)) for source, inner in chain(value, self.shapes, self.dims)]
        heads = Heads(tuple((source, outer) for source, outer in views if outer is not None))
        for source, inner in heads.sources:
            missing = len(inner.groups) - len(inner.axes)
            if missing in (0, 2) and inner.is_reshape and (*(1,) * missing, *inner.source) == inner.dims:
                return Plan(source, (), frozenset())
        return heads.cheapest(merged=False)

    def term_view(self, value: ir.Value, at: Dims, dims: Dims) -> View | None:
        """What broadcasts to the scores `at` one place, as a view [batch or 1, heads or 1, rows or 1, columns or 1].

        Dims of 1 stay so, but where batch or heads are a product of one that broadcasts and one that does not.
        """
        own, spread = self.dims(value), identity(at[:-2]).reshape(dims[:2])
        if own is None or spread is None or not 0 < len(own) <= len(at):
            return None
        missing = len(at) - len(own)
        axes: list[tuple[Factor, ...]] = []
        for dim, full, group in zip(own, at[missing:], [*spread.axes, (), ()][missing:], strict=True):
            if dim == 1 or not group:
                axes.append((whole(dim),))
            elif dim == full:
                axes.append(group)
            else:
                return None
        if len(own) > 1 and own[-2] != 1 and not equals_if_broadcast(own[-2], at[-2]):
            return None
        taken = {factor for axis in axes[:-2] for factor in axis}
        leading = [
            tuple(factor if factor in taken else broadcasting(factor.count) for factor in group)
            if taken.intersection(group)
            else ()
            for group in spread.groups
        ]
        inner = [tuple(factor for factor in axis if factor.count != 1) for axis in axes[-2:]]
        return View(tuple(axes), (*leading, *((),) * (2 - len(inner)), *inner))


def _private(sources: list[Source]) -> Iterator[ir.Node]:
    """The producers of the nearest sources, as far as these have no other user."""
    for value, _ in sources:
        node = value.producer()
        if node is None or not ir.is_private(value):
            return
        yield node


def _positive(value: ir.Value) -> float | None:
    """The number of a constant of one element that is positive and finite."""
    content = ir.constant(value)
    if content is None or content.size != 1 or content.ndim > 4 or content.dtype.kind not in "fV":
        return None
    number = float(np.asarray(content, dtype=np.float64).reshape(()))
    return number if 0 < number < math.inf else None


def _nan_guarded(node: ir.Node) -> ir.Value | None:
    """`p` of Where(IsNaN(p), 0, p)."""
    if node.op_type != "Where" or len(node.inputs) != 3:
        return None
    condition, zero, value = node.inputs
    test = None if condition is None else condition.producer()
    content = None if zero is None else ir.constant(zero)
    is_guard = (
        test is not None and test.op_type == "IsNaN" and test.inputs[0] is value and ir.is_private(test.outputs[0])
    )
    return value if is_guard and content is not None and content.size == 1 and not np.any(content) else None
