"""The journal: every rewrite numbered, every near miss with its reason, and the permission to go on.

A rewrite asks `permit` before it touches anything. That one place is where `Limit(n)` stops the n-th, where a disabled
rule or an excluded place is passed over, and where the numbers come from that bisection halves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .exactness import Exactness

Group: TypeAlias = tuple[str, str]
"""A rule and the signature of its rewrites."""


class Sketched(NamedTuple):
    """An operator in a drawing, and the places in it of those whose results it reads."""

    operator: str
    reads: tuple[int, ...]


Sketch: TypeAlias = tuple[Sketched, ...]


@dataclass(frozen=True)
class Rewrite:
    """One rewrite that was done: `rule` at the value called `where`.

    `signature` is what it has in common with others of its kind: the operators that it replaced, and the dims.
    `drawing`: what stood there before and after, where that is more than a list.
    """

    number: int
    rule: str
    where: str
    before: str
    after: str
    exactness: Exactness
    signature: str = ""
    drawing: tuple[Sketch, Sketch] | None = field(default=None, repr=False, compare=False)

    @property
    def group(self) -> Group:
        """Those of its kind, which are worth doing together or not at all."""
        return self.rule, self.signature

    def __str__(self) -> str:
        return f"#{self.number} {self.rule} at {self.where}: {self.before} -> {self.after}"

    def to_json(self) -> dict[str, object]:
        plain = {name: each for name, each in vars(self).items() if name != "drawing"}
        return {**plain, "exactness": self.exactness.name.lower()}


@dataclass(frozen=True)
class MissedRewrite:
    """One near miss: the pattern of `rule` matched at `where`, and `condition` did not hold because of `because`.

    `is_profit`: the rewrite would be right, but is not expected to pay. `is_fault`: the rule is wrong there, not the
    place unsuitable; a run that excludes faulty rules excludes it.
    """

    rule: str
    where: str
    condition: str
    because: str
    is_profit: bool = False
    is_fault: bool = False

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: refused, needs {self.condition}: {self.because}"


@dataclass(frozen=True)
class Exclusions:
    """What is left out of a run: rules and passes by `names`, rewrites by `places` (rule, where) and by `groups`.

    `inexact`: all rewrites that are not exact, too.
    """

    names: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()
    groups: frozenset[Group] = frozenset()
    inexact: bool = False

    def __or__(self, other: Exclusions) -> Exclusions:
        return Exclusions(
            self.names | other.names,
            self.places | other.places,
            self.groups | other.groups,
            self.inexact or other.inexact,
        )

    def forbids(self, rule: str, where: str, signature: str, exactness: Exactness) -> bool:
        """Whether a rewrite is left out."""
        if self.inexact and exactness is not Exactness.EXACT:
            return True
        return rule in self.names or (rule, where) in self.places or (rule, signature) in self.groups


def _signature(before: str, dims: str) -> str:
    return f"{before} {dims}" if dims else before


@dataclass
class RewriteLog:
    """What happened in one run of a pipeline, and what may happen: `limit` allows that many rewrites in all."""

    limit: int | None = None
    exclusions: Exclusions = field(default_factory=Exclusions)
    rewrites: list[Rewrite] = field(default_factory=list)
    _missed: dict[tuple[str, str], MissedRewrite] = field(default_factory=dict)

    def allows(self, rule: str, where: str, before: str, exactness: Exactness, dims: str = "") -> bool:
        """Whether `permit` would say yes: asked before anything is built, so that what is left out is not even run."""
        if self.limit is not None and len(self.rewrites) >= self.limit:
            return False
        return not self.exclusions.forbids(rule, where, _signature(before, dims), exactness)

    def try_rewrite(
        self,
        rule: str,
        where: str,
        before: str,
        after: str,
        exactness: Exactness = Exactness.EXACT,
        dims: str = "",
        drawing: tuple[Sketch, Sketch] | None = None,
    ) -> bool:
        """Number and record the rewrite that is about to be done, or say that it must not be.

        `dims`: of what it replaces, where rewrites that differ in them may differ in profit.
        """
        if not self.allows(rule, where, before, exactness, dims):
            return False
        number = len(self.rewrites) + 1
        signature = _signature(before, dims)
        self.rewrites.append(Rewrite(number, rule, where, before, after, exactness, signature, drawing))
        self._missed.pop((rule, where), None)
        return True

    def miss(self, miss: MissedRewrite) -> None:
        """Record a near miss; a later one of the same rule at the same place takes its place."""
        self._missed[miss.rule, miss.where] = miss

    @property
    def missed(self) -> list[MissedRewrite]:
        """The near misses that still stand, in the order in which they were first met."""
        return list(self._missed.values())

    @property
    def exactness(self) -> Exactness:
        """That of the least exact rewrite that was done."""
        return max((rewrite.exactness for rewrite in self.rewrites), default=Exactness.EXACT)

    def by_rule(self) -> Counter[str]:
        """How often each rule fired."""
        return Counter(rewrite.rule for rewrite in self.rewrites)
