"""A match of a pattern, and the conditions that it must meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast, overload

from ... import ir
from ..analyses import Shapes
from ..pipeline.pass_ import PassContext
from .operand import Operand
from .pattern import Bindings, Call, Pattern, Var

T = TypeVar("T")

UNMET = "it does not hold here"


@dataclass(frozen=True)
class Match:
    """One place where a pattern fits; `m.x` is what the name `x` of the pattern stands for."""

    root: ir.Node
    bindings: Bindings
    context: PassContext
    shapes: Shapes
    roots: tuple[ir.Node, ...] = ()
    computed: dict[object, object] = field(default_factory=dict, repr=False, compare=False)
    found: list[ir.Node] = field(default_factory=list, repr=False, compare=False)
    """Nodes that a condition found to be part of the match, besides those of the pattern."""

    def __getattr__(self, name: str) -> Operand:
        if name.startswith("__") or name not in self.bindings:
            raise AttributeError(name)
        return Operand(name, self.bindings[name], self.shapes)

    @overload
    def __getitem__(self, key: Var | Call) -> Operand: ...

    @overload
    def __getitem__(self, key: Let[T]) -> T: ...

    def __getitem__(self, key: Var | Call | Let[T]) -> Operand | T:
        """The operand of a part of the pattern, or what a `let` of the rule computed here."""
        if isinstance(key, (Var, Call)):
            return Operand(key.name, self.bindings[key.name], self.shapes)
        return cast("T", self.computed[key])

    def operand(self, name: str) -> Operand:
        """The operand of a name that is chosen at run time. Raises LookupError for one that is not bound."""
        return Operand(name, self.bindings[name], self.shapes)

    def has(self, name: str) -> bool:
        """Whether the pattern's name `name` is bound here: an optional input that is given, the branch that fitted."""
        return self.bindings.get(name) is not None

    def variadic(self, name: str) -> list[Operand]:
        """The operands that `variadic(name)` bound, in order."""
        found: list[Operand] = []
        while (key := f"{name}{len(found)}") in self.bindings:
            found.append(Operand(key, self.bindings[key], self.shapes))
        return found

    @property
    def anchor(self) -> ir.Node:
        """The first root in the order of the graph: the replacement is inserted before it."""
        if len(self.roots) <= 1 or self.root.graph is None:
            return self.root
        return next(node for node in self.root.graph if node in self.roots)

    def nodes(self) -> list[ir.Node]:
        """The nodes of the match, the root first, each once."""
        found = [
            self.root,
            *(each.node for each in self.bindings.values() if each is not None and each.node is not None),
            *self.found,
        ]
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Condition:
    """A legality condition: `text` says what must hold; `fault` why it does not, with the value, or None.

    `is_pattern`: a part of the pattern: where it does not hold, no rewrite is missed. `is_profit`: where it does not
    hold, the rewrite would be legal, but is not expected to pay. `names`: what it refers to in the pattern,
    checked when a rule is registered, as is what `functions` read of a match.
    """

    text: str
    fault: Callable[[Match], str | None]
    is_pattern: bool = False
    is_profit: bool = False
    names: tuple[str, ...] = ()
    functions: tuple[Callable[..., object], ...] = ()


class Let(Condition, Pattern, Generic[T]):
    """A condition that computes what the body needs: `m[it]` is what `compute` gave at this match.

    It does not hold where `compute` gives None, or a text: why not. On the right side of `rewrite` it stands for an
    operand, a constant or an attribute.
    """

    def __init__(self, text: str, compute: Callable[[Match], T | str | None], *, is_pattern: bool = False) -> None:
        def fault(match: Match) -> str | None:
            found = compute(match)
            if found is None or isinstance(found, str):
                return found or UNMET
            match.computed[self] = found
            return None

        super().__init__(text, fault, is_pattern=is_pattern, functions=(compute,))

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __str__(self) -> str:
        return "%computed"
