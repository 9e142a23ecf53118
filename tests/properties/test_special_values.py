"""Zeros with signs, infinities, NaN and the ends of the range: a rule changes them only where its exactness says so.

Each hit of a golden file is run with inputs that are one special number everywhere, and with all of them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import REGISTRY, Builder, Exactness, Match, Pipeline, Settings, Target, op, rule, values
from optimize_graph.passes.rewriting.constant_range import lost_range
from optimize_graph.passes.rewriting.constraints import constant
from optimize_graph.runtime import Feeds, SessionOptions, make_feeds, open_session
from optimize_graph.testing.golden import Case, parse
from support.catalogue import CASES
from support.cuda_operators import runs_on_cuda_alone

pytestmark = pytest.mark.slow

OPTIONS = SessionOptions(optimize=False, prepacking=False)


def specials(dtype: np.dtype, exactness: Exactness) -> list[float]:
    """Subnormal numbers may be flushed by what rounds."""
    info = np.finfo(dtype)
    found = [0.0, -0.0, np.inf, -np.inf, np.nan]
    smallest = float(info.smallest_subnormal)
    return [*found, smallest, -smallest, float(info.max), float(info.min)] if exactness is Exactness.EXACT else found


def ends(dtype: np.dtype) -> list[float]:
    """Numbers near the largest and the smallest normal one, and their roots, whose squares are near those."""
    info = np.finfo(dtype)
    largest, smallest = float(info.max), float(info.tiny)
    return [
        largest,
        -largest,
        largest / 4,
        -largest / 4,
        largest**0.5,
        smallest,
        -smallest,
        4 * smallest,
        smallest**0.5,
    ]


def feeds_at_the_ends(model: onnx.ModelProto) -> Iterator[Feeds]:
    """One input at a time, then all, filled with a number near an end of the range, with both signs, or with all."""
    usual = make_feeds(ir.from_proto(model), seed=0)
    floats = [name for name, each in usual.items() if np.asarray(each).dtype.kind == "f" and np.asarray(each).size]
    for names in [*([name] for name in floats), floats] if len(floats) > 1 else [floats]:
        arrays = {name: np.asarray(usual[name]) for name in names}
        count = len(ends(np.dtype(np.float32)))
        picks = [[index] for index in range(count)] + [[0, 1], [2, 3], [5, 6], list(range(count))]
        for pick in picks if arrays else []:
            changed = {
                name: np.resize(np.array(ends(each.dtype), each.dtype)[pick], each.shape)
                for name, each in arrays.items()
            }
            yield {**usual, **changed}


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
                same = want.tobytes() == got.tobytes()
            elif exactness is Exactness.EXACT:
                same = np.array_equal(want, got, equal_nan=True) and np.array_equal(
                    np.signbit(want[~np.isnan(want)]), np.signbit(got[~np.isnan(got)])
                )
            else:
                same = np.array_equal(kinds(want), kinds(got))
            if not same:
                inputs = {key: np.asarray(each).reshape(-1)[:9] for key, each in feeds.items()}
                return f"{inputs}: {want.reshape(-1)[:9]} became {got.reshape(-1)[:9]}"
    return None


def loss_at_the_ends(before: onnx.ModelProto, after: onnx.ModelProto) -> str | None:
    """The first result that is not finite, or 0, where the original gives a normal number; in words."""
    sessions = [open_session(each.SerializeToString(), OPTIONS) for each in (before, after)]
    for feeds in feeds_at_the_ends(before):
        wanted, given = (each.run(feeds) for each in sessions)
        for name in wanted:
            want, got = np.asarray(wanted[name]), np.asarray(given[name])
            if want.dtype.kind != "f" or want.shape != got.shape:
                continue
            is_normal = np.isfinite(want) & (np.abs(want) >= np.finfo(want.dtype).tiny)
            lost = is_normal & (~np.isfinite(got) | (got == 0))
            if lost.any():
                inputs = {key: np.asarray(each).reshape(-1)[:4] for key, each in feeds.items()}
                return f"{inputs}: {want[lost][:4]} became {got[lost][:4]}"
    return None


@cache
def rewritten(case: Case) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    proto = parse(case.before)
    model = ir.from_proto(proto)
    Pipeline.parse(f"rewrite{{rules={case.rule}}},dce").run(model, [], settings=Settings(Target(case.target)))
    return proto, ir.to_proto(model)


SHOWN_ELSEWHERE = {
    # the other orders of these products differ as reassociate-constant-matmuls shows, or a guard hides NaN
    "fuse-sdpa",
    "merge-lora",
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
        assert loss_at_the_ends(before, after) is None


@pytest.mark.parametrize("rule", sorted({case.rule for case in HITS}))
def test_a_rule_of_the_class_special_values_shows_it_in_a_golden_case(rule: str) -> None:
    if REGISTRY.rules[rule].exactness is Exactness.SPECIAL_VALUES and rule not in SHOWN_ELSEWHERE:
        pairs = [rewritten(case) for case in HITS if case.rule == rule]
        assert any(difference(*pair, Exactness.ROUNDING) or loss_at_the_ends(*pair) for pair in pairs)


@pytest.mark.parametrize("claimed", [Exactness.EXACT, Exactness.ROUNDING])
def test_a_rule_that_is_labelled_more_exact_than_it_is_is_caught(claimed: Exactness) -> None:
    case = next(each for each in HITS if each.rule == "pow-half-to-sqrt" and "infinity" in each.title)
    assert difference(*rewritten(case), claimed) is not None


FAR = [
    ("float", 1e30, 1e30, "overflow in FLOAT"),
    ("float", 1e-30, 1e-30, "0, below the numbers of FLOAT"),
    ("float", 1e-20, 1e-20, "below the normal numbers of FLOAT"),
    ("float16", 300, 300, "overflow in FLOAT16"),
    ("float16", 1e-3, 1e-3, "below the normal numbers of FLOAT16"),
    ("double", 1e200, 1e200, "overflow in DOUBLE"),
]


def scaled(dtype: str, one: float, other: float, operator: str) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 19]> g ({dtype}[4] x) => ({dtype}[4] y) {{
            a = {operator}(x, c)  y = {operator}(a, d) }}"""
    )
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(number, kind), name) for name, number in (("c", one), ("d", other))
    )
    return proto


@pytest.mark.parametrize("operator", ["Mul", "Div"])
@pytest.mark.parametrize(("dtype", "one", "other", "because"), FAR)
def test_scales_whose_product_leaves_the_range_of_their_type_stay_two(
    dtype: str, one: float, other: float, because: str, operator: str
) -> None:
    before = scaled(dtype, one, other, operator)
    result = optimize(before, options=Options(verify=False, strict=True))
    assert sum(node.op_type in ("Mul", "Div") for node in ir.nodes(result.model)) == 2
    assert loss_at_the_ends(before, ir.to_proto(result.model)) is None


@pytest.mark.parametrize(("dtype", "one", "other", "because"), FAR)
def test_a_rule_that_does_not_look_at_the_product_of_scales_is_refused(
    dtype: str, one: float, other: float, because: str
) -> None:
    x, c, d = values("x c d")

    def merge(m: Match, op: Builder) -> ir.Value:
        """Multiply by the product.

        before:  y = Mul(Mul(x, c), d)
        after:   y = Mul(x, c * d)
        """
        with np.errstate(all="ignore"):
            return op.Mul(m.x, op.constant(m.c.array * m.d.array))

    with REGISTRY.scope():
        rule(op.Mul(op.Mul(x, c).named("inner"), d), requires=[constant("c", "d")], source="a test", name="test-merge")(
            merge
        )
        report = Pipeline.parse("rewrite{rules=test-merge}").run(ir.from_proto(scaled(dtype, one, other, "Mul")))
        (miss,) = report.missed
        assert miss.condition == "constants within the range of their type" and because in miss.because
        fired = Pipeline.parse("rewrite{rules=test-merge}").run(ir.from_proto(scaled(dtype, 1.5, 0.25, "Mul")))
        assert len(fired.rewrites) == 1


@pytest.mark.parametrize(("one", "other"), [(1e30, 1e-30), (1e-10, 1e-10), (3, 4)])
def test_scales_whose_product_is_a_normal_number_become_one(one: float, other: float) -> None:
    before = scaled("float", one, other, "Mul")
    result = optimize(before, options=Options(verify=False, strict=True))
    assert sum(node.op_type == "Mul" for node in ir.nodes(result.model)) < 2
    assert loss_at_the_ends(before, ir.to_proto(result.model)) is None


def test_the_result_says_which_rules_may_change_special_values() -> None:
    text = "g (float[2] x) => (float[2] y) <float half = {0.5}> { y = Pow(x, half) }"
    result = optimize(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>{text}'), options=Options())
    (remark,) = [each for each in result.remarks if each.code == "special-values"]
    assert "pow-half-to-sqrt" in remark.message


@pytest.mark.parametrize(("operator", "is_lost"), [("Add", False), ("Sub", False), ("Mul", True), ("Div", True)])
def test_an_addend_may_have_subnormal_elements_and_a_factor_not(operator: str, is_lost: bool) -> None:
    """An element of 3e-5 of a bias, which float16 rounds by 3e-8, is rounded by no more than the sum is."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 19]> g (float16[n,2] x) => (float16[n,2] y) {{
            a = {operator}(x, c)  y = Mul(a, s) }}"""
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1e-4, 2], np.float16), "c"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.3, np.float16), "s"))
    model = ir.from_proto(proto)
    constant = ir.pending_constant(np.array([3e-5, 0.6], np.float16))
    node = ir.new_node(operator, [model.graph.inputs[0], constant], version=19)
    assert bool(lost_range([node], node.outputs[0], list(model.graph))) is is_lost
