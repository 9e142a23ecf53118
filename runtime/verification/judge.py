"""Judge outputs of a result: tolerances first, then distributions, near-ties and a float64 evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ... import ir
from ..arrays import is_inexact, leaves
from ..ort.session import TIME_LIMIT
from ..ort.session_options import Outputs
from .comparison import EXACT, Element, Tolerance, Verdict, compare
from .near_ties import forgiven
from .noise_floor import noise_floor, same_distribution
from .reference import Expectation, Reference

TRUTH_S = 60.0  # at most, for float64
AS_NEAR = 2.0
"""How many times as far from the float64 outputs as the original a result may be."""


class Judge:
    """Verdicts on one result; `worst` is the worst element of all, `floor` the largest noise that was relied on."""

    def __init__(self, reference: Reference, notes: dict[str, None]) -> None:
        self.reference = reference
        self.notes = notes
        self.until = float("inf")
        self.floor = 0.0
        self.worst: Element | None = None

    def judge(
        self, expected: Expectation, want: Outputs, got: Outputs, allowed: Mapping[str, Tolerance], *, exact: bool
    ) -> Verdict:
        """Compare outputs; unless `exact`, a difference beyond the noise is examined again."""
        verdict = compare(want, got, _bit_for_bit(allowed) if exact else allowed)
        if not verdict and not exact and self.reference.criteria.is_strict:
            verdict = self._as_distributions(verdict, expected, want, got, allowed)
        if not verdict and not exact and self.reference.has_second_look:
            verdict = self._second_look(verdict, expected, want, got, allowed)
        if verdict.worst is not None and (
            not verdict or self.worst is None or verdict.worst.relative > self.worst.relative
        ):
            self.worst = verdict.worst
        return verdict

    def _as_distributions(
        self, verdict: Verdict, expected: Expectation, want: Outputs, got: Outputs, allowed: Mapping[str, Tolerance]
    ) -> Verdict:
        """Accept outliers of outputs that amplify roundings, whose distribution agrees with the noise."""
        ours, theirs = leaves(want), leaves(got)
        alike = {
            path
            for path, floor in expected.noise.floors.items()
            if floor.amplifies and not floor.is_weak and path in ours and path in theirs
            if same_distribution(np.asarray(ours[path]), np.asarray(theirs[path]), floor)
        }
        again = compare(want, got, {**allowed, **dict.fromkeys(alike, Tolerance(values=False))})
        if not alike or not again:
            return verdict
        self.notes.setdefault(
            f"{', '.join(sorted(alike))}: a few elements are further off than the noise that was measured, whose "
            "distribution agrees"
        )
        return again

    def _second_look(
        self, verdict: Verdict, expected: Expectation, want: Outputs, got: Outputs, tolerances: Mapping[str, Tolerance]
    ) -> Verdict:
        """Accept near-ties that are decided the other way, and what is as near to float64 as the original is."""
        reference = self.reference
        allowed = dict(tolerances)
        ties = forgiven(reference.model, want, got, lambda value: reference.scores(value, expected))
        for name, count in ties.items():
            allowed[name] = Tolerance(values=False)
            self.notes.setdefault(f"{name}: {count} choices fell the other way between scores that agree")
        if ties and (again := compare(want, got, allowed)):
            return again
        left = self.until - time.monotonic()
        if left <= 0:
            raise out_of_time()
        true = reference.truth(expected, min(TRUTH_S, left))
        if true is None:
            return verdict
        # Integers stay the original's: one that the evaluator gets wrong would let anything pass.
        distance = noise_floor(true, [expected.plain], [want], grain=reference.grain)
        base = {name: true[name] if is_inexact(np.asarray(true[name])) else datum for name, datum in want.items()}
        near = distance.tolerances(factor=AS_NEAR)
        if again := compare(base, got, {path: _wider(each, near[path]) for path, each in allowed.items()}):
            self.floor = max(self.floor, distance.relative)
            self.notes.setdefault("as near to the float64 evaluation of the original as the original itself")
            return again
        return verdict


def out_of_time() -> ir.ModelError:
    """The error of a verification that reaches its time limit."""
    return ir.ModelError(ir.Diagnostic(TIME_LIMIT, "the time limit of verification is over"))


def _bit_for_bit(allowed: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
    """Exact tolerances, but for random outputs."""
    return {path: EXACT if tolerance.values else tolerance for path, tolerance in allowed.items()}


def _wider(one: Tolerance, other: Tolerance) -> Tolerance:
    """The larger tolerance of either for floats, and the first one's for the rest."""
    return replace(one, rtol=max(one.rtol, other.rtol), atol=max(one.atol, other.atol))
