"""The standard's functions, written out, become calls again: the standard's own bodies are the patterns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

from ... import ir
from ..analyses import Shapes
from ..engine.analysis import Analysis
from ..engine.exactness import Exactness
from ..engine.journal import Refusal
from ..engine.pass_ import Pass, PassContext, spell, where
from ..engine.registry import register
from .outline_conditions import Call, unfit
from .unify import Unification, through_identity

OPERATORS = (
    "Attention",
    "Celu",
    "Elu",
    "Gelu",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "LayerNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "MeanVarianceNormalization",
    "Mish",
    "PRelu",
    "RMSNormalization",
    "RotaryEmbedding",
    "Selu",
    "Shrink",
    "Softmax",
    "Softplus",
    "Softsign",
    "Swish",
    "ThresholdedRelu",
)
"""What is looked for. Not among them: what ONNX Runtime computes otherwise for NaN or by chance (Clip, Bernoulli)."""

HOLE = "any number"
NEGATIVE = "any negative number"

# How a body depends on an attribute otherwise than by a number in it; the first alternative is tried first.
_STRUCTURAL: Mapping[str, tuple[int | str | None, ...]] = {
    "approximate": ("none", "tanh"),
    "axis": (HOLE, NEGATIVE),
    "interleaved": (0, 1),
    "is_causal": (0, 1),
    "left_window_size": (None, HOLE),
    "qk_matmul_output_mode": (0, 1, 2, 3),
    "right_window_size": (None, HOLE),
    "rotary_embedding_dim": (None, HOLE),
    "scale": (None, HOLE),
    "softcap": (None, HOLE),
    "softmax_precision": (None, 1, 10, 11, 16),
    "stash_type": (1, 10, 11, 16),
}
# Optional inputs that are given together or not at all.
_TOGETHER = {"past_key": "past_value"}
# What stands for a number that is sought: exact in every floating-point type, and in no body of the standard.
_INTEGERS = (7919, 7901, 7883, 7879, 7873, 7867)
_FLOATS = (1.609375, 1.640625, 1.671875, 1.703125)

# How many guesses are varied before a place is given up.
_EXPANSIONS = 16

_Score = tuple[bool, int, int]
Choice = int | str | ir.DataType | None


@cache
def _alternatives(op_type: str, opset: int, dtype: ir.DataType, rank: int) -> Mapping[str, tuple[Choice, ...]]:
    """What each input and each attribute of a call may be; `dtype` and `rank` are those of its first output."""
    signature = ir.function_signature(op_type, opset)
    if signature is None:
        return {}
    found: dict[str, tuple[Choice, ...]] = {}
    for formal in signature.inputs:
        types = tuple(each for each in (dtype, ir.DataType.BOOL, ir.DataType.INT64) if each in formal.types)
        alone = formal.name not in _TOGETHER.values()
        found[formal.name] = (None, *(types if alone else ())) if formal.is_optional else types[:1]
    for name in signature.attributes:
        if name.endswith("num_heads"):  # what splits the last of three dims; four are split already
            found[name] = (HOLE,) if rank == 3 else (None,)
        elif name in _STRUCTURAL:
            found[name] = _STRUCTURAL[name]
        elif name in signature.numbers:
            found[name] = (HOLE,)
    return found


@dataclass(frozen=True)
class Guess:
    """What a call may have been: for each input its type (None: absent), for each attribute its value or a hole."""

    op_type: str
    opset: int
    rank: int
    choices: tuple[tuple[str, Choice], ...]

    def but(self, name: str, choice: Choice) -> Guess:
        changed = (name, _TOGETHER.get(name))
        return dataclasses.replace(self, choices=tuple((n, choice if n in changed else c) for n, c in self.choices))

    @cached_property
    def holes(self) -> dict[str, int | float]:
        """The attributes that are sought, and what stands for each of them in the body."""
        numbers = self._signature.numbers
        sought = [(name, choice) for name, choice in self.choices if choice in (HOLE, NEGATIVE)]
        stand_ins = {int: iter(_INTEGERS), float: iter(_FLOATS)}
        return {
            name: -next(stand_ins[numbers[name]]) if choice == NEGATIVE else next(stand_ins[numbers[name]])
            for name, choice in sought
        }

    @cached_property
    def attributes(self) -> dict[str, int | float | str]:
        """The attributes that are chosen."""
        inputs = {formal.name for formal in self._signature.inputs}
        return {
            name: choice
            for name, choice in self.choices
            if name not in inputs and choice not in (None, HOLE, NEGATIVE) and not isinstance(choice, ir.DataType)
        }

    @cached_property
    def body(self) -> ir.Graph | None:
        given = dict(self.choices)
        types = [given[formal.name] for formal in self._signature.inputs]
        inputs = [(each, self.rank) if isinstance(each, ir.DataType) else None for each in types]
        return ir.function_body(self.op_type, self.opset, {**self.attributes, **self.holes}, inputs)

    @property
    def _signature(self) -> ir.Signature:
        signature = ir.function_signature(self.op_type, self.opset)
        assert signature is not None
        return signature


@cache
def _first_guesses(op_type: str, opset: int, dtype: ir.DataType, rank: int) -> tuple[Guess, ...]:
    """The first alternative of everything, and what differs from that in one thing."""
    alternatives = _alternatives(op_type, opset, dtype, rank)
    if not alternatives or () in alternatives.values():
        return ()
    first = Guess(op_type, opset, rank, tuple((name, each[0]) for name, each in alternatives.items()))
    return (first, *(first.but(name, other) for name, each in alternatives.items() for other in each[1:]))


Outline = tuple[str, tuple[str | None, ...]]


@cache
def _outlines(op_type: str, opset: int) -> frozenset[Outline]:
    """The root of a body and what makes its operands (None: anything), for whatever the first guesses are."""
    found: set[Outline] = set()
    for rank in (3, 4):
        for guess in _first_guesses(op_type, opset, ir.DataType.FLOAT, rank):
            root = through_identity(guess.body.outputs[0]).producer() if guess.body is not None else None
            if root is not None:
                found.add((root.op_type, tuple(map(_maker, root.inputs))))
    return frozenset(found)


def _maker(value: ir.Value | None) -> str | None:
    """The operator that computes a value; None for what is given, and for constants and what is cast from them."""
    node = through_identity(value).producer() if value is not None else None
    return None if node is None or node.op_type in ("Constant", "Cast", "CastLike", "Sqrt") else node.op_type


@dataclass
class _Found:
    """A place where the standard's body of a call stands; `exposed` are its other outputs that somebody reads."""

    guess: Guess
    unification: Unification
    exposed: dict[int, ir.Value]
    leaks: int

    @property
    def inputs(self) -> list[ir.Value | None]:
        values = self.unification.values
        formals = {formal.name: values.get(formal) for formal in self.unification.body.inputs}
        return [formals.get(formal.name) for formal in self.guess._signature.inputs]

    @property
    def attributes(self) -> dict[str, int | float | str]:
        return {**self.guess.attributes, **self.unification.found}


@register
@dataclass(frozen=True)
class OutlineFunctions(Pass):
    """Find what the standard's own function bodies spell in many operators and write the one operator for it.

    A body depends on the attributes of its call. They are guessed: of all that differ from the best guess in one
    thing, the next is the one by which more of the body is found in the graph. What was found is proven by writing
    the body out for the attributes and types that were found and comparing again.

    before:  e = Exp(x); one = CastLike(1.0, x); s = Add(e, one); y = Log(s)
    after:   y = Softplus(x)
    """

    name: ClassVar[str] = "outline"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        refreshed = False
        for node in list(ir.nodes(model)):
            if node.graph is None or node.domain or node.op_identifier() in functions:
                continue
            for op_type in _candidates(node):
                if ("", op_type, "") in functions:
                    continue
                if not refreshed:
                    context.analyses.get(Shapes).refresh(model)
                    refreshed = True
                if self._outline(op_type, node, context):
                    break

    def _outline(self, op_type: str, node: ir.Node, context: PassContext) -> bool:
        shapes = context.analyses.get(Shapes)
        found = _search(op_type, node, shapes)
        found = _proven(found, node, shapes) if found is not None else None
        if found is None:
            return False
        call = Call(op_type, found.guess.opset, found.inputs, found.attributes, shapes, frozenset(found.exposed))
        fault = "an inner value is read elsewhere" if found.leaks else unfit(call)
        if fault is None and not _in_order(found, node):
            fault = "another result is read before the first is there"
        if fault is not None:
            context.journal.refuse(Refusal(self.name, where(node), f"a place that {op_type} can take", fault))
            return False
        return self._rewrite(found, node, context)

    def _rewrite(self, found: _Found, root: ir.Node, context: PassContext) -> bool:
        shapes, rewriter = context.analyses.get(Shapes), context.rewriter
        call = ir.new_node(
            found.guess.op_type,
            found.inputs,
            found.attributes,
            version=found.guess.opset,
            outputs=1 + max(found.exposed, default=0),
            provenance=self.name,
        )
        results = {0: root.outputs[0], **found.exposed}
        shapes.learn_all([call])
        nodes = list(found.unification.nodes.values())
        if (
            not all(shapes.may_be_same(old, call.outputs[index]) for index, old in results.items())
            or shapes.rank(root.outputs[0]) != shapes.rank(call.outputs[0])
            or not context.journal.permit(self.name, where(root), spell(nodes[::-1]), spell([call]), self.exactness)
        ):
            ir.discard([call])
            return False
        rewriter.insert(call, before=root)
        names = [(value, call.outputs[index]) for index, old in results.items() for value in _renamings(old)]
        makers = [node for value, _ in names if (node := value.producer()) is not None]
        for value, new in names:
            shapes.adopt(value, new)
            rewriter.redirect(value, new, before=root)
        _erase_unread(makers, rewriter)
        return True


def _candidates(node: ir.Node) -> Iterator[str]:
    """The operators whose body may end in this node, by the operators that stand there."""
    by_root = _by_root(node.version or 0).get(node.op_type)
    if by_root is None:
        return
    makers = [None if each is None else through_identity(each).producer() for each in node.inputs]
    given = [None if maker is None else maker.op_type for maker in makers]
    for op_type, wanted in by_root:
        if len(wanted) == len(given) and (_agree(wanted, given) or _agree(wanted, given[::-1])):
            yield op_type


def _agree(wanted: Sequence[str | None], given: Sequence[str | None]) -> bool:
    return all(a is None or a == b for a, b in zip(wanted, given, strict=True))


@cache
def _by_root(opset: int) -> Mapping[str, list[tuple[str, tuple[str | None, ...]]]]:
    index: dict[str, dict[tuple[str, tuple[str | None, ...]], None]] = {}
    for op_type in OPERATORS:
        for root, operands in sorted(_outlines(op_type, opset), key=str):
            index.setdefault(root, {})[op_type, operands] = None
    return {root: list(found) for root, found in index.items()}


def _search(op_type: str, node: ir.Node, shapes: Shapes) -> _Found | None:
    """The guess whose whole body stands at `node` with the fewest inner values read elsewhere; None if there is none.

    Best first: of all that was tried, the guess that fits best is varied next, as long as it fits better than the
    first one. (Climbing alone would end in a mask that swallows what a window is computed by.)
    """
    dtype, rank = shapes.dtype(node.outputs[0]), shapes.rank(node.outputs[0])
    if dtype is None or rank is None:
        return None
    opset = node.version or 0
    pending = _first_guesses(op_type, opset, dtype, rank)
    alternatives = _alternatives(op_type, opset, dtype, rank)
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
        pending = tuple(guess for guess in _neighbours(chosen, alternatives) if guess not in tried)
        tried.update(pending)
    return best


def _neighbours(guess: Guess, alternatives: Mapping[str, tuple[Choice, ...]]) -> Iterator[Guess]:
    """The guesses that differ from one in one thing."""
    return (guess.but(name, other) for name, each in alternatives.items() for other in each)


def _attempt(guess: Guess, node: ir.Node, shapes: Shapes) -> tuple[_Score, _Found | None]:
    """How well a guess fits: whether all of it does, how few of its values leak, and how much of the body fits."""
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
    """The same with the body as the standard writes it for what was found: types, ranks and attributes."""
    choices = dict(found.guess.choices)
    for formal, value in zip(found.guess._signature.inputs, found.inputs, strict=True):
        if value is None and not formal.is_optional:
            return None
        choices[formal.name] = shapes.dtype(value) if value is not None else None
    for name in found.guess.holes:
        choices[name] = found.unification.found.get(name)
    rank = shapes.rank(found.inputs[0]) if found.inputs[0] is not None else None
    guess = dataclasses.replace(found.guess, rank=rank or 0, choices=tuple(choices.items()))
    return _attempt(guess, node, shapes)[1]


def _renamings(value: ir.Value) -> Iterator[ir.Value]:
    """A value, and before it those that are it by another name."""
    for reader in value.consumers():
        if reader.op_type == "Identity" and reader.domain == "":
            yield from _renamings(reader.outputs[0])
    yield value


def _outside(value: ir.Value, region: set[ir.Node]) -> bool:
    """Whether somebody else than `region` reads a value."""
    return any(
        each.is_graph_output() or any(reader not in region and reader.op_type != "Identity" for reader in each.consumers())
        for each in _renamings(value)
    )


def _leaks(found: _Found, root: ir.Node) -> int:
    """How many inner values somebody else reads. The shape of what is given may be read by anybody."""
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
    """Whether what reads the other results comes after the root, before which the call will stand."""
    region = set(found.unification.nodes.values())
    readers = {
        reader
        for value in found.exposed.values()
        for each in _renamings(value)
        for reader in each.consumers()
        if reader not in region and reader.op_type != "Identity"
    }
    if not readers:
        return True
    assert root.graph is not None
    for node in reversed(root.graph):
        if node is root:
            break
        readers.discard(node)
    return not readers


def _erase_unread(nodes: Sequence[ir.Node], rewriter: ir.Rewriter) -> None:
    """Erase nodes that nobody reads any more, and what was made for them alone."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.graph is None or any(ir.is_read(value) for value in node.outputs):
            continue
        pending += [maker for each in node.inputs if each is not None and (maker := each.producer()) is not None]
        rewriter.erase(node)
