"""Planted bugs: a rule's own models reveal it when its results keep type and shape and are wrong."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import numpy as np
import onnx

from .. import ir
from ..passes import REGISTRY, Builder, Exactness, Match
from ..passes.pipeline.pass_ import PassFailure
from ..passes.rewriting.operand import Operand
from ..passes.rewriting.rewrite_rule import Rule
from .differential import Disagreement, attends_to_nothing, compare, optimized, outputs_of, session_of
from .variation_feeds import feeds_for
from .variations import Subject

FOUND = (Disagreement, PassFailure)
"""Another result, or rewriting that does not end: the wrong result of one rewrite may be what the rule starts from."""

Mutation = Callable[[ir.Value, Match, Builder], ir.Value]


def magnitude(value: ir.Value, op: Builder) -> ir.Value:
    """The magnitude, in operators that no rule takes up."""
    return op.Sqrt(op.Mul(value, value))


def shifted(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The result plus one and its magnitude (a normalization would not notice one alone); the opposite of a truth.

    Written so that no rule takes it up again.
    """
    dtype = m.shapes.dtype(m.root.outputs[0])
    assert dtype is not None
    one = op.constant(np.ones((), dtype.numpy()))
    if dtype == ir.DataType.BOOL:
        return op.Xor(value, one)
    return op.Sum(value, magnitude(value, op), one) if dtype.is_floating_point() else op.Add(value, one)


def a_little_off(value: ir.Value, m: Match, op: Builder, share: float = 0.01) -> ir.Value:
    """The result 1 % off, where it is a float; a half, which is compared within 256 eps of the largest inside, more."""
    dtype = m.shapes.dtype(m.root.outputs[0])
    if dtype == ir.DataType.FLOAT16:
        share *= 2000
    if dtype is None or not dtype.is_floating_point():
        return shifted(value, m, op)
    rank = m.shapes.rank(m.root.outputs[0]) or 0  # of a lower rank, a rule would take it for its own place
    return op.Sum(value, op.Mul(magnitude(value, op), op.constant(np.full((1,) * rank, share, dtype.numpy()))))


def an_ulp_off(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The last bit of the result, where it is a float: nothing less may be noticed of an exact rule."""
    return a_little_off(value, m, op, share=float(np.finfo(np.float32).eps))


def backwards(value: ir.Value, m: Match, op: Builder) -> ir.Value:
    """The result with its last axis turned around; shifted where it has none, or one that is known to be short."""
    dims = m.shapes.dims(m.root.outputs[0])
    if not dims or dims[-1] in (0, 1) or (m.root.version or 0) < 10:
        return shifted(value, m, op)
    bounds = [op.constant(np.array([each])) for each in (-1, np.iinfo(np.int64).min, -1, -1)]
    return op.Slice(value, *bounds)


MUTATIONS = (shifted, a_little_off, backwards)


def planted(rule: Rule, mutation: Mutation) -> Rule:
    """The rule with a wrong body, which the registry takes for another definition of the same."""

    @functools.wraps(rule.body)
    def body(m: Match, op: Builder) -> Operand | ir.Value | None:
        made = rule.body(m, op)
        if made is None:
            return None
        if all(ir.is_constant(value) for value in m.root.inputs):
            return (
                made if isinstance(made, (ir.Value, Operand)) else None
            )  # it would be folded, and then be wrong again
        assert isinstance(made, (ir.Value, Operand))
        return mutation(made.value if isinstance(made, Operand) else made, m, op)

    return dataclasses.replace(rule, body=body)


def plant(rules: Iterable[Rule], mutation: Mutation) -> None:
    """Put a bug into rules of the registry; within `REGISTRY.scope()`."""
    for rule in rules:
        REGISTRY.add_rule(planted(rule, mutation))


def compare_on(
    model: onnx.ModelProto,
    pipeline: str,
    feeds: Iterable[tuple[dict[str, np.ndarray], bool]],
    target: str = "ort-cpu",
) -> None:
    """Raise Disagreement where the model and what a pipeline makes of it differ on some of the inputs."""
    try:
        before = session_of(model.SerializeToString())
        runs = [
            (each, wanted, is_finite) for each, is_finite in feeds if (wanted := outputs_of(before, each)) is not None
        ]
    except Exception:  # ONNX Runtime has no kernel for something
        return
    if not runs:  # nothing to compare with
        return
    report, result = optimized(model, pipeline, target=target)
    exact = report.log.exactness is Exactness.EXACT
    after, produced = session_of(result), onnx.load_from_string(result)
    for each, wanted, is_finite in runs:
        if (is_finite or exact) and not attends_to_nothing(produced, each):
            compare(model, each, wanted, after, exact=exact)


def reveals(subjects: Iterable[Subject], rule: str, mutation: Mutation) -> bool:
    """Whether some subject of a rule gives another result when `mutation` is planted in the rule."""
    with REGISTRY.scope():
        plant([REGISTRY.rules[rule]], mutation)
        try:
            for subject in subjects:
                feeds = (each for seed in range(4) for each in feeds_for(subject.model, seed))
                compare_on(subject.model, subject.pipeline, feeds, subject.target)
        except FOUND:
            return True
    return False
