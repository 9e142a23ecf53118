"""Parallel linear layers become one, with the views that follow them; where that saves nothing they stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
from optimize_graph import ir
from optimize_graph.passes import Pipeline, Settings, Target, VerifyEach
from optimize_graph.runtime import SessionOptions, make_feeds, open_session

QUERY_KEY_VALUE = (
    "q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  qb = Add(q, bq)  kb = Add(bk, k)  vb = Add(v, bv) "
)
HEADS = "qh = Reshape(qb, heads)  kh = Reshape(kb, heads)  vh = Reshape(vb, heads) "


def optimized(
    body: str,
    outputs: str,
    *,
    widths: tuple[int, int, int] = (8, 8, 8),
    heads: str = "int64[4] heads = {0, 0, -1, 4}",
    target: str = "onnx",
    shared: bool = False,
) -> tuple[Counter[str], onnx.ModelProto]:
    """What the pass leaves of `body`, which computes what it computed before."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[n, s, 6] x) => ({outputs}) <{heads}> {{ {body} }}'
    )
    random = np.random.default_rng(0)
    for name, width in zip("qkv", widths, strict=True):
        for letter, shape in (("w", (6, width)), ("b", (width,))):
            content = random.standard_normal(shape).astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(content, letter + name))
    if shared:
        proto.graph.node.append(onnx.helper.make_node("MatMul", ["x", "wk"], ["again"]))
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    Pipeline.parse("merge-matmuls,dce").run(model, [VerifyEach()], settings=Settings(Target(target)))
    after = ir.to_proto(model)
    feeds = make_feeds(ir.from_proto(proto), seed=0)
    options = SessionOptions(optimize=False, prepacking=False)
    wanted = open_session(proto.SerializeToString(), options).run(feeds)
    given = open_session(after.SerializeToString(), options).run(feeds)
    assert list(wanted) == list(given)
    for name, value in wanted.items():
        np.testing.assert_allclose(given[name], value, rtol=1e-5, atol=1e-6)
    return Counter(node.op_type for node in after.graph.node), after


def test_query_key_and_value_are_one_projection() -> None:
    counts, _ = optimized(QUERY_KEY_VALUE, "float[n,s,8] qb, float[n,s,8] kb, float[n,s,8] vb")
    assert counts == {"MatMul": 1, "Add": 1, "Split": 1}


def test_a_branch_without_a_bias_gets_zeros() -> None:
    body = QUERY_KEY_VALUE.replace("kb = Add(bk, k)", "kb = Relu(k)")
    counts, after = optimized(body, "float[n,s,8] qb, float[n,s,8] kb, float[n,s,8] vb")
    assert counts == {"MatMul": 1, "Add": 1, "Split": 1, "Relu": 1}
    bias = next(each for each in after.graph.initializer if each.name.startswith("merged_bias"))
    assert not onnx.numpy_helper.to_array(bias)[8:16].any()


def test_the_cut_into_heads_and_the_transposes_go_with_them() -> None:
    body = QUERY_KEY_VALUE + HEADS
    body += "a = Transpose<perm=[0,2,1,3]>(qh) b = Transpose<perm=[0,2,3,1]>(kh) c = Transpose<perm=[0,2,1,3]>(vh)"
    counts, _ = optimized(body, "float[n,2,s,4] a, float[n,2,4,s] b, float[n,2,s,4] c")
    assert counts == {"MatMul": 1, "Add": 1, "Reshape": 1, "Transpose": 2, "Split": 1}


def test_fewer_key_heads_than_query_heads_are_fine() -> None:
    body = QUERY_KEY_VALUE + HEADS + "a = Identity(qh) b = Identity(kh) c = Identity(vh)"
    counts, _ = optimized(body, "float[n,s,4,4] a, float[n,s,2,4] b, float[n,s,1,4] c", widths=(16, 8, 4))
    assert counts == {"MatMul": 1, "Add": 1, "Reshape": 1, "Split": 1, "Identity": 3}


def test_heads_of_different_depth_are_cut_after_the_split() -> None:
    body = QUERY_KEY_VALUE + HEADS + "a = Identity(qh) b = Identity(kh) c = Identity(vh)"
    counts, _ = optimized(
        body,
        "float[n,s,2,4] a, float[n,s,2,8] b, float[n,s,2,4] c",
        widths=(8, 16, 8),
        heads="int64[4] heads = {0, 0, 2, -1}",
    )
    assert counts == {"MatMul": 1, "Add": 1, "Reshape": 3, "Split": 1, "Identity": 3}


def test_a_branch_without_a_bias_gets_zeros_before_heads_of_different_depth() -> None:
    heads = "qh = Reshape(qb, heads)  kh = Reshape(k, wide)  vh = Reshape(vb, heads) "
    counts, _ = optimized(
        QUERY_KEY_VALUE.replace("kb = Add(bk, k)", "") + heads,
        "float[n,s,2,4] qh, float[n,s,1,8] kh, float[n,s,2,4] vh",
        heads="int64[4] heads = {0, 0, -1, 4}, int64[4] wide = {0, 0, -1, 8}",
    )
    assert counts == {"MatMul": 1, "Add": 1, "Split": 1, "Reshape": 3}


def test_two_products_without_a_bias_stay() -> None:
    counts, _ = optimized("q = MatMul(x, wq)  k = MatMul(x, wk)", "float[n,s,8] q, float[n,s,8] k")
    assert counts == {"MatMul": 2}


def test_products_of_different_values_stay() -> None:
    body = "y = Relu(x)  z = Neg(x)  q = MatMul(x, wq)  k = MatMul(y, wk)  v = MatMul(z, wv)"
    counts, _ = optimized(body, "float[n,s,8] q, float[n,s,8] k, float[n,s,8] v")
    assert counts == {"MatMul": 3, "Relu": 1, "Neg": 1}


def test_a_weight_with_another_user_stays() -> None:
    counts, _ = optimized(
        QUERY_KEY_VALUE, "float[n,s,8] qb, float[n,s,8] kb, float[n,s,8] vb, float[n,s,8] again", shared=True
    )
    assert counts["MatMul"] == 3 and counts["Split"] == 1


def test_a_product_that_is_an_output_keeps_its_addition() -> None:
    counts, _ = optimized(QUERY_KEY_VALUE, "float[n,s,8] qb, float[n,s,8] k, float[n,s,8] kb, float[n,s,8] vb")
    assert counts == {"MatMul": 1, "Add": 2, "Split": 1}


def test_for_onnx_runtime_they_stay_apart() -> None:
    counts, _ = optimized(QUERY_KEY_VALUE, "float[n,s,8] qb, float[n,s,8] kb, float[n,s,8] vb", target="ort-cpu")
    assert counts == {"MatMul": 3, "Add": 3}
