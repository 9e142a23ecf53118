"""Constant folding: what becomes a constant, what stays an operator, and how large results may get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper
from optimize_graph import ir
from optimize_graph.passes import Pipeline, Settings, VerifyEach
from optimize_graph.passes.pipeline.pipeline import PipelineResult
from optimize_graph.runtime import OrtEvaluator


class Counting:
    """Counts what it is asked, and can be made to give nothing."""

    def __init__(self, *, refuses_more_than: int = 1 << 30) -> None:
        self.asked: list[list[str]] = []
        self._limit = refuses_more_than
        self._evaluator = OrtEvaluator()

    def evaluate(
        self,
        nodes: Sequence[ir.Node],
        constants: Mapping[ir.Value, ir.Array],
        results: Sequence[ir.Value],
        opset_imports: Mapping[str, int],
    ) -> Mapping[ir.Value, ir.Array] | None:
        self.asked.append([node.op_type for node in nodes])
        if len(nodes) > self._limit:
            return None
        return self._evaluator.evaluate(nodes, constants, results, opset_imports)


def folded(
    text: str, pipeline: str = "constant-fold,dce", evaluator: Counting | None = None, settings: Settings | None = None
) -> tuple[ir.Model, PipelineResult]:
    header = "" if text.lstrip().startswith("<") else '<ir_version: 8, opset_import: ["": 17, "acme": 1]>\n'
    model = ir.from_proto(onnx.parser.parse_model(header + text))
    chosen = evaluator or Counting()
    return model, Pipeline.parse(pipeline).run(model, [VerifyEach()], evaluator=chosen, settings=settings)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in ir.nodes(model)]


def content(model: ir.Model, name: str) -> list[object]:
    found = ir.constant(model.graph.initializers[name])
    assert found is not None
    return found.tolist()


def test_arithmetic_on_constants_becomes_one_constant() -> None:
    model, _ = folded("g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { b = Neg(a) c = Mul(a, b) y = Add(x, c) }")
    assert operators(model) == ["Add"]
    assert content(model, "c") == [-1.0, -4.0]


@pytest.mark.parametrize(
    "body",
    [
        "c = RandomNormal <shape = [2]> ()",
        "c = RandomUniform <shape = [2], seed = 1.0> ()",
        "c = Bernoulli(a)",
        "c = RandomNormalLike(a)",
        "c = acme.Double(a)",
        "c = DequantizeLinear(q, s, z)",
        "d = QuantizeLinear(a, s, z) c = DequantizeLinear(d, s, z)",
        "c = Neg(w)",
        "c = Neg(x)",
    ],
)
def test_what_is_random_unknown_quantizing_or_overridable_stays(body: str) -> None:
    model, report = folded(f"""g (float[2] x, float[2] w) => (float[2] y)
      <float[2] a = {{1, 0}}, float[2] w = {{1, 1}}, int8[2] q = {{1, 2}}, float s = {{0.5}}, int8 z = {{0}}>
      {{ {body}  y = Add(x, c) }}""")
    assert not report.log.by_rule()["constant-fold"]
    assert len(operators(model)) == 1 + body.count("=") - body.count("shape =") - body.count("seed =")


def test_a_large_result_that_frees_nothing_stays_an_operator() -> None:
    model, report = folded("""g (float[2048,2048] x) => (float[2048,2048] y) <int64[2] s = {2048, 2048}> {
      c = ConstantOfShape(s)  y = Add(x, c) }""")
    assert operators(model) == ["ConstantOfShape", "Add"]
    assert not report.log.by_rule()["constant-fold"]


def test_a_small_one_does_not() -> None:
    model, _ = folded(
        "g (float[4,4] x) => (float[4,4] y) <int64[2] s = {4, 4}> { c = ConstantOfShape(s) y = Add(x, c) }"
    )
    assert operators(model) == ["Add"]


def test_a_large_step_on_the_way_to_a_small_result_is_folded() -> None:
    model, _ = folded("""g (float x) => (float y) <int64[2] s = {512, 512}> {
      c = ConstantOfShape(s)  t = ReduceSum <keepdims = 0> (c)  y = Add(x, t) }""")
    assert operators(model) == ["Add"]


def test_what_is_freed_counts_and_what_others_read_does_not() -> None:
    weight = "g (float[8,64] x) => (float[8,64] y%s) <float[64,64] w = {%s}> { c = Cast <to = 11> (w)  %s }"
    ones = ", ".join(["1"] * 64 * 64)
    settings = Settings(growth_bytes=64 * 64 * 4)
    alone = weight % ("", ones, "d = Cast <to = 1> (c) y = MatMul(x, d)")
    assert operators(folded(alone, settings=settings)[0]) == ["MatMul"]
    tight = Settings(growth_bytes=0)
    assert operators(folded(alone, settings=tight)[0]) == ["MatMul"]
    shared = weight % (", double[64,64] z", ones, "z = Neg(c) y = MatMul(x, w)")
    assert "Cast" in operators(folded(shared, settings=tight)[0])


def test_a_split_frees_its_input_once() -> None:
    """Each of the parts must not grow by as much as the whole had."""
    ones = ", ".join(["1"] * 64)
    text = f"""g (float[64] x) => (float[64] y) <float[64] w = {{{ones}}}, int64[1] n = {{16}}> {{
      a, b, c, d = Split <axis = 0> (w)
      e = Tile(a, n)  f = Tile(b, n)  h = Tile(c, n)  k = Tile(d, n)
      s = Sum(e, f, h, k)  t = ReduceMax <keepdims = 0> (s)  u = Add(x, t)  v = ReduceMin <keepdims = 0> (e)
      y = Sub(u, v) }}"""
    model, _ = folded(text.replace("s = Sum", "p = Add(x, w) s = Sum"), settings=Settings(growth_bytes=0))
    before = 64 * 4
    after = sum(ir.constant(each).nbytes for each in model.graph.initializers.values() if ir.constant(each) is not None)
    assert after <= before + 64


@pytest.mark.parametrize("outside", ["first", "second"])
def test_an_output_that_only_the_inside_reads_is_no_obstacle(outside: str) -> None:
    """Split gives two results: one for the caller's arithmetic, one for another constant."""
    model, _ = folded(f"""g (float[2] x) => (float[2] y, float[2] z) <float[4] w = {{1, 2, 3, 4}}> {{
      first, second = Split <axis = 0> (w)  c = Add(first, second)  y = Add(x, c)  z = Mul(x, {outside}) }}""")
    assert sorted(operators(model)) == ["Add", "Mul"]


def test_an_output_without_users_gets_no_constant() -> None:
    model, _ = folded("""g (float[2] x) => (float[2] y) <float[4] w = {1, 2, 3, 4}> {
      first, second = Split <axis = 0> (w)  y = Add(x, first) }""")
    assert list(model.graph.initializers) == ["first"]


def test_dead_nodes_are_not_evaluated() -> None:
    evaluator = Counting()
    folded("g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { b = Neg(a) y = Exp(x) }", "constant-fold", evaluator)
    assert evaluator.asked == []


def test_a_region_that_fails_is_folded_node_by_node() -> None:
    evaluator = Counting(refuses_more_than=1)
    model, _ = folded(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { b = Neg(a) c = Exp(b) y = Add(x, c) }",
        evaluator=evaluator,
    )
    assert operators(model) == ["Add"]
    assert evaluator.asked[0] == ["Neg", "Exp"]


def test_what_failed_is_not_tried_again() -> None:
    evaluator = Counting(refuses_more_than=0)
    text = "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { b = Neg(a) y = Add(x, b) }"
    folded(text, "constant-fold,constant-fold,constant-fold", evaluator)
    assert evaluator.asked == [["Neg"]]


def test_without_an_evaluator_only_known_integers_are_folded() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[4,3] x) => (float[12] y) <float[2] a = {1, 2}> {
      s = Shape(x)  p = ReduceProd <keepdims = 1> (s)  r = Reshape(x, p)  b = ReduceMax <keepdims = 0> (a)
      y = Mul(r, b) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    Pipeline.parse("constant-fold,dce").run(model, [VerifyEach()])
    assert operators(model) == ["Reshape", "ReduceMax", "Mul"]


@pytest.mark.parametrize(
    ("attributes", "expected"), [("", [2, 3, 4]), ("<start = 1>", [3, 4]), ("<start = -2, end = -1>", [3])]
)
def test_the_shape_of_static_dims_is_a_constant(attributes: str, expected: list[int]) -> None:
    model, _ = folded(f"g (float[2,3,4] x) => (float y) {{ s = Shape {attributes} (x)  y = Expand(x, s) }}")
    assert content(model, "s") == expected


def test_the_shape_of_a_dim_that_is_not_known_stays() -> None:
    model, _ = folded("g (float[N,3] x) => (int64[2] y) { s = Shape(x)  y = Neg(s) }")
    assert operators(model) == ["Shape", "Neg"]


def test_a_known_integer_that_is_an_output_keeps_its_name() -> None:
    model, _ = folded("g (float[2,3] x) => (int64[2] s) { s = Shape(x) }")
    assert operators(model) == ["Identity"]
    assert model.graph.outputs[0].name == "s"


def test_an_identity_that_gives_a_constant_to_the_caller_stays() -> None:
    _, report = folded("g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { y = Identity(a) }")
    assert not report.log.by_rule()["constant-fold"]


def test_a_result_of_strings_stays() -> None:
    _, report = folded(
        "g (float[2] x) => (string[2] y) <float[2] a = {1, 2}> { b = Cast <to = 8> (a) y = Identity(b) }"
    )
    assert not report.log.by_rule()["constant-fold"]


def test_strings_on_the_way_to_numbers_are_no_obstacle() -> None:
    model, _ = folded("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
      b = Cast <to = 8> (a)  c = Cast <to = 1> (b)  y = Add(x, c) }""")
    assert operators(model) == ["Add"]


def test_bfloat16_stays_where_numpy_cannot_carry_it() -> None:
    info = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones(2, ml_dtypes.bfloat16), "a")
    nodes = [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Add", ["x", "b"], ["y"])]
    graph = helper.make_graph(nodes, "g", [info("x", 16, [2])], [info("y", 16, [2])], [weight])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    Pipeline.parse("constant-fold").run(model, [VerifyEach()], evaluator=OrtEvaluator())
    assert operators(model) == ["Neg", "Add"]


def test_bodies_are_folded_in_their_own_scope() -> None:
    model, _ = folded("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
      y = If(c) <then_branch = t () => (p) { n = Neg(w)  p = Add(x, n) }, else_branch = e () => (q) { q = Abs(x) }>
      }""")
    assert sorted(operators(model)) == ["Abs", "Add", "If"]
    (body,) = (graph for graph in ir.graphs(model) if graph.name == "t")
    assert list(body.initializers) == ["n"]


def test_a_node_with_a_body_is_not_evaluated() -> None:
    evaluator = Counting()
    folded(
        """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, bool c = {1}> {
      a = If(c) <then_branch = t () => (p) { p = Neg(w) }, else_branch = e () => (q) { q = Abs(w) }>
      y = Add(x, a) }""",
        evaluator=evaluator,
    )
    assert not any("If" in asked for asked in evaluator.asked)


def test_functions_are_folded_into_constant_nodes() -> None:
    model, _ = folded("""<ir_version: 10, opset_import: ["": 21, "f": 1]>
      g (float[2] x) => (float[2] y) { y = f.one(x) }
      <domain: "f", opset_import: ["": 21]> one <slope> (v) => (r) {
        two = Constant <value_float = 2.0> ()  four = Mul(two, two)
        k = Constant <value_float: float = @slope> ()  j = Neg(k)
        u = Mul(v, four)  r = Add(u, j) }""")
    assert "Neg" in operators(model)
    assert operators(model).count("Mul") == 1


def test_folding_changes_no_bit() -> None:
    """The evaluator's kernels are those that would have run."""
    text = "g (float[3] x) => (float[3] y) <float[3] a = {0.1, 0.7, 3.3}> { b = Tanh(a) c = Exp(b) y = Sub(x, c) }"
    model, _ = folded(text)
    (region,) = (value for value in model.graph.initializers.values())
    given = ir.constant(region)
    assert given is not None
    import onnxruntime

    probe = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[3] a) => (float[3] c) { b = Tanh(a) c = Exp(b) }'
    )
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"a": np.array([0.1, 0.7, 3.3], np.float32)})
    assert given.tobytes() == wanted.tobytes()


def test_a_model_that_does_not_import_the_standard_operators_gets_them_where_a_name_needs_one() -> None:
    text = """<ir_version: 8, opset_import: ["ai.onnx.ml": 1]> g () => (float[1,2] y) <float[1,2] a = {-1, 2}> {
      y = ai.onnx.ml.Binarizer <threshold = 0.0> (a) }"""
    model, _ = folded(text)
    assert operators(model) == ["Identity"]
    assert "" in model.opset_imports
