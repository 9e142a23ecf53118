"""Other people's passes run as they are, one line each; what is wrong with them is told by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx_ir.passes import common
from optimize_graph import Options, VerificationError, ir, optimize
from optimize_graph.cli import main
from optimize_graph.jobs.bisect import bisect
from optimize_graph.passes import REGISTRY, Exactness, Pipeline, foreign

pytestmark = pytest.mark.slow

TEXT = """<ir_version: 10, opset_import: ["": 21, "f": 1], producer_name: "us">
g (float[N,3] x, bool c, float[3] scale) => (float[N,3] y, float[N,3] z)
<float[3] scale = {1, 1, 1}, float[3] w = {1, 2, 3}, float[N,3] a> {
  a = Add (x, w)
  b = If (c) <then_branch = t () => (float[N,3] p) { p0 = Identity (a)  p = Neg (p0) },
              else_branch = e () => (float[N,3] q) { q = Abs (x) }>
  d = Identity (b)
  s = Mul (d, scale)
  y = f.twice <by = 2.0> (s)
  r1 = Relu (x)
  r2 = Relu (x)
  r = Sub (r1, r2)
  z = Add (r, x)
}
<domain: "f", opset_import: ["": 21]>
twice <by> (v) => (r) { k = Constant <value_float: float = @by> ()  r = Mul (v, k) }"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    proto.doc_string, proto.graph.doc_string = "ours", "graph"
    proto.metadata_props.add(key="m", value="1")
    proto.graph.metadata_props.add(key="g", value="1")
    proto.graph.input[0].type.denotation = "IMAGE"
    for node in proto.graph.node:
        node.metadata_props.add(key="from", value=node.op_type)
        node.doc_string = f"about {node.op_type}"
    return ir.from_proto(proto)


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


def apply(passes: str, given: ir.Model) -> list[str]:
    return [f"{each.rule}: {each.before} -> {each.after}" for each in Pipeline.parse(passes).run(given).rewrites]


# --- what such passes look like ---------------------------------------------------------------------------------------


def rename_in_surgeon(graph: Any, old: str = "Identity", new: str = "Relu") -> None:
    for node in graph.nodes:
        node.op = new if node.op == old else node.op


def rename_in_ir(given: Any, old: str = "Identity", new: str = "Relu") -> None:
    for node in given.graph:
        node.op_type = new if node.op_type == old else node.op_type


def rename_in_proto(proto: onnx.ModelProto, old: str = "Identity", new: str = "Relu") -> None:
    for node in proto.graph.node:
        node.op_type = new if node.op_type == old else node.op_type


class RenameInPlace(onnx_ir.passes.InPlacePass):
    """Rename operators."""

    def __init__(self, old: str = "Identity", new: str = "Relu") -> None:
        self.old, self.new = old, new

    def call(self, model: Any) -> Any:
        rename_in_ir(model, self.old, self.new)
        return onnx_ir.passes.PassResult(model, modified=True)


class RenameInCopy(onnx_ir.passes.FunctionalPass):
    """Rename operators in a copy."""

    def __init__(self, old: str = "Identity", new: str = "Relu") -> None:
        self.old, self.new = old, new

    def call(self, model: Any) -> Any:
        copy = model.clone()
        rename_in_ir(copy, self.old, self.new)
        return onnx_ir.passes.PassResult(copy, modified=True)


def returned_surgeon(graph: Any, old: str = "Identity", new: str = "Relu") -> Any:
    copy = graph.copy()
    rename_in_surgeon(copy, old, new)
    return copy


def returned_proto(proto: onnx.ModelProto, old: str = "Identity", new: str = "Relu") -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    rename_in_proto(copy, old, new)
    return copy


def returned_ir(given: Any, old: str = "Identity", new: str = "Relu") -> Any:
    copy = given.clone()
    rename_in_ir(copy, old, new)
    return copy


RENAMERS: dict[str, Callable[[], None]] = {
    "surgeon in place": lambda: foreign.graphsurgeon("planted", rename_in_surgeon),
    "surgeon returned": lambda: foreign.graphsurgeon("planted", returned_surgeon),
    "onnx-ir pass in place": lambda: foreign.onnx_ir("planted", RenameInPlace),
    "onnx-ir pass returned": lambda: foreign.onnx_ir("planted", RenameInCopy),
    "onnx-ir function in place": lambda: foreign.onnx_ir("planted", rename_in_ir),
    "onnx-ir function returned": lambda: foreign.onnx_ir("planted", returned_ir),
    "proto in place": lambda: foreign.model_proto("planted", rename_in_proto),
    "proto returned": lambda: foreign.model_proto("planted", returned_proto),
}


def lossless(before: ir.Model, after: ir.Model) -> None:
    one, other = ir.to_proto(before), ir.to_proto(after)
    assert str(other).replace('domain: ""\n', "") == str(one).replace('domain: ""\n', "")


@pytest.mark.parametrize("kind", RENAMERS)
def test_only_what_a_pass_changes_is_changed(kind: str) -> None:
    RENAMERS[kind]()
    given, wanted = model(), model()
    rename_in_ir(wanted, "Add", "Sub")
    assert apply("planted{old=Add,new=Sub}", given) == ["planted: 14 nodes -> 14 nodes"]
    lossless(wanted, given)


@pytest.mark.parametrize("kind", RENAMERS)
def test_a_pass_that_changes_nothing_is_no_rewrite(kind: str) -> None:
    RENAMERS[kind]()
    given = model()
    assert not apply("planted{old=Erf}", given)
    lossless(model(), given)


@pytest.mark.parametrize("kind", RENAMERS)
def test_a_wrong_pass_is_named_excluded_and_the_rest_delivered(kind: str) -> None:
    RENAMERS[kind]()
    result = optimize(model(), options=Options(passes="planted{old=Add,new=Sub},cse"))
    assert [each.rule for each in result.isolated] == ["planted"]
    assert not result.isolated[0].raised
    assert {each.rule for each in result.rewrites} == {"cse"}
    assert result.verification is not None and result.verification.ok
    with pytest.raises(VerificationError, match="planted"):
        optimize(model(), options=Options(passes="planted{old=Add,new=Sub},cse", strict=True))


@pytest.mark.parametrize("kind", RENAMERS)
def test_a_wrong_pass_is_found_by_bisection(kind: str) -> None:
    RENAMERS[kind]()
    found = bisect(model(), Options(passes="cse,planted{old=Add,new=Sub},dce"))
    assert found.rewrite is not None and found.rewrite.rule == "planted"


@pytest.mark.parametrize("kind", RENAMERS)
def test_a_pass_that_gives_back_an_invalid_model_is_named(kind: str) -> None:
    RENAMERS[kind]()
    result = optimize(model(), options=Options(passes="cse,planted{old=Add,new=Relu}"))
    (found,) = result.isolated
    assert (found.rule, found.raised) == ("planted", True)
    assert "not well formed" in found.why
    assert {each.rule for each in result.rewrites} == {"cse"}


@pytest.mark.parametrize("new", ["And", "Adn"])  # And takes booleans
def test_a_result_that_does_not_load_is_named(new: str) -> None:
    foreign.model_proto("planted", rename_in_proto)
    result = optimize(model(), options=Options(passes=f"planted{{old=Add,new={new}}},cse"))
    assert [each.rule for each in result.isolated] == ["planted"]
    assert {each.rule for each in result.rewrites} == {"cse"}


def test_a_wrong_rewrite_rule_is_named() -> None:
    pattern = pytest.importorskip("onnxscript.rewriter.pattern")
    rule = pattern.RewriteRule(lambda op, x: op.Abs(x), lambda op, x: op.Relu(x))
    foreign.rewrite_rules("planted", rule)
    foreign.rewrite_rules("planted-set", pattern.RewriteRuleSet([rule]))
    result = optimize(model(), options=Options(passes="planted,planted-set,cse"))
    assert [each.rule for each in result.isolated] == ["planted", "planted-set"]
    assert {each.rule for each in result.rewrites} == {"cse"}
    found = bisect(model(), Options(passes="cse,planted"))
    assert found.rewrite is not None and found.rewrite.rule == "planted"


def test_a_right_rewrite_rule_loses_nothing() -> None:
    pattern = pytest.importorskip("onnxscript.rewriter.pattern")
    foreign.rewrite_rules(
        "ours", pattern.RewriteRule(lambda op, x: op.Sub(x, x), lambda op, x: op.Mul(x, op.Constant(value_float=0.0)))
    )
    result = optimize(model(), options=Options(passes="cse,ours", strict=True))
    assert [each.rule for each in result.rewrites] == ["cse", "ours"]
    assert result.exactness is Exactness.APPROXIMATE
    proto = ir.to_proto(result.model)
    assert proto.producer_name == "us" and proto.doc_string == "ours" and proto.graph.doc_string == "graph"
    assert {each.key for each in proto.metadata_props} >= {"m"}
    assert proto.functions[0].name == "twice"
    assert [each.doc_string for each in proto.graph.node if each.op_type == "If"] == ["about If"]


def test_passes_of_public_code_run_as_they_are() -> None:
    foreign.onnx_ir("theirs-cse", common.CommonSubexpressionEliminationPass())
    foreign.onnx_ir("theirs-identities", common.IdentityEliminationPass())
    foreign.onnx_ir("theirs-inline", common.InlinePass())
    foreign.onnx_ir("theirs-lift", common.LiftConstantsToInitializersPass)
    foreign.onnx_ir("theirs-infer", common.ShapeInferencePass())
    foreign.onnx_ir("theirs-names", common.NameFixPass())
    foreign.graphsurgeon("theirs-fold", lambda graph: graph.fold_constants().cleanup())
    foreign.model_proto("theirs-shapes", onnx.shape_inference.infer_shapes)
    names = "cse identities inline lift{lift_all_constants=true,size_limit=0} infer names fold shapes{strict_mode=true}"
    steps = ",".join(f"theirs-{each}" for each in names.split())
    result = optimize(model(), options=Options(passes=steps, strict=True))
    assert {"theirs-cse", "theirs-identities", "theirs-inline", "theirs-lift", "theirs-infer"} <= {
        each.rule for each in result.rewrites
    }
    assert result.verification is not None and result.verification.ok
    assert "Identity" not in {node.op_type for node in ir.nodes(result.model)}


# --- registration -----------------------------------------------------------------------------------------------------


def test_arguments_with_defaults_are_options() -> None:
    seen: list[object] = []

    def edit(
        proto: Any, limit: int = 3, *, ratio: float = 0.5, fast: bool = False, skip: tuple[str, ...] = ("a",)
    ) -> None:
        seen.append((limit, ratio, fast, skip))

    foreign.model_proto("ours", edit)
    apply("ours", model())
    apply("ours{limit=4,ratio=2,fast=true,skip=b|c}", model())
    assert seen == [(3, 0.5, False, ("a",)), (4, 2.0, True, ("b", "c"))]
    text = "ours{limit=4,skip=b|c}"
    assert str(Pipeline.parse(text)) == text
    with pytest.raises(ir.PipelineError, match="it has: fast, limit, ratio, skip"):
        Pipeline.parse("ours{other=1}")


@pytest.mark.parametrize(
    "register", [foreign.graphsurgeon, foreign.onnx_ir, foreign.rewrite_rules, foreign.model_proto]
)
def test_what_cannot_run_is_refused_at_registration(register: Callable[..., None]) -> None:
    with pytest.raises(ir.PipelineError, match="another kind"):
        register("ours", 3)
    with pytest.raises(ir.PipelineError, match="is no name"):
        register("no name", RenameInPlace())


def test_exactness_is_what_the_user_says() -> None:
    foreign.onnx_ir("ours", common.CommonSubexpressionEliminationPass(), exactness=Exactness.EXACT)
    result = optimize(model(), options=Options(passes="ours", strict=True))
    assert [each.rule for each in result.rewrites] == ["ours"]
    assert result.exactness is Exactness.EXACT


def test_names_and_declarations_alone_are_exact() -> None:
    def rename(given: Any) -> None:
        given.graph[0].name = "better"

    foreign.onnx_ir("ours", rename)
    result = optimize(model(), options=Options(passes="ours"))
    assert result.exactness is Exactness.EXACT
    assert result.model.graph[0].name == "better"


def test_a_module_is_plugged_in_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme_foreign.py").write_text(
        "from onnx_ir.passes.common import CommonSubexpressionEliminationPass\n"
        "from optimize_graph.passes import foreign\n"
        "def wrong(graph, op: str = 'Add'):\n"
        "    for node in graph.nodes:\n"
        "        node.op = op if node.op == 'Add' else node.op\n"
        "foreign.onnx_ir('acme-cse', CommonSubexpressionEliminationPass())\n"
        "foreign.graphsurgeon('acme-wrong', wrong)\n"
    )
    onnx.save(ir.to_proto(model()), tmp_path / "in.onnx")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    plugged = ["--plugin", "acme_foreign", "--passes", "acme-cse,acme-wrong{op=Sub},dce"]
    assert main(["in.onnx", "out.onnx", *plugged]) == 0
    assert "acme-wrong at model makes the result wrong" in capsys.readouterr().err
    assert sum(node.op_type == "Relu" for node in onnx.load("out.onnx").graph.node) == 1
    main(["bisect", "in.onnx", *plugged])
    assert "acme-wrong" in capsys.readouterr().out
    assert main(["passes", "--plugin", "acme_foreign"]) == 0
    listed = capsys.readouterr().out
    assert "acme-cse" in listed and "Eliminate common subexpression" in listed


# --- what is refused, and what is kept --------------------------------------------------------------------------------


def retyped(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def reordered(proto: onnx.ModelProto) -> None:
    outputs = list(proto.graph.output)[::-1]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)


def without_function(proto: onnx.ModelProto) -> None:
    del proto.functions[:]


def sparse(proto: onnx.ModelProto) -> None:
    made = proto.graph.sparse_initializer.add(dims=[2])
    made.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "new"))
    made.indices.CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "new_indices"))


def elsewhere(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer.add(name="far", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="far.bin")


def leaves(proto: onnx.ModelProto) -> None:
    sys.exit(1)


REFUSED: dict[Any, str] = {
    retyped: "'y' is DOUBLE, not FLOAT",
    reordered: "the outputs are ['z', 'y'], not ['y', 'z']",
    without_function: "the function f::twice is gone, and it is called",
    sparse: "sparse initializers",
    elsewhere: "no folder to look in",
    leaves: "SystemExit",
    (lambda proto: (proto, True)): "expected a ModelProto or None, got tuple",
}


@pytest.mark.parametrize("edit", REFUSED)
def test_what_would_be_lost_is_named_with_the_pass(edit: Any) -> None:
    foreign.model_proto("planted", edit)
    result = optimize(model(), options=Options(passes="planted,cse"))
    (found,) = result.isolated
    assert found.rule == "planted" and REFUSED[edit] in found.why
    assert {each.rule for each in result.rewrites} == {"cse"}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (common.AddInitializersToInputsPass(), "the inputs are"),
        (common.RemoveInitializersFromInputsPass(), "the inputs are"),
        (lambda given: 3, "expected a model or None, got int"),
        (lambda given: given.functions.clear(), "the function f::twice is gone"),
        (lambda given: setattr(given.graph.outputs[0], "type", ir.TensorType(ir.DataType.INT64)), "'y' is"),
    ],
)
def test_passes_on_models_of_onnx_ir_are_held_to_the_same(made: Any, message: str) -> None:
    foreign.onnx_ir("planted", made)
    (found,) = optimize(model(), options=Options(passes="planted,cse")).isolated
    assert found.rule == "planted" and message in found.why


def test_weights_in_memory_that_a_pass_writes_to_stay_as_they_are() -> None:
    def double(given: Any) -> None:
        given.graph.initializers["w"].const_value.numpy()[...] *= 2

    foreign.onnx_ir("planted", double)
    given = model()
    weight = np.array([1, 2, 3], np.float32)
    given.graph.initializers["w"].const_value = ir.tensor(weight)
    assert [each.rule for each in optimize(given, options=Options(passes="planted")).isolated] == ["planted"]
    assert weight.tolist() == [1, 2, 3] and weight.flags.writeable


@pytest.mark.parametrize("kind", RENAMERS)
def test_external_data_stays_where_it_is(kind: str, tmp_path: Path) -> None:
    RENAMERS[kind]()
    proto = ir.to_proto(model())
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    given = ir.load(tmp_path / "m.onnx")
    assert apply("planted{new=Sigmoid}", given)
    assert isinstance(given.graph.initializers["w"].const_value, ir.ExternalTensor)
    assert ir.data_files(given) == ("w.bin",)


def test_notes_that_a_library_drops_are_restored() -> None:
    def bare(proto: onnx.ModelProto) -> None:
        rename_in_proto(proto)
        for node in proto.graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
        proto.ClearField("metadata_props")
        proto.graph.ClearField("doc_string")

    foreign.model_proto("ours", bare)
    given, wanted = model(), model()
    wanted.graph.sort()
    apply("ours", given)
    notes = {node.outputs[0].name: (node.doc_string, dict(node.metadata_props)) for node in wanted.graph}
    found = {node.outputs[0].name: (node.doc_string, dict(node.metadata_props)) for node in given.graph}
    assert {name: note for name, note in found.items() if name != "d"} == {
        name: note for name, note in notes.items() if name != "d"
    }
    assert given.metadata_props == {"m": "1"} and given.graph.doc_string == "graph"


def test_users_that_a_pass_leaves_behind_are_forgotten() -> None:
    def behind(given: Any) -> None:
        given.graph.remove([node for node in given.graph if node.op_type == "Relu"][1])
        (sub,) = [node for node in given.graph if node.op_type == "Sub"]
        sub.replace_input_with(1, sub.inputs[0])

    foreign.onnx_ir("ours", behind)
    result = optimize(model(), options=Options(passes="ours", strict=True))
    assert [each.rule for each in result.rewrites] == ["ours"]
    assert not ir.verify(result.model)


def test_a_default_that_is_dropped_while_it_is_read_is_put_back() -> None:
    def drop(proto: onnx.ModelProto) -> None:
        del proto.graph.initializer[0]

    foreign.model_proto("ours", drop)
    given = model()
    assert not apply("ours", given)
    assert ir.is_overridable(given.graph.initializers["scale"])
