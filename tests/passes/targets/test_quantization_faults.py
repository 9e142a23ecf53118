"""DequantizeLinear where ONNX Runtime's optimizer breaks it: the table of faults, conversions, rules and passes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.jobs.optimization.target_versions import convert_versions
from optimize_graph.passes import REGISTRY, AnalysisManager, Pass, PassContext, PassFailure, Pipeline, rule
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.pipeline.rewrite_log import RewriteLog
from optimize_graph.passes.rewriting.builder import Builder
from optimize_graph.passes.rewriting.driver import apply_rules
from optimize_graph.passes.rewriting.match import Match
from optimize_graph.passes.rewriting.pattern import op, values
from optimize_graph.passes.targets.quantization_faults import DOES_NOT_OPEN, WRONG_VALUES, broken_nodes
from optimize_graph.runtime import FeedSet, SessionOptions, open_session, verify

MOVED_OVER = {
    "Transpose": "t = Transpose(d)",
    "Reshape": "t = Reshape(d, flat)",
    "Slice": "t = Slice(d, one, two)",
    "Unsqueeze": "t = Unsqueeze(d, one)",
    "MaxPool": "e = Unsqueeze(d, one)  t = MaxPool<kernel_shape = [1]>(e)",
    "Identity, then Transpose": "e = Identity(d)  t = Transpose(e)",
}
ZERO_POINTS = {"absent": "", "zero": ", zero", "three": ", three"}
TABLE = [
    # dtype, zero point, opset, fault
    ("int8", "absent", 13, WRONG_VALUES),
    ("int8", "absent", 20, WRONG_VALUES),
    ("int8", "absent", 21, ""),
    ("int8", "absent", 23, ""),
    ("int8", "zero", 20, ""),
    ("int8", "three", 13, ""),
    ("int8", "zero", 21, DOES_NOT_OPEN),
    ("int8", "three", 23, DOES_NOT_OPEN),
    ("uint8", "absent", 20, ""),
    ("uint8", "three", 21, ""),
    ("int32", "absent", 20, WRONG_VALUES),
    ("int32", "absent", 21, DOES_NOT_OPEN),
    ("int32", "zero", 13, DOES_NOT_OPEN),
    ("int32", "zero", 21, DOES_NOT_OPEN),
]
X = np.arange(-12, 12).reshape(4, 6)


def model(dtype: str, zero_point: str, opset: int, change: str = MOVED_OVER["Transpose"], more: str = "") -> ir.Model:
    given = ZERO_POINTS[zero_point]
    number = {"absent": 0, "zero": 0, "three": 3}[zero_point]
    name = given.removeprefix(", ")
    constants = "float step = {0.25}, int64[1] flat = {-1}, int64[1] one = {1}, int64[1] two = {2}"
    constants += f", {dtype} {name} = {{{number}}}" if name else ""
    text = f"""<ir_version: 8, opset_import: ["": {opset}]> g ({dtype}[4,6] x) => (float y) <{constants}> {{
        d = DequantizeLinear(x, step{given})  {change}  y = Neg(t) {more} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return ir.from_proto(proto)


def run(model: ir.Model, *, optimized: bool) -> np.ndarray | None:
    dtype = {ir.DataType.INT8: "i1", ir.DataType.UINT8: "u1", ir.DataType.INT32: "i4"}[model.graph.inputs[0].dtype]
    try:
        session = open_session(ir.to_bytes(model), SessionOptions(optimize=optimized))
    except ir.ModelError:
        return None
    return np.asarray(session.run({"x": X.astype(dtype)})["y"])


def observed(model: ir.Model) -> str:
    want, got = (run(model, optimized=optimized) for optimized in (False, True))
    assert want is not None
    if got is None:
        return DOES_NOT_OPEN
    return "" if np.allclose(want, got) else WRONG_VALUES


def stated(model: ir.Model) -> str:
    faults = [fault for _, fault in broken_nodes(model, AnalysisManager(model).get(Shapes).dtype)]
    return faults[0] if faults else ""


@pytest.mark.parametrize("change", MOVED_OVER)
@pytest.mark.parametrize(("dtype", "zero_point", "opset", "fault"), TABLE)
def test_the_table_of_faults_is_what_the_installed_onnxruntime_does(
    dtype: str, zero_point: str, opset: int, fault: str, change: str
) -> None:
    given = model(dtype, zero_point, opset, MOVED_OVER[change])
    assert (stated(given), observed(given)) == (fault, fault)


@pytest.mark.parametrize(("zero_point", "opset"), [("absent", 13), ("absent", 20), ("zero", 21), ("zero", 23)])
@pytest.mark.parametrize("change", MOVED_OVER)
def test_a_broken_original_is_written_as_onnxruntime_does_not_break_it(
    zero_point: str, opset: int, change: str
) -> None:
    result = optimize(model("int8", zero_point, opset, MOVED_OVER[change]), options=Options(strict=True))
    want = run(model("int8", zero_point, opset, MOVED_OVER[change]), optimized=False)
    got = run(result.model, optimized=True)
    assert want is not None and got is not None and np.array_equal(want, got)
    assert "normalize-dequantize-zero-points" in {each.rule for each in result.rewrites}


# --- conversion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zero_point", "opset", "wanted"), [("zero", 20, 21), ("absent", 21, 20), ("absent", 23, 13)])
def test_a_conversion_respells_what_the_other_side_of_21_breaks(zero_point: str, opset: int, wanted: int) -> None:
    given = model("int8", zero_point, opset)
    if wanted < 20:
        wanted = 19
    fitted = convert_versions(given, wanted).model
    assert ir.standard_opset(fitted) == wanted
    assert (stated(fitted), observed(fitted)) == ("", "")


def test_a_conversion_that_onnxruntime_would_break_is_refused_with_what_to_do() -> None:
    with pytest.raises(ir.ModelError, match=r"DequantizeLinear cannot be used at opset 21.*'d'.*no session") as caught:
        convert_versions(model("int8", "three", 20), 21)
    assert caught.value.diagnostic.code == "opset-not-runnable"
    assert "keep opset 20" in caught.value.diagnostic.hint and "--target onnx" in caught.value.diagnostic.hint


def test_a_conversion_for_another_runtime_warns_of_what_onnxruntime_would_break() -> None:
    fitted = convert_versions(model("int8", "three", 20), 21, target="onnx")
    assert ir.standard_opset(fitted.model) == 21
    (warning,) = [each for each in fitted.remarks if each.severity is ir.Severity.WARNING]
    assert warning.code == "opset-not-runnable"


# --- rules and passes -------------------------------------------------------------------------------------------------

(x,) = values("x")


def _move(m: Match, op: Builder) -> ir.Value:
    """Put two Transpose nodes next to what gives `x`.

    before:  y = Neg(Relu(x))
    after:   y = Neg(Relu(Transpose(Transpose(x))))
    """
    there = op.Transpose(m.x, perm=[1, 0])
    return op.Neg(op.Relu(op.Transpose(there, perm=[1, 0])))


with REGISTRY.scope():
    MOVE = rule(op.Neg(op.Relu(x)), source="a test", name="test-move")(_move)


def moved(dtype: str, zero_point: str, opset: int) -> tuple[ir.Model, RewriteLog]:
    given = model(dtype, zero_point, opset, "t = Relu(d)")
    log = RewriteLog()
    context = PassContext(ir.Rewriter(given), AnalysisManager(given), log)
    apply_rules([MOVE], given, context, limit=1)
    return given, log


@pytest.mark.parametrize(("dtype", "zero_point", "opset"), [("int8", "three", 21), ("int32", "absent", 20)])
def test_a_rule_is_refused_where_onnxruntime_would_break_its_result(dtype: str, zero_point: str, opset: int) -> None:
    given, log = moved(dtype, zero_point, opset)
    assert not log.rewrites and stated(given) == ""
    (miss,) = [each for each in log.missed if each.rule == MOVE.name]
    assert miss.condition == "quantization that ONNX Runtime optimizes soundly" and "'d'" in miss.because


@pytest.mark.parametrize(("dtype", "zero_point", "opset"), [("int8", "three", 20), ("uint8", "three", 21)])
def test_a_rule_fires_where_onnxruntime_does_not_break_its_result(dtype: str, zero_point: str, opset: int) -> None:
    given, log = moved(dtype, zero_point, opset)
    assert len(log.rewrites) == 1
    assert observed(given) == ""


@dataclass(frozen=True)
class _Move(Pass):
    name: ClassVar[str] = "test-move"

    def run(self, model: ir.Model, context: PassContext) -> None:
        (relu,) = [node for node in model.graph if node.op_type == "Relu"]
        context.rewriter.set_input(relu, 0, _transposed(_transposed(relu.inputs[0], relu, context), relu, context))


def _transposed(value: ir.Value | None, near: ir.Node, context: PassContext) -> ir.Value:
    node = ir.new_node("Transpose", [value], {"perm": [1, 0]}, version=near.version, provenance="test")
    return context.rewriter.insert(node, before=near).outputs[0]


def test_a_pass_that_causes_the_fault_fails_and_is_excluded() -> None:
    given = model("int8", "three", 21, "t = Relu(d)")
    with pytest.raises(PassFailure, match="ONNX Runtime breaks a DequantizeLinear"):
        Pipeline((_Move(),)).run(given.clone())
    report = Pipeline((_Move(),)).run(given.clone(), on_failure="skip")
    assert Counter(node.op_type for node in report.model.graph)["Transpose"] == 0
    assert [each.faulty for each in report.failures] == ["test-move"]


@pytest.mark.parametrize(("zero_point", "opset"), [("absent", 20), ("zero", 21)])
def test_after_a_pass_an_int8_node_is_respelled_rather_than_the_pass_excluded(zero_point: str, opset: int) -> None:
    report = Pipeline((_Move(),)).run(model("int8", zero_point, opset, "t = Relu(d)"))
    assert Counter(node.op_type for node in report.model.graph)["Transpose"] == 2
    assert (stated(report.model), observed(report.model)) == ("", "")


# --- verification -----------------------------------------------------------------------------------------------------


def test_verification_sees_values_that_optimizations_break_in_the_result_alone() -> None:
    original = model("int8", "zero", 20)
    feeds = FeedSet({"x": X.astype(np.int8)}, "counting")
    sound, broken = (ir.to_bytes(model("int8", zero_point, 20)) for zero_point in ("zero", "absent"))
    assert verify(ir.to_bytes(original), sound, [feeds]).ok
    verdict = verify(ir.to_bytes(original), broken, [feeds])
    assert not verdict.ok
    assert verdict.problem == "with ONNX Runtime's optimizations on: y: off by 3, where the original is off by 0"


def test_verification_does_not_blame_a_result_for_what_optimizations_break_in_the_original() -> None:
    broken = ir.to_bytes(model("int8", "absent", 20))
    for result in (broken, ir.to_bytes(model("int8", "zero", 20))):
        assert verify(broken, result, [FeedSet({"x": X.astype(np.int8)}, "counting")]).ok
