"""Outline expanded standard functions: the standard's own function bodies are the patterns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...analyses.attention_mask import lowest_becomes_next, may_hold_lowest
from ...analyses.rounding_sensitivity import Owners, decided_by_rounding
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...pipeline.rewrite_log import MissedRewrite
from ...registry import register
from ...rewriting.kernel_check import missing_kernel
from ...targets.ort_releases import knows
from .function_bodies import Guess, alternatives_of, candidates, first_guesses, neighbours
from .legality import Call, unfit
from .unify import Unification, through_identity

_EXPANSIONS = 16  # guesses that are varied at one node
_MASK = 3  # the input of Attention
_Score = tuple[bool, int, int]


@dataclass
class _Found:
    """A unified body of a call; `exposed` are its other outputs with users, `leaks` counts inner values with users."""

    guess: Guess
    unification: Unification
    exposed: dict[int, ir.Value]
    leaks: int

    @property
    def inputs(self) -> list[ir.Value | None]:
        """The inputs of the call."""
        values = self.unification.values
        formals = {formal.name: values.get(formal) for formal in self.unification.body.inputs}
        return [formals.get(formal.name) for formal in self.guess.signature.inputs]

    @property
    def attributes(self) -> dict[str, int | float | str]:
        """The attributes of the call."""
        return {**self.guess.attributes, **self.unification.found}


@register
@dataclass(frozen=True)
class OutlineFunctions(Pass):
    """Replace subgraphs that are expanded function bodies of standard operators by the operators.

    A body depends on the attributes of its call, which are guessed: best-first search over guesses that differ in one
    choice, by how much of the body unifies with the graph. A result is verified by expanding the body for the
    attributes and types that were found and unifying it again.

    before:  e = Exp(x); one = CastLike(1.0, x); s = Add(e, one); y = Log(s)
    after:   y = Softplus(x)
    """

    name: ClassVar[str] = "outline-functions"
    is_heuristic: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        owners = ir.owners_in(ir.nodes(model))
        for node in list(ir.nodes(model)):
            if node.graph is None or node.domain or node.op_identifier() in functions:
                continue
            for op_type in candidates(node):
                if ("", op_type, "") in functions:
                    continue
                if self._outline(op_type, node, context, owners):
                    break

    def _outline(self, op_type: str, node: ir.Node, context: PassContext, owners: Owners) -> bool:
        shapes = context.analyses.get(Shapes)
        found = _search(op_type, node, shapes)
        found = _proven(found, node, shapes) if found is not None else None
        if found is None:
            return False
        call = Call(op_type, found.guess.opset, found.inputs, found.attributes, shapes, frozenset(found.exposed))
        fault = "an inner value is read elsewhere" if found.leaks else unfit(call)
        known = ir.schema(op_type, found.guess.opset)
        if (
            fault is None
            and known is not None
            and not knows(context.settings.target.release, op_type, known.since_version)
        ):
            fault = f"ONNX Runtime {context.settings.target.release} knows only an older definition"
        if fault is None and not _in_order(found, node):
            fault = "another result is read before the first is there"
        if fault is not None:
            context.log.miss(MissedRewrite(self.name, where(node), f"a place that {op_type} can take", fault))
            return False
        return self._rewrite(found, node, context, owners)

    def _rewrite(self, found: _Found, root: ir.Node, context: PassContext, owners: Owners) -> bool:
        shapes, rewriter = context.analyses.get(Shapes), context.rewriter
        inputs, before = _inputs_for_kernel(found, self.name, context)
        call = ir.new_node(
            found.guess.op_type,
            inputs,
            found.attributes,
            version=found.guess.opset,
            outputs=1 + max(found.exposed, default=0),
            provenance=self.name,
        )
        results = {0: root.outputs[0], **found.exposed}
        shapes.learn_all([call])
        nodes = list(found.unification.nodes.values())
        miss = missing_kernel(self.name, root, [call], nodes, shapes, context.settings)
        if miss is None and (decision := decided_by_rounding(root.outputs[0], owners)) is not None:
            condition = "a value that decides nothing, or noise before it"
            miss = MissedRewrite(self.name, where(root), condition, f"{decision.op_type} decides by it")
        if miss is not None:
            context.log.miss(miss)
        if (
            miss is not None
            or not all(shapes.may_be_same(old, call.outputs[index]) for index, old in results.items())
            or shapes.rank(root.outputs[0]) != shapes.rank(call.outputs[0])
            or not context.log.try_rewrite(self.name, where(root), spell(nodes[::-1]), spell([call]), self.exactness)
        ):
            ir.discard([*before, call])
            return False
        for each in (*before, call):
            rewriter.insert(each, before=root)
        names = [(value, call.outputs[index]) for index, old in results.items() for value in _renamings(old)]
        producers = [node for value, _ in names if (node := value.producer()) is not None]
        for value, new in names:
            rewriter.redirect(value, new, before=root)
        _erase_unread(producers, rewriter)
        return True


def _inputs_for_kernel(
    found: _Found, provenance: str, context: PassContext
) -> tuple[list[ir.Value | None], list[ir.Node]]:
    """The inputs of the call, and nodes before it: a mask without the lowest float, for which Attention computes 0."""
    inputs, shapes = found.inputs, context.analyses.get(Shapes)
    mask = inputs[_MASK] if found.guess.op_type == "Attention" and len(inputs) > _MASK else None
    dtype = shapes.dtype(mask) if mask is not None else None
    is_target = context.settings.target.is_onnxruntime
    if mask is None or dtype is None or not is_target or not dtype.is_floating_point():
        return inputs, []
    if not may_hold_lowest(mask, shapes):
        return inputs, []
    factor = ir.pending_constant(np.array(lowest_becomes_next(dtype)).astype(dtype.numpy()))
    scaled = ir.new_node("Mul", [mask, factor], version=found.guess.opset, provenance=provenance)
    shapes.learn_all([scaled])
    inputs[_MASK] = scaled.outputs[0]
    return inputs, [scaled]


def _search(op_type: str, node: ir.Node, shapes: Shapes) -> _Found | None:
    """The guess whose whole body unifies at `node` with the fewest leaking values; None if there is none.

    Best-first search: of all that were tried, the guess that fits best is varied next, as long as it fits better than
    the first one. (Hill climbing would end in a mask that absorbs the computation of a window.)
    """
    dtype, rank = shapes.dtype(node.outputs[0]), shapes.rank(node.outputs[0])
    if dtype is None or rank is None:
        return None
    opset = node.version or 0
    pending = first_guesses(op_type, opset, dtype, rank)
    alternatives = alternatives_of(op_type, opset, dtype, rank)
    best: _Found | None = None
    reached = parent = (False, 0, -1)
    tried = set(pending)
    open_guesses: list[tuple[_Score, int, Guess]] = []
    for _ in range(_EXPANSIONS):
        for guess in pending:
            score, found = _attempt(guess, node, shapes)
            if score > parent:
                open_guesses.append((score, len(open_guesses), guess))
            if guess is pending[0] and parent == (False, 0, -1):
                parent = score  # the others of the first guesses must do better than the first
            if score > reached:
                reached, best = score, found
        if not open_guesses:
            break
        parent, _, chosen = open_guesses.pop(max(range(len(open_guesses)), key=lambda i: open_guesses[i][:2]))
        if reached[0] and parent < reached:
            break
        pending = tuple(guess for guess in neighbours(chosen, alternatives) if guess not in tried)
        tried.update(pending)
    return best


def _attempt(guess: Guess, node: ir.Node, shapes: Shapes) -> tuple[_Score, _Found | None]:
    """The score of a guess: whether all of its body unifies, the leaks (negative), and the matched nodes."""
    body = guess.body
    if body is None:
        return (False, 0, -1), None
    unification = Unification(body, guess.holes, shapes, node)
    if not unification.fits():
        return (False, 0, unification.matched), None
    exposed = {}
    for index, output in enumerate(body.outputs[1:], start=1):
        if (value := unification.fits_also(output)) is not None and through_identity(output).producer() is not None:
            exposed[index] = value
    found = _Found(guess, unification, exposed, 0)
    found.leaks = _leaks(found, node)
    region = set(unification.nodes.values())
    found.exposed = {i: value for i, value in exposed.items() if _outside(value, region)}
    return (True, -found.leaks, unification.matched), found


def _proven(found: _Found, node: ir.Node, shapes: Shapes) -> _Found | None:
    """The same, verified with the body for the types, rank and attributes that were found."""
    choices = dict(found.guess.choices)
    for formal, value in zip(found.guess.signature.inputs, found.inputs, strict=True):
        if value is None and not formal.is_optional:
            return None
        choices[formal.name] = shapes.dtype(value) if value is not None else None
    for name in found.guess.holes:
        choices[name] = found.unification.found.get(name)
    rank = shapes.rank(found.inputs[0]) if found.inputs[0] is not None else None
    guess = dataclasses.replace(found.guess, rank=rank or 0, choices=tuple(choices.items()))
    return _attempt(guess, node, shapes)[1]


def _renamings(value: ir.Value) -> list[ir.Value]:
    """The values that Identities copy `value` to, and `value` itself as the last."""
    found = [value]
    for each in found:  # grows while it is walked
        found += [user.outputs[0] for user in each.consumers() if user.op_type == "Identity" and not user.domain]
    return found[::-1]


def _outside(value: ir.Value, region: set[ir.Node]) -> bool:
    """Whether a value, or a copy of it, has users outside of `region`."""
    return any(
        each.is_graph_output() or any(user not in region and user.op_type != "Identity" for user in each.consumers())
        for each in _renamings(value)
    )


def _leaks(found: _Found, root: ir.Node) -> int:
    """The number of inner values with users outside. The shapes of the inputs may have any users."""
    region, given = set(found.unification.nodes.values()), {*found.inputs}
    open_values = {root.outputs[0], *found.exposed.values()}
    return sum(
        _outside(value, region)
        for node in region
        if not (node.op_type == "Shape" and node.inputs[0] in given)
        for value in node.outputs
        if value not in open_values
    )


def _in_order(found: _Found, root: ir.Node) -> bool:
    """Whether the users of the other results come after the root, where the call will be inserted."""
    region = set(found.unification.nodes.values())
    users = {
        user
        for value in found.exposed.values()
        for each in _renamings(value)
        for user in each.consumers()
        if user not in region and user.op_type != "Identity"
    }
    assert root.graph is not None
    for node in reversed(root.graph):
        if node is root or not users:
            break
        users.discard(node)
    return not users


def _erase_unread(nodes: Sequence[ir.Node], rewriter: ir.Rewriter) -> None:
    """Erase nodes without users, and their producers that have no other users."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.graph is None or any(ir.is_read(value) for value in node.outputs):
            continue
        pending += [producer for each in node.inputs if each is not None and (producer := each.producer()) is not None]
        rewriter.erase(node)
