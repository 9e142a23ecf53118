"""Pipelines: their text, the registry, fixpoints, failures, instruments, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optimize_graph import ir
from optimize_graph.passes import (
    REGISTRY,
    Analysis,
    AnalysisManager,
    CheckFailed,
    Fixpoint,
    Instrument,
    MissedRewrite,
    Pass,
    PassContext,
    PassFailure,
    Pipeline,
    PrintIr,
    RewriteLog,
    Statistics,
    Timing,
    VerifyEach,
    register,
)

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N] x) => (float[N] y) <float c = {1}> {
  a = Identity(x)  b = Mul(a, c)  d = Exp(b)  e = Exp(b)  y = Add(d, e) }"""


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def model_of(text: str = TEXT) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


# --- text -------------------------------------------------------------------------------------------------------------

PLAIN = st.sampled_from(
    ["canonicalize", "constant-fold", "cse", "dce", "inline-functions", "fold-constant-if", "lift-constants"]
)
RULES = st.lists(
    st.sampled_from(["eliminate-nop-identity", "eliminate-nop-cast", "eliminate-nop-add"]),
    min_size=1,
    max_size=3,
    unique=True,
)
PASSES = st.one_of(
    PLAIN.map(lambda name: REGISTRY.passes[name]()),
    st.integers(0, 99).map(lambda limit: REGISTRY.passes["canonicalize"](limit=limit)),  # type: ignore[call-arg]
    st.integers(0, 1 << 40).map(lambda size: REGISTRY.passes["dedup-initializers"](transposed_bytes=size)),  # type: ignore[call-arg]
    RULES.map(lambda names: REGISTRY.passes["rewrite"](rules=tuple(names))),  # type: ignore[call-arg]
)
STEPS = st.recursive(
    PASSES,
    lambda inner: st.builds(Fixpoint, st.lists(inner, min_size=1, max_size=3).map(tuple), st.integers(1, 20)),
    max_leaves=6,
)


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_the_text_of_a_pipeline_reads_back_as_the_same_pipeline(steps: list[Pass | Fixpoint]) -> None:
    pipeline = Pipeline(tuple(steps))
    assert Pipeline.parse(str(pipeline)) == pipeline


def test_spaces_and_line_ends_do_not_matter() -> None:
    assert Pipeline.parse(" fixpoint { limit = 3 } ( dce ,\n cse ) ") == Pipeline.parse("fixpoint{limit=3}(dce,cse)")


@pytest.mark.parametrize("name", ["default", "exact"])
def test_a_preset_stands_for_its_steps(name: str) -> None:
    assert Pipeline.parse(name) == Pipeline.parse(REGISTRY.presets[name])
    assert Pipeline.parse(str(Pipeline.parse(name))) == Pipeline.parse(name)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("dce,unknown", "no pass or preset is called 'unknown'", 4),
        ("dce,eliminate-nop-identity", "that is a rule: write rewrite{rules=eliminate-nop-identity}", 4),
        ("dce{limt=3}", "has no option 'limt'", 4),
        ("canonicalize{limit=x}", "limit=x does not fit: 'canonicalize' wants int", 13),
        ("canonicalize{limit=1,limit=2}", "'limit' is given twice", 21),
        ("canonicalize{limit}", "expected '='", 18),
        ("fixpoint(dce", "expected ')'", 12),
        ("fixpoint dce", "expected '('", 9),
        ("fixpoint{limit=0}(dce)", "a number above 0", 0),
        ("fixpoint{limit=²}(dce)", "a number above 0", 0),
        ("fixpoint{speed=9}(dce)", "fixpoint has one option", 0),
        ("dce dce", "expected ',' or the end", 4),
        ("dce,", "expected the name of a pass", 4),
        ("", "expected the name of a pass", 0),
    ],
)
def test_an_error_in_the_text_has_a_caret_under_its_place(text: str, message: str, column: int) -> None:
    with pytest.raises(ir.PipelineError) as caught:
        Pipeline.parse(text)
    said = str(caught.value)
    assert message in said
    caret = next(line for line in said.splitlines() if line.strip().startswith("^"))
    assert caret.index("^") == 2 + column


def test_an_unknown_rule_in_an_option_is_named() -> None:
    with pytest.raises(ir.PipelineError, match="no rule is called drop-everything"):
        Pipeline.parse("rewrite{rules=drop-everything}").run(model_of())


# --- registry ---------------------------------------------------------------------------------------------------------


def test_a_name_is_given_once_whatever_it_names() -> None:
    with pytest.raises(ir.PipelineError, match=r"'dce' is registered by .*passes\.cleanup\.dce and again by"):
        REGISTRY.add_preset("dce", "cse", __name__)


def test_a_pass_of_ones_own_is_found_by_its_name_and_options() -> None:
    @register
    @dataclass(frozen=True)
    class Mine(Pass):
        """before: after:"""

        name: ClassVar[str] = "mine"
        ratio: float = 0.5
        deep: bool = False
        label: str | None = None

        def run(self, model: ir.Model, context: PassContext) -> None:
            """Nothing."""

    given = Pipeline.parse("mine{ratio=0.25,deep=true,label=here}")
    assert given.steps == (Mine(0.25, True, "here"),)
    assert str(given) == "mine{ratio=0.25,deep=true,label=here}"
    with pytest.raises(ir.PipelineError, match="deep=yes does not fit: 'mine' wants bool"):
        Pipeline.parse("mine{deep=yes}")


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_fixpoint_ends_when_nothing_changes_and_says_when_it_did_not() -> None:
    report = Pipeline.parse("fixpoint(canonicalize,cse,dce)").run(model_of(), [VerifyEach()])
    assert not report.remarks
    assert report.results[-1].changed is False
    short = Pipeline.parse("fixpoint{limit=1}(canonicalize,cse,dce)").run(model_of())
    (remark,) = short.remarks
    assert "still changing after 1 rounds: canonicalize, cse, dce" in remark.message


def test_the_second_run_does_nothing() -> None:
    first = Pipeline.parse("default").run(model_of(), [VerifyEach()])
    assert first.rewrites
    again = ir.from_proto(ir.to_bytes(first.model))
    assert not Pipeline.parse("default").run(again, [VerifyEach()]).rewrites
    assert ir.to_bytes(again) == ir.to_bytes(first.model)


def planted(name: str, action: object) -> None:
    @register
    @dataclass(frozen=True)
    class Planted(Pass):
        """before: after:"""

        def run(self, model: ir.Model, context: PassContext) -> None:
            action(model, context)  # type: ignore[operator]

        name: ClassVar[str] = "planted"

    assert name == "planted"


def raises(model: ir.Model, context: PassContext) -> None:
    context.rewriter.erase(next(node for node in model.graph if node.op_type == "Add"))


def shuffles(model: ir.Model, context: PassContext) -> None:
    first, last = model.graph[0], model.graph[-1]
    model.graph.remove(first)
    model.graph.insert_after(last, first)


def sneaks(model: ir.Model, context: PassContext) -> None:
    next(node for node in model.graph if node.op_type == "Exp").op_type = "Tanh"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (raises, "have users"),
        (shuffles, "malformed afterwards"),
        (sneaks, "without the Rewriter"),
    ],
)
def test_a_pass_that_breaks_the_model_is_named_and_excluded(action: object, reason: str) -> None:
    planted("planted", action)
    with pytest.raises(PassFailure, match=f"planted: .*{reason}"):
        Pipeline.parse("planted,exact").run(model_of(), [VerifyEach()])
    report = Pipeline.parse("planted,exact").run(model_of(), [VerifyEach()], on_failure="skip")
    assert [each.faulty for each in report.failures] == ["planted"]
    exclusions = Pipeline.parse("exact").run(model_of(), [VerifyEach()])
    assert ir.to_bytes(report.model) == ir.to_bytes(exclusions.model)


def test_a_malformed_model_is_an_error_at_the_end_without_an_option() -> None:
    def breaks(model: ir.Model, context: PassContext) -> None:
        shuffles(model, context)
        context.rewriter.changes += 1

    planted("planted", breaks)
    with pytest.raises(PassFailure, match="planted: the model is malformed afterwards"):
        Pipeline.parse("planted").run(model_of())


def test_where_the_original_comes_from_may_be_said() -> None:
    planted("planted", raises)
    fresh = model_of()
    report = Pipeline.parse("planted").run(model_of(), on_failure="skip", restore=lambda: fresh)
    assert report.model is fresh


def test_an_error_for_people_is_no_failure_of_the_pass() -> None:
    def complains(model: ir.Model, context: PassContext) -> None:
        raise ir.ModelError(ir.Diagnostic("some-code", "it cannot be"))

    planted("planted", complains)
    with pytest.raises(ir.ModelError):
        Pipeline.parse("planted").run(model_of(), on_failure="skip")


def test_an_instrument_may_reject_a_pass() -> None:
    class Stern(Instrument):
        def after_pass(self, name: str, model: ir.Model, changed: bool) -> None:
            if name == "cse":
                raise CheckFailed("I do not like it")

    report = Pipeline.parse("cse,dce").run(model_of(), [Stern()], on_failure="skip")
    assert [(each.faulty, each.reason) for each in report.failures] == [("cse", "I do not like it")]
    assert [each.name for each in report.results] == ["dce"]


def test_instruments_note_what_they_are_told() -> None:
    timing, statistics, printed = Timing(), Statistics(), []
    instruments = [timing, statistics, PrintIr(printed.append, after=frozenset({"cse"}))]
    Pipeline.parse("canonicalize,cse,inline-functions").run(model_of(), instruments)
    assert list(timing.seconds) == ["canonicalize", "cse", "inline-functions"]
    assert statistics.nodes == [("", 5), ("canonicalize", 3), ("cse", 2)]
    (shown,) = printed
    assert shown.startswith("// after cse\n<ir_version: 8")


# --- analyses ---------------------------------------------------------------------------------------------------------


class Base(Analysis):
    computed = 0

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Base:
        cls.computed += 1
        return cls()


class Following(Base):
    follows = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    def inserted(self, node: ir.Node) -> None:
        self.heard.append(node.op_type)

    def replaced(self, old: ir.Value, new: ir.Value) -> None:
        self.heard.append(f"{old.name} -> {new.name}")

    def refresh(self, model: ir.Model) -> None:
        self.heard.append("refresh")


class Circle(Base):
    """Needs itself, by way of another."""

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Base:
        return analyses.get(Round)


class Round(Base):
    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Base:
        return analyses.get(Circle)


def test_an_analysis_is_computed_once_until_the_model_changes() -> None:
    model = model_of()
    rewriter = ir.Rewriter(model)
    analyses = AnalysisManager(model, rewriter)
    first, following = analyses.get(Base), analyses.get(Following)
    assert analyses.get(Base) is first
    node = model.graph[0]
    new = rewriter.insert(ir.new_node("Neg", node.inputs, version=node.version), before=node)
    rewriter.redirect(node.outputs[0], new.outputs[0], before=node)
    assert analyses.get(Base) is not first
    assert analyses.get(Following) is following
    assert [following.heard[0], *following.heard[2:]] == ["Neg", "refresh"]
    rewriter.retype(new.outputs[0], ir.DataType.DOUBLE)
    assert analyses.get(Following) is not following


def test_analyses_that_need_each_other_are_an_error() -> None:
    with pytest.raises(ir.PipelineError, match="Circle needs Round needs Circle"):
        AnalysisManager(model_of()).get(Circle)


# --- journal ----------------------------------------------------------------------------------------------------------


def test_a_near_miss_that_comes_true_later_is_none() -> None:
    log = RewriteLog()
    log.miss(MissedRewrite("r", "x", "one thing", "another"))
    log.miss(MissedRewrite("r", "x", "another thing", "yet another"))
    log.miss(MissedRewrite("r", "y", "one thing", "another"))
    assert [each.condition for each in log.missed] == ["another thing", "one thing"]
    assert log.try_rewrite("r", "x", "a", "b")
    assert [each.where for each in log.missed] == ["y"]
    assert str(log.rewrites[0]) == "#1 r at x: a -> b"


# --- determinism ------------------------------------------------------------------------------------------------------

SCRIPT = """
import hashlib, sys
import onnx
from optimize_graph import ir
from optimize_graph.passes import Pipeline
from optimize_graph.runtime import OrtEvaluator
report = Pipeline.parse("default").run(ir.from_proto(onnx.load(sys.argv[1])), evaluator=OrtEvaluator())
print(hashlib.sha256(ir.to_bytes(report.model)).hexdigest(), len(report.rewrites), len(report.missed))
print(*report.rewrites, *report.missed, sep="\\n")
"""

MIXED = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (float[N,3,8,8] x, bool p) => (float[N,4,6,6] y, float[N,4,6,6] z, int64[2] s)
<float[4,3,3,3] w, float[4,1,1] c = {1, 2, 3, 4}, float[4,1,1] d = {1, 2, 3, 4}, float one = {1}, bool t = {1}> {
  a = Conv(x, w)  b = Mul(a, c)  e = f.twice <k = 0.5> (b)  h = f.twice <k = 0.5> (b)
  i = Add(e, h)  j = Mul(i, one)  k = If(t) <then_branch = q () => (r) { l = Neg(j)  r = Neg(l) },
                                             else_branch = u () => (v) { v = Abs(j) }>
  m = Add(k, d)  y = If(p) <then_branch = q2 () => (r2) { r2 = Add(m, c) }, else_branch = u2 () => (v2) { v2 = Abs(m) }>
  n = Shape(m)  two = Constant <value_ints = [1, 2]> ()  s = Gather(n, two)  z = Identity(m) }
<domain: "f", opset_import: ["": 21]> twice <k> (v) => (r) { a = LeakyRelu <alpha: float = @k> (v)  r = Add(a, a) }"""


def test_the_hash_seed_changes_nothing(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(MIXED)
    weight = next(value for value in proto.graph.value_info if value.name == "w")
    proto.graph.initializer.append(onnx.helper.make_tensor("w", 1, [4, 3, 3, 3], [0.25] * 108))
    proto.graph.value_info.remove(weight)
    onnx.save(proto, tmp_path / "in.onnx")
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "in.onnx")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    (said,) = outputs
    assert "fold-output-scale" in said


@pytest.mark.parametrize(("quantizer", "recognized"), [("q, s, z = DynamicQuantizeLinear(y)", 0), ("q = Neg(y)", 1)])
def test_nothing_is_recognized_before_a_quantizer_which_makes_a_step_of_a_rounding(
    quantizer: str, recognized: int
) -> None:
    dtype = "uint8" if "Dynamic" in quantizer else "float"
    model = ir.from_proto(
        onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 20]> g (float[n] x) => ({dtype}[n] q)
      <float root = {{1.4142135}}, float one = {{1}}, float half = {{0.5}}> {{
        d = Div(x, root)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half)  {quantizer} }}""")
    )
    Pipeline.parse("recognize").run(model, [VerifyEach()])
    assert [node.op_type for node in ir.nodes(model)].count("Gelu") == recognized
