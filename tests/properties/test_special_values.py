"""Zeros with signs, infinities, NaN and the ends of the range: a rule changes them only where its exactness says so.

Each hit of a golden file is run with inputs that are one special number everywhere, and with all of them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

import numpy as np
import onnx
import onnx.parser
import pytest
from cuda_operators import runs_on_cuda_alone
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import REGISTRY, Exactness, Pipeline, Settings
from optimize_graph.runtime import Feeds, SessionOptions, make_feeds, open_session
from test_golden import CASES, Case, parse

OPTIONS = SessionOptions(optimize=False, prepacking=False)


def specials(dtype: np.dtype, exactness: Exactness) -> list[float]:
    """At the ends of the range sums and products overflow sooner or later as they are ordered: that is rounding."""
    info = np.finfo(dtype)
    found = [0.0, -0.0, np.inf, -np.inf, np.nan]
    ends = [float(info.smallest_subnormal), -float(info.smallest_subnormal), float(info.max), float(info.min)]
    return [*found, *ends] if exactness is Exactness.EXACT else found


def feeds_of(model: onnx.ModelProto, exactness: Exactness) -> Iterator[Feeds]:
    """One input at a time filled with a special number, or with all of them in turn; the others as they are made."""
    usual = make_feeds(ir.from_proto(model), seed=0)
    for name, given in usual.items():
        content = np.asarray(given)
        if content.dtype.kind != "f" or not content.size:
            continue
        numbers = specials(content.dtype, exactness)
        for number in numbers:
            yield {**usual, name: np.full_like(content, number)}
        yield {**usual, name: np.resize(np.array(numbers, content.dtype), content.shape)}
    floats = [name for name, each in usual.items() if np.asarray(each).dtype.kind == "f"]
    for left, right in combinations(floats[:3], 2):
        a, b = np.asarray(usual[left]), np.asarray(usual[right])
        for x, y in product(specials(a.dtype, exactness), specials(b.dtype, exactness)):
            yield {**usual, left: np.full_like(a, x), right: np.full_like(b, y)}


def kinds(content: np.ndarray) -> np.ndarray:
    """-1, 0, 1 for -inf, what is finite, +inf, and 2 for NaN."""
    return np.where(np.isnan(content), 2.0, np.where(np.isinf(content), np.sign(content), 0.0))


def difference(before: onnx.ModelProto, after: onnx.ModelProto, exactness: Exactness) -> str | None:
    """The first result that differs more than `exactness` allows, in words."""
    sessions = [open_session(each.SerializeToString(), OPTIONS) for each in (before, after)]
    for feeds in feeds_of(before, exactness):
        wanted, given = (each.run(feeds) for each in sessions)
        for name in wanted:
            want, got = np.asarray(wanted[name]), np.asarray(given[name])
            if want.dtype.kind != "f":
                continue
            if exactness is Exactness.EXACT:
                same = np.array_equal(want, got, equal_nan=True) and np.array_equal(
                    np.signbit(want[~np.isnan(want)]), np.signbit(got[~np.isnan(got)])
                )
            else:
                same = np.array_equal(kinds(want), kinds(got))
            if not same:
                inputs = {key: np.asarray(each).reshape(-1)[:9] for key, each in feeds.items()}
                return f"{inputs}: {want.reshape(-1)[:9]} became {got.reshape(-1)[:9]}"
    return None


@cache
def rewritten(case: Case) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    proto = parse(case.before)
    model = ir.from_proto(proto)
    Pipeline.parse(f"rewrite{{rules={case.rule}}},dce").run(model, [], settings=Settings(target=case.target))
    return proto, ir.to_proto(model)


SHOWN_ELSEWHERE = {
    # the other orders of these products differ as multiply-constant-matrices shows, or a guard hides NaN
    "attention-over-heads-on-cuda",
    "merge-low-rank-adapter",
}

HITS = [case for case in CASES if case.after is not None]


@pytest.mark.parametrize("case", HITS, ids=str)
def test_special_values_stay_where_the_exactness_of_the_rule_says_so(case: Case) -> None:
    exactness = REGISTRY.rules[case.rule].exactness
    if exactness > Exactness.ROUNDING:
        return
    before, after = rewritten(case)
    if not runs_on_cuda_alone(after):
        assert difference(before, after, exactness) is None


@pytest.mark.parametrize("rule", sorted({case.rule for case in HITS}))
def test_a_rule_of_the_class_special_values_shows_it_in_a_golden_case(rule: str) -> None:
    if REGISTRY.rules[rule].exactness is Exactness.SPECIAL_VALUES and rule not in SHOWN_ELSEWHERE:
        pairs = [rewritten(case) for case in HITS if case.rule == rule]
        assert any(difference(*pair, Exactness.ROUNDING) is not None for pair in pairs)


@pytest.mark.parametrize("claimed", [Exactness.EXACT, Exactness.ROUNDING])
def test_a_rule_that_is_labelled_more_exact_than_it_is_is_caught(claimed: Exactness) -> None:
    case = next(each for each in HITS if each.rule == "half-power-is-root" and "infinity" in each.title)
    assert difference(*rewritten(case), claimed) is not None


def test_the_result_says_which_rules_may_change_special_values() -> None:
    text = "g (float[2] x) => (float[2] y) <float half = {0.5}> { y = Pow(x, half) }"
    result = optimize(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>{text}'), options=Options())
    (remark,) = [each for each in result.remarks if each.code == "special-values"]
    assert "half-power-is-root" in remark.message
