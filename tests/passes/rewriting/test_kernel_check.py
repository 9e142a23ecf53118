"""What the data says about kernels is what the installed ONNX Runtime does, and rules write nothing without one."""

from __future__ import annotations

import onnx
import onnx.defs
import onnx.helper
import onnx.parser
import pytest
from onnx.defs import OpSchema
from optimize_graph import ir
from optimize_graph.jobs.optimization.target_versions import installed_release
from optimize_graph.passes import Pipeline, Settings, Target
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager
from optimize_graph.passes.rewriting.kernel_check import node_runs
from optimize_graph.runtime import SessionOptions, open_session
from optimize_graph.testing.golden import Case, parse
from support.catalogue import CASES

HERE = Settings(Target("ort-cpu", installed_release()))


def without_kernels(model: ir.Model, settings: Settings = HERE) -> list[ir.Node]:
    shapes = Shapes.compute(model, AnalysisManager(model))
    return [node for node in ir.nodes(model) if node_runs(node, shapes, settings.target) is False]


NO_KERNEL = ("Could not find an implementation", "Failed to find kernel", "not currently registered", "Type Error")


def runs_here(proto: onnx.ModelProto) -> bool:
    """Whether the installed ONNX Runtime finds a kernel for every node. (One may miss attributes when it is made.)"""
    try:
        open_session(proto.SerializeToString(), SessionOptions(optimize=False))
    except ir.ModelError as error:
        return not any(each in str(error) for each in NO_KERNEL)
    return True


# --- the data and the installed runtime -------------------------------------------------------------------------------

SAMPLED_OPSETS = (13, 17, 18, 21, 22)


def elementary(op_type: str, opset: int) -> OpSchema | None:
    """The schema of an operator that takes tensors of one type alone and needs no attribute."""
    known = ir.schema(op_type, opset)
    if op_type == "MeanVarianceNormalization":  # its body mixes constants of float32 with other types
        return None
    if known is None or known.deprecated or any(each.required for each in known.attributes.values()):
        return None
    required = [each for each in known.inputs if each.option != OpSchema.FormalParameterOption.Optional]
    if not required or len({each.type_str for each in (*required, known.outputs[0])}) != 1:
        return None
    return known if all(each.startswith("tensor(") for each in known.inputs[0].types) else None


def call_of(known: OpSchema, opset: int, dtype: ir.DataType) -> onnx.ModelProto:
    required = [each for each in known.inputs if each.option != OpSchema.FormalParameterOption.Optional]
    inputs = [onnx.helper.make_tensor_value_info(f"x{i}", dtype.value, None) for i in range(len(required))]
    node = onnx.helper.make_node(known.name, [each.name for each in inputs], ["y"])
    output = onnx.helper.make_tensor_value_info("y", dtype.value, None)
    graph = onnx.helper.make_graph([node], "g", inputs, [output])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("opset", SAMPLED_OPSETS)
def test_what_is_said_to_run_runs_and_what_is_said_not_to_is_refused(opset: int) -> None:
    names = {f"tensor({dtype.name.lower()})": dtype for dtype in ir.DataType}
    wrong, seen = [], {True: 0, False: 0}
    for op_type in sorted({each.name for each in onnx.defs.get_all_schemas() if each.domain == ""}):
        known = elementary(op_type, opset)
        for dtype in sorted(names[each] for each in known.inputs[0].types) if known else ():
            proto = call_of(known, opset, dtype)
            claimed = not without_kernels(ir.from_proto(proto))
            seen[claimed] += 1
            if claimed != runs_here(proto):
                wrong.append((op_type, dtype.name, claimed))
    assert not wrong
    assert min(seen.values()) > 50


# --- what rules write -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.after is not None and case.target != "onnx"], ids=str)
def test_a_golden_hit_runs_on_its_target(case: Case) -> None:
    settings = Settings(Target(case.target, installed_release()))
    model = ir.from_proto(parse(case.before))
    had = without_kernels(model, settings)
    Pipeline.parse(f"rewrite{{rules={case.rule}}},dce").run(model, settings=settings)
    assert had or not without_kernels(model, settings)


SWISH = """<ir_version: 10, opset_import: ["": %d]> g (float[4] x) => (float[4] y) {
    a = Constant<value_float = 1.0>()  c = CastLike(a, x)  p = Mul(c, x)  s = Sigmoid(p)  y = Mul(x, s) }"""


@pytest.mark.parametrize(("opset", "is_written"), [(24, True), (25, False)])
def test_a_function_is_written_only_where_the_runtime_takes_its_body(opset: int, is_written: bool) -> None:
    """The body of Swish stands at opset 24; ONNX Runtime takes it no more where CastLike is defined anew, at 25."""
    outcomes = []
    for target in ("ort-cpu", "onnx"):
        model = ir.from_proto(onnx.parser.parse_model(SWISH % opset))
        report = Pipeline.parse("outline-functions,dce").run(
            model, settings=Settings(Target(target, installed_release()))
        )
        refused = {each.because for each in report.missed if each.condition == "a kernel on the target"}
        outcomes.append(("Swish" in {node.op_type for node in ir.nodes(model)}, refused))
    assert outcomes == [(is_written, set() if is_written else {"none for Swish on FLOAT"}), (True, set())]


@pytest.mark.parametrize(("first", "is_refused"), [("Max(x, lo)", True), ("Clip(x, lo)", False)])
def test_only_a_place_that_ran_before_is_kept(first: str, is_refused: bool) -> None:
    """Where a Clip of doubles stands already, nothing is lost by another: it is run elsewhere, if at all."""
    text = f"""<ir_version: 8, opset_import: ["": 11]> g (double[2,3] x) => (double[2,3] y)
        <double lo = {{0}}, double hi = {{6}}> {{ r = {first}  y = Min(r, hi) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    report = Pipeline.parse("rewrite{rules=merge-clips}").run(model, settings=HERE)
    assert ("a kernel on the target" in {each.condition for each in report.missed}) == is_refused
    assert ("merge-clips" in report.log.by_rule()) != is_refused
