"""Rules as data: a pattern, named legality conditions, exactness, a source, and a body that builds the replacement."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ... import ir
from ..analyses import Dim, Shapes
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import PassContext, where
from ..pipeline.registry import REGISTRY, name_faults, reject
from ..pipeline.rewrite_log import MissedRewrite
from .pattern import Bindings, Bound, Call, OneOf, Pattern, calls_in, match_node

Body = Callable[["Match", "Builder"], "Operand | ir.Value | None"]


@dataclass(frozen=True)
class Operand:
    """A bound name, with what is known about it. An absent optional input is an operand too: `present` is False."""

    name: str
    bound: Bound | None
    shapes: Shapes

    @property
    def present(self) -> bool:
        return self.bound is not None

    @property
    def value(self) -> ir.Value:
        """The value itself. Raises LookupError for an absent optional input."""
        if self.bound is None:
            raise LookupError(f"optional input {self.name!r} is absent")
        return self.bound.value

    @property
    def node(self) -> ir.Node:
        """The node of a call. Raises LookupError for a plain value."""
        if self.bound is None or self.bound.node is None:
            raise LookupError(f"{self.name!r} is not a call of the pattern")
        return self.bound.node

    @property
    def is_constant(self) -> bool:
        return self.bound is not None and ir.is_constant(self.bound.value)

    @property
    def array(self) -> ir.Array:
        """The content of a constant. Raises LookupError when it is none: require `constant(…)`."""
        content = ir.constant(self.value)
        if content is None:
            raise LookupError(f"{self.name!r} is not constant")
        return content

    def array_or(self, default: float) -> ir.Array:
        """The content of a constant, or `default` where the optional input is absent."""
        return self.array if self.present else np.asarray(default)

    @property
    def scalar(self) -> float | int | bool | None:
        """The number in a constant of one element, else None."""
        return ir.scalar(self.bound.value) if self.bound is not None else None

    @property
    def dtype(self) -> ir.DataType | None:
        return self.shapes.dtype(self.value)

    @property
    def rank(self) -> int | None:
        return self.shapes.rank(self.value)

    @property
    def dims(self) -> tuple[Dim, ...] | None:
        return self.shapes.dims(self.value)

    @property
    def static(self) -> tuple[int, ...] | None:
        """The dims, when all of them are known numbers."""
        return self.shapes.static(self.value)

    @property
    def attributes(self) -> Mapping[str, ir.Attr]:
        """The attributes that a call was given, to be handed on as they are."""
        return dict(self.node.attributes)

    def attribute(self, name: str) -> object:
        """An attribute of a call, or its schema default."""
        return ir.attribute(self.node, name)

    def number(self, name: str, default: float = 0.0) -> float:
        """A float attribute of a call, or its schema default, or `default`."""
        value = self.attribute(name)
        return float(value) if isinstance(value, (int, float)) else default

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute of a call, or its schema default, or `default`."""
        value = self.attribute(name)
        return value if isinstance(value, int) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An integer list attribute of a call, or its schema default, or None."""
        value = self.attribute(name)
        return tuple(int(each) for each in value) if isinstance(value, (list, tuple)) else None

    def parameter(self, name: str) -> object:
        """See `ir.parameter`: an attribute at some opsets, an input at others."""
        return ir.parameter(self.node, name)


@dataclass(frozen=True)
class Match:
    """One place where a pattern fits; `m.x` is what the name `x` of the pattern stands for."""

    root: ir.Node
    bindings: Bindings
    context: PassContext
    shapes: Shapes

    def __getattr__(self, name: str) -> Operand:
        if name.startswith("__") or name not in self.bindings:
            raise AttributeError(name)
        return Operand(name, self.bindings[name], self.shapes)

    def has(self, name: str) -> bool:
        """Whether the pattern's name `name` is bound here: an optional input that is given, the branch that fitted."""
        return self.bindings.get(name) is not None

    def variadic(self, name: str) -> list[Operand]:
        """The operands that `rest(name)` bound, in order."""
        found: list[Operand] = []
        while (key := f"{name}{len(found)}") in self.bindings:
            found.append(Operand(key, self.bindings[key], self.shapes))
        return found

    def nodes(self) -> list[ir.Node]:
        """The nodes of the match, the root first, each once."""
        found = [
            self.root,
            *(each.node for each in self.bindings.values() if each is not None and each.node is not None),
        ]
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Condition:
    """A legality condition: `text` says what must hold; `fault` gives the guilty value in words, or None.

    `is_pattern`: where it does not hold, the place is none for the rule at all, and no near miss. `is_profit`: where it
    does not hold, the rewrite would be right, but is not expected to pay. `names`: what it refers to in the pattern,
    checked when a rule is registered.
    """

    text: str
    fault: Callable[[Match], str | None]
    is_pattern: bool = False
    is_profit: bool = False
    names: tuple[str, ...] = ()


class Builder:
    """Makes the nodes of a replacement: `op.Conv(m.x, weight, strides=[1, 1])`. Nothing is in the graph before the rule
    has been permitted."""

    def __init__(self, match: Match, rule: str) -> None:
        self._match = match
        self._rule = rule
        self.nodes: list[ir.Node] = []
        self.replaced: list[tuple[ir.Value, ir.Value]] = []

    @property
    def opset(self) -> int:
        """The standard's opset where the replacement will stand."""
        graph = self._match.root.graph
        assert graph is not None
        return self._match.context.rewriter.imports_of(graph).get("", 0)

    def replace(self, old: Operand | ir.Value, new: ir.Value) -> None:
        """Let `new` stand for an inner value too, besides what the body returns for the root.

        Only for a value that nobody outside the match reads, the callers of the graph apart: `new` is made where the
        root stands.
        """
        self.replaced.append((old.value if isinstance(old, Operand) else old, new))

    def constant(self, content: ir.Array | float | int | bool, *, like: Operand | None = None) -> ir.Value:
        """A constant; in the element type of `like`, when that is given."""
        array = np.asarray(content)
        if like is not None:
            dtype = like.dtype
            if dtype is None:
                raise LookupError(f"the type of {like.name!r} is not known")
            array = array.astype(dtype.numpy())
        return ir.pending_constant(array, name=f"{where(self._match.root)}_constant")

    def node(
        self,
        op_type: str,
        inputs: Sequence[Operand | ir.Value | None],
        outputs: int = 1,
        *,
        domain: str = "",
        version: int | None = None,
        attributes: Mapping[str, ir.AttributeValue | ir.Attr | None] | None = None,
        unwanted: Sequence[int] = (),
    ) -> Sequence[ir.Value]:
        """A node with several outputs. `version` says the opset of a domain that the model does not import yet.

        `unwanted`: the places of optional outputs that are left out.
        """
        rewriter = self._match.context.rewriter
        graph = self._match.root.graph
        assert graph is not None
        made = ir.new_node(
            op_type,
            [each.value if isinstance(each, Operand) and each.present else _value(each) for each in inputs],
            attributes,
            domain=domain,
            version=rewriter.imports_of(graph).get(domain, version),
            outputs=outputs,
            provenance=self._rule,
        )
        for index in unwanted:
            made.outputs[index].name = ""
        self.nodes.append(made)
        return made.outputs

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if op_type.startswith("__"):
            raise AttributeError(op_type)

        def call(
            *inputs: Operand | ir.Value | None,
            domain: str = "",
            version: int | None = None,
            **attributes: ir.AttributeValue | ir.Attr | None,
        ) -> ir.Value:
            return self.node(op_type, inputs, 1, domain=domain, version=version, attributes=attributes)[0]

        return call


def _value(given: Operand | ir.Value | None) -> ir.Value | None:
    return None if isinstance(given, Operand) else given


@dataclass(frozen=True)
class Rule:
    """A rewrite rule. See `rule` for what its parts mean."""

    name: str
    pattern: Pattern
    requires: tuple[Condition, ...]
    exactness: Exactness
    source: str
    group: str
    benefit: int
    body: Body
    doc: str
    module: str
    roots: tuple[tuple[str, str], ...]
    keeps_type: bool = False
    is_heuristic: bool = False

    @cached_property
    def demands(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """Sets of operators of which each must have one among those that make the inputs of a matching node.

        What the pattern says of its root's operands, to be asked before it is matched in earnest.
        """
        operands = (self.pattern.inputs or ()) if isinstance(self.pattern, Call) else ()
        calls = (_roots(operand) for operand in operands if operand is not None)
        return tuple(frozenset((call.domain, call.op_type) for call in each) for each in calls if each)

    def match(self, node: ir.Node, context: PassContext) -> Match | MissedRewrite | None:
        """The first legal match at `node`; else why the one that came furthest was refused; None where none fits."""
        miss: MissedRewrite | None = None
        furthest = -1
        shapes: Shapes | None = None
        for bindings in match_node(self.pattern, node):
            shapes = shapes or context.analyses.get(Shapes)
            match = Match(node, bindings, context, shapes)
            if any(condition.is_pattern and condition.fault(match) is not None for condition in self.requires):
                continue
            reached, fault = self._fault(match)
            if fault is None:
                return match
            if reached > furthest:
                miss, furthest = MissedRewrite(self.name, where(node), *fault), reached
        return miss

    def _fault(self, match: Match) -> tuple[int, tuple[str, str, bool] | None]:
        """What is not as it must be, and how many conditions held before."""
        if (guarded := self._guards(match)) is not None:
            return 0, (*guarded, False)
        is_forced = self.name in match.context.settings.force
        for index, condition in enumerate(self._conditions):
            if condition.is_profit and is_forced:
                continue
            if (fault := condition.fault(match)) is not None:
                return index, (condition.text, fault, condition.is_profit)
        return len(self._conditions), None

    @cached_property
    def _conditions(self) -> tuple[Condition, ...]:
        """The conditions that make near misses: what must hold first, what should pay after it."""
        return tuple(sorted((each for each in self.requires if not each.is_pattern), key=lambda each: each.is_profit))

    @cached_property
    def _shared(self) -> frozenset[str]:
        """The calls of the pattern that others may read too."""
        return frozenset(call.name for call in calls_in(self.pattern) if call.is_shared)

    def _guards(self, match: Match) -> tuple[str, str] | None:
        """What holds for every rule without being written: privacy of inner values, unread side outputs, one scope."""
        mine = set(match.nodes())
        for name, bound in match.bindings.items():
            if bound is None or bound.node is None:
                continue
            node = bound.node
            if node.op_identifier() in match.context.rewriter.model.functions:
                return "standard operators", f"{node.op_type} is a function of the model"
            if node is match.root:
                if any(ir.is_read(value) for value in node.outputs[1:]):
                    return "only the first output is read", f"another output of {where(node)} is read"
                continue
            if name in self._shared:
                continue
            if node.graph is not match.root.graph:
                return "one scope", f"{where(node)} is computed in another graph"
            if any(ir.is_read(value) for value in node.outputs[1:]):
                return "only the first output is read", f"another output of {where(node)} is read"
            if bound.value.is_graph_output():
                return f"{name} is used once", f"{where(node)} is a graph output"
            other = next((user for user, _ in bound.value.uses() if user not in mine), None)
            if other is not None:
                return f"{name} is used once", f"{where(node)} is also read by {where(other)}"
        return None


def rule(
    pattern: Pattern,
    *,
    requires: Sequence[Condition] = (),
    exactness: Exactness = Exactness.EXACT,
    source: str,
    group: str = "canonicalize",
    benefit: int = 0,
    name: str = "",
    keeps_type: bool = False,
    is_heuristic: bool = False,
) -> Callable[[Body], Rule]:
    """Decorator: a function `(m, op)` that builds the replacement becomes a registered rule.

    The function's name, dashed, is the rule's name; its docstring must have a `before:` and an `after:` line. `group`
    says which pass runs it (the one whose `groups` has it); among rules for one operator the higher `benefit` goes
    first.
    `keeps_type` says that the definition of the operators gives the result the type and dims of the value that the
    body returns; without it, an existing value must be proven to have them. The body returns the value that replaces
    the root's first output, or None to leave everything as it is.
    `is_choice`: the rewrite is right either way, and done because it is expected to pay: a tuner may think otherwise.
    Raises PipelineError for a rule that could not be read or trusted: what it declares is checked (`declaration.py`).
    """

    def decorate(body: Body) -> Rule:
        from .check_rule import declaration_faults  # which reads rules

        made = Rule(
            name or body.__name__.replace("_", "-"),
            pattern,
            tuple(requires),
            exactness,
            source,
            group,
            benefit,
            body,
            inspect.cleandoc(body.__doc__ or ""),
            body.__module__,
            tuple(dict.fromkeys((call.domain, call.op_type) for call in _roots(pattern))),
            keeps_type,
            is_heuristic,
        )
        reject(f"rule {made.name!r}", [*name_faults(made.name), *declaration_faults(made)])
        return REGISTRY.add_rule(made)

    return decorate


def _roots(pattern: Pattern) -> list[Call]:
    if isinstance(pattern, OneOf):
        return [call for choice in pattern.choices for call in _roots(choice)]
    return [pattern] if isinstance(pattern, Call) else []
