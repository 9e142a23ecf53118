"""What the standard's own function bodies spell out comes back as the one operator, or stays with a reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.passes.recognize.outline.function_bodies import OPERATORS, silhouettes
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

F, H, B, L = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BOOL, ir.DataType.INT64
OUTLINE = Pipeline.parse("dce,outline-functions,dce")


@dataclass(frozen=True)
class Call:
    """A call to be written out: the type and dims of each input (None: absent), and the outputs that are read."""

    op_type: str
    opset: int
    inputs: tuple[tuple[ir.DataType, tuple[int, ...]] | None, ...]
    attributes: dict[str, int | float | str] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return f"{self.op_type}-{self.opset} {self.attributes} {[each and each[1] for each in self.inputs]}"

    def written_out(self) -> ir.Model:
        types = [None if each is None else (each[0], len(each[1])) for each in self.inputs]
        body = ir.function_body(self.op_type, self.opset, self.attributes, types)
        assert body is not None
        graph = body.clone()
        given = {formal.name: each for formal, each in zip(_formals(self), self.inputs, strict=True)}
        for formal in list(graph.inputs):
            if (known := given[formal.name or ""]) is None:
                graph.inputs.remove(formal)
            else:
                formal.type, formal.shape = ir.TensorType(known[0]), ir.Shape(known[1])
        for index in reversed(range(len(graph.outputs))):
            if index not in self.outputs:
                del graph.outputs[index]
        graph.name = "main"
        model = ir.Model(graph, ir_version=10)
        model.opset_imports[""] = self.opset
        graph.opset_imports[""] = self.opset
        inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model))
        return ir.from_proto(inferred)


def _formals(call: Call) -> tuple[object, ...]:
    signature = ir.function_signature(call.op_type, call.opset)
    assert signature is not None
    return signature.inputs


X = (F, (2, 3, 4))
QKV = ((F, (2, 3, 4, 8)), (F, (2, 3, 6, 8)), (F, (2, 3, 6, 8)))
FLAT = ((F, (2, 4, 24)), (F, (2, 6, 24)), (F, (2, 6, 24)))
PAST = ((F, (2, 3, 12, 8)), (F, (2, 3, 12, 8)))

CALLS = [
    Call("Attention", 23, (*QKV, None, None, None)),
    Call("Attention", 23, (*QKV, None, None, None), {"is_causal": 1, "scale": 0.25}),
    Call("Attention", 23, (*QKV, (B, (4, 6)), None, None), {"softcap": 2.0}),
    Call("Attention", 23, (*QKV, (F, (4, 18)), *PAST), outputs=(0, 1, 2)),
    Call("Attention", 23, (*FLAT, None, None, None), {"q_num_heads": 3, "kv_num_heads": 3}),
    Call("Attention", 23, (*QKV, None, None, None), {"qk_matmul_output_mode": 3}, (0, 3)),
    Call("Attention", 24, (*QKV, None, None, None, (L, (2,))), {"is_causal": 1}),
    Call("Attention", 25, (*QKV, None, None, None, None), {"left_window_size": 2, "right_window_size": 1}),
    Call("Elu", 22, (X,), {"alpha": 2.0}),
    Call("Gelu", 20, (X,)),
    Call("Gelu", 20, (X,), {"approximate": "tanh"}),
    Call("GroupNormalization", 21, ((F, (2, 4, 3)), (F, (4,)), (F, (4,))), {"num_groups": 2, "epsilon": 0.25}),
    Call("HardSigmoid", 18, (X,), {"alpha": 0.25}),
    Call("HardSwish", 22, (X,)),
    Call("LayerNormalization", 17, (X, (F, (4,)), (F, (4,)))),
    Call("LayerNormalization", 18, (X, (F, (3, 4)), None), {"axis": 1}, (0, 2)),
    Call("LayerNormalization", 21, (X, (F, (3, 4)), (F, (3, 4))), {"axis": -2, "epsilon": 0.5}, (0, 1, 2)),
    Call("LeakyRelu", 16, (X,), {"alpha": 0.25}),
    Call("LogSoftmax", 18, (X,), {"axis": 1}),
    Call("Mish", 18, (X,)),
    Call("PRelu", 16, (X, (F, (3, 1)))),
    Call("RMSNormalization", 23, (X, (F, (4,))), {"epsilon": 0.5}),
    Call("RMSNormalization", 23, (X, (F, (2, 3, 4))), {"axis": 0}),
    Call("RotaryEmbedding", 23, ((F, (2, 4, 3, 8)), (F, (50, 4)), (F, (50, 4)), (L, (2, 3)))),
    Call("RotaryEmbedding", 23, ((F, (2, 4, 3, 8)), (F, (2, 3, 4)), (F, (2, 3, 4)), None), {"interleaved": 1}),
    Call("RotaryEmbedding", 23, ((F, (2, 3, 32)), (F, (2, 3, 4)), (F, (2, 3, 4)), None), {"num_heads": 4}),
    Call("Softmax", 21, (X,), {"axis": -1}),
    Call("Softplus", 18, (X,)),
    Call("Swish", 24, (X,), {"alpha": 0.5}),
]


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_body_of_the_standard_becomes_its_call_again(call: Call) -> None:
    model = call.written_out()
    OUTLINE.run(model, [VerifyEach()])
    *scaled, node = ir.nodes(model)
    assert node.op_type == call.op_type
    # A mask of floats is scaled before ONNX Runtime's kernel, which takes the lowest of them for a mark.
    is_masked = call.op_type == "Attention" and len(call.inputs) > 3 and call.inputs[3] is not None
    assert [each.op_type for each in scaled] == ["Mul"] * (is_masked and call.inputs[3][0] == F)  # type: ignore[index]
    original = {each.outputs[0]: each.inputs[0] for each in scaled}
    assert len(node.outputs) == 1 + max(call.outputs)
    for name, value in call.attributes.items():
        assert ir.attribute(node, name) == value
    names = [formal.name for formal in _formals(call)]  # type: ignore[attr-defined]
    wanted = [name if given else None for name, given in zip(names, call.inputs, strict=True)]
    while wanted[-1] is None:
        wanted.pop()
    assert [each and (original.get(each) or each).name for each in node.inputs] == wanted


@pytest.mark.parametrize("call", [call for call in CALLS if call.opset < 23], ids=str)
def test_the_call_computes_what_its_body_did(call: Call) -> None:
    model = call.written_out()
    before = ir.to_proto(model)
    OUTLINE.run(model)
    feeds = make_feeds(ir.from_proto(before))
    options = SessionOptions(optimize=False)
    wanted = open_session(before.SerializeToString(), options).run(feeds)
    given = open_session(ir.to_proto(model).SerializeToString(), options).run(feeds)
    for name in wanted:
        np.testing.assert_allclose(given[name], wanted[name], rtol=1e-4, atol=1e-5)


REFUSED = [
    Call("Attention", 23, (*QKV, (F, (1, 6)), None, None)),
    Call("Attention", 24, (*QKV, (F, (4, 4)), None, None, None)),
    Call("LayerNormalization", 17, (X, (F, (1,)), None)),
    Call("GroupNormalization", 21, ((F, (2, 4, 3)), (F, (1,)), (F, (1,))), {"num_groups": 2}),
    Call("PRelu", 16, ((F, (3, 1)), (F, (2, 3, 4)))),
    Call("RMSNormalization", 23, (X, (F, (1,)))),
    Call("RotaryEmbedding", 23, ((F, (2, 4, 3, 8)), (F, (1, 3, 4)), (F, (1, 3, 4)), None)),
]


@pytest.mark.parametrize("call", REFUSED, ids=str)
def test_what_the_body_broadcasts_and_the_operator_does_not_stays(call: Call) -> None:
    model = call.written_out()
    report = OUTLINE.run(model)
    assert call.op_type not in {node.op_type for node in ir.nodes(model)}
    assert [each.because for each in report.missed if each.rule == "outline-functions"]


def parse(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]>\n' + text))


SOFTPLUS = "e = Exp(x)  one = Constant <value = float {1}> ()  c = CastLike(one, x)  a = Add(e, c)  y = Log(a)"


@pytest.mark.parametrize(
    "text",
    [
        f"g (float[3] x) => (float[3] y, float[3] e) {{ {SOFTPLUS} }}",
        f"g (float[3] x) => (float[3] y, float[3] z) {{ {SOFTPLUS}  z = Neg(a) }}",
        f"g (float[3] x, bool t) => (float[3] y, float[3] z) {{ {SOFTPLUS}  z = If(t) <"
        "then_branch = b () => (float[3] u) { u = Neg(e) }, else_branch = d () => (float[3] w) { w = Neg(x) }> }",
    ],
    ids=["a caller", "a node", "a subgraph"],
)
def test_an_inner_value_with_another_user_keeps_the_body(text: str) -> None:
    model = parse(text)
    report = OUTLINE.run(model)
    assert "Log" in {node.op_type for node in ir.nodes(model)}
    assert [each.because for each in report.missed] == ["an inner value is read elsewhere"]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[3] x) => (float[3] y) <float one = {2}> { e = Exp(x)  a = Add(e, one)  y = Log(a) }",
        "g (float[3] x, float one) => (float[3] y) <float one = {1}> { e = Exp(x)  a = Add(e, one)  y = Log(a) }",
        "g (float[3] x, float[3] z) => (float[3] y) { s = Softplus(x)  t = Tanh(s)  y = Mul(z, t) }",
        "g (float x) => (float[1] y) <float[1] one = {1}> { e = Exp(x)  a = Add(e, one)  y = Log(a) }",
    ],
    ids=["another constant", "a constant that the caller may override", "another input", "another rank"],
)
def test_what_is_almost_a_body_stays(text: str) -> None:
    model = parse(text)
    before = ir.fingerprint(model)
    OUTLINE.run(model)
    assert ir.fingerprint(model) == before


def test_constants_may_be_initializers_and_additions_turned_around() -> None:
    model = parse("g (float[3] x) => (float[3] y) <float one = {1}> { e = Exp(x)  a = Add(one, e)  y = Log(a) }")
    OUTLINE.run(model)
    assert [node.op_type for node in ir.nodes(model)] == ["Softplus"]


def test_an_operator_that_the_opset_does_not_have_is_not_written() -> None:
    text = "g (float[3] x) => (float[3] y) { s = Softplus(x)  t = Tanh(s)  y = Mul(x, t) }"
    model = ir.from_proto(onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>\n' + text))
    OUTLINE.run(model)
    assert "Mish" not in {node.op_type for node in ir.nodes(model)}


@pytest.mark.parametrize("op_type", OPERATORS)
def test_the_table_of_how_bodies_look_is_what_the_standard_says(op_type: str) -> None:
    found = {form for opset in range(13, 26) for dtype in (F, H) for form in silhouettes(op_type, opset, dtype)}
    assert found == set(OPERATORS[op_type])
