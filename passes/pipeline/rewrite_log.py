"""The log of a run: every rewrite numbered, every missed rewrite with its reason.

A rewrite asks `try_rewrite` before it changes anything. That is the one place that decides whether it is allowed: the
limit, excluded rules and rewrites, and the numbers over which fault isolation bisects.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .exactness import Exactness

Group: TypeAlias = tuple[str, str]
"""A rule and the signature of its rewrites."""


class Sketched(NamedTuple):
    """An operator in a drawing, and the indices of its operands' producers."""

    operator: str
    reads: tuple[int, ...]


Sketch: TypeAlias = tuple[Sketched, ...]


@dataclass(frozen=True)
class Rewrite:
    """One rewrite: `rule` at the value called `where`.

    `signature`: the operators that it replaced and the dims, equal for rewrites of one kind. `drawing`: the operators
    before and after, as graphs.
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
        """The key of rewrites of one kind, which pay together or not at all."""
        return self.rule, self.signature

    def __str__(self) -> str:
        return f"#{self.number} {self.rule} at {self.where}: {self.before} -> {self.after}"

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values, without the drawing."""
        plain = {name: each for name, each in vars(self).items() if name != "drawing"}
        return {**plain, "exactness": self.exactness.name.lower()}


@dataclass(frozen=True)
class MissedRewrite:
    """A missed rewrite: the pattern of `rule` matched at `where`, and `condition` did not hold because of `because`.

    `is_profit`: the rewrite would be right, but is not expected to pay. `is_fault`: the rule is faulty
    there, not inapplicable; a run that excludes faulty rules excludes it.
    """

    rule: str
    where: str
    condition: str
    because: str
    is_profit: bool = False
    is_fault: bool = False

    def __bool__(self) -> bool:
        return False

    def to_json(self) -> dict[str, object]:
        """What it says, without what it is for."""
        return {"rule": self.rule, "where": self.where, "condition": self.condition, "because": self.because}

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: missed, requires {self.condition}: {self.because}"


@dataclass(frozen=True)
class Exclusions:
    """What a run excludes: rules and passes by `names`, rewrites by `places` (rule, where) and by `groups`.

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
        """Whether a rewrite is excluded."""
        if self.inexact and exactness is not Exactness.EXACT:
            return True
        return rule in self.names or (rule, where) in self.places or (rule, signature) in self.groups


@dataclass
class RuleUse:
    """How often a rule was tried on a node and fired, and the seconds that both took."""

    tried: int = 0
    fired: int = 0
    seconds: float = 0.0


def _signature(before: str, dims: str) -> str:
    return f"{before} {dims}" if dims else before


@dataclass
class RewriteLog:
    """The rewrites and missed rewrites of one run. `limit`: how many rewrites are allowed. `uses`: by rule."""

    limit: int | None = None
    exclusions: Exclusions = field(default_factory=Exclusions)
    rewrites: list[Rewrite] = field(default_factory=list)
    uses: dict[str, RuleUse] = field(default_factory=lambda: defaultdict(RuleUse))
    _missed: dict[tuple[str, str], MissedRewrite] = field(default_factory=dict)

    def allows(self, rule: str, where: str, before: str, exactness: Exactness, dims: str = "") -> bool:
        """Whether `try_rewrite` would allow it: asked before the body runs."""
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
        """Number and record the next rewrite; False where it is not allowed.

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
        """Record a missed rewrite; it replaces an earlier one of the same rule at the same value."""
        self._missed[miss.rule, miss.where] = miss

    @property
    def missed(self) -> list[MissedRewrite]:
        """The missed rewrites that were not done later, in the order in which they were first met."""
        return list(self._missed.values())

    @property
    def exactness(self) -> Exactness:
        """The class of the least exact rewrite."""
        return max((rewrite.exactness for rewrite in self.rewrites), default=Exactness.EXACT)

    def by_rule(self) -> Counter[str]:
        """How often each rule fired."""
        return Counter(rewrite.rule for rewrite in self.rewrites)
