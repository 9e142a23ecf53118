"""Products of the pieces of a tensor and one matrix become pieces of one product."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.runtime import SessionOptions, open_session

GATHERED = " ".join(f"e{index} = Gather<axis = 0>(x, i{index})" for index in range(3))
PRODUCTS = " ".join(f"p{index} = MatMul(e{index}, w)" for index in range(3))
SUM = "y = Sum(p0, p1, p2)"


def merged(nodes: str, *, x: str = "float[3,1,4] x", y: str = "float[1,5] y", least: int = 1) -> list[str]:
    """The operators afterwards; both models give the same up to rounding."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
      g ({x}) => ({y}) <float[4,5] w, float[4,5] w2, float[5,4] wt, float[5] c, float[1,5] row,
        int64 i0 = {{0}}, int64 i1 = {{1}}, int64 i2 = {{-1}}, int64[1] k0 = {{0}}, int64[1] k1 = {{1}},
        int64[1] k2 = {{2}}, int64[1] end = {{9223372036854775807}}> {{ {nodes} }}"""
    proto = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for value in list(proto.graph.value_info):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        content = random.normal(size=dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, value.name))
        proto.graph.value_info.remove(value)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    step = f"merge-slice-matmuls{{least_elements={least}}}"
    Pipeline.parse(f"{step},dce").run(model, [VerifyEach()])
    assert not Pipeline.parse(step).run(model, [VerifyEach()]).rewrites
    dims = [dim.dim_value or 2 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": random.normal(size=dims).astype(np.float32)}
    options = SessionOptions(optimize=False)
    wanted, given = (
        open_session(each.SerializeToString(), options).run(feeds)["y"] for each in (proto, ir.to_proto(model))
    )
    np.testing.assert_allclose(np.asarray(given), np.asarray(wanted), rtol=1e-5, atol=1e-5)
    return [node.op_type for node in model.graph]


def products(nodes: str, *, x: str = "float[3,1,4] x", y: str = "float[1,5] y", least: int = 1) -> int:
    operators = merged(nodes, x=x, y=y, least=least)
    return operators.count("MatMul") + operators.count("Gemm")


SLICES = ("k0, k1, k0", "k1, k2, k0", "k2, end, k0")
SLICED = " ".join(f"e{index} = Slice(x, {taken})" for index, taken in enumerate(SLICES))
SQUEEZED = " ".join(f"e{index} = Squeeze(u{index}, k0)" for index in range(3))


@pytest.mark.parametrize(
    "pieces",
    [
        GATHERED,
        f"{SLICED} ".replace("e0 =", "u0 =").replace("e1 =", "u1 =").replace("e2 =", "u2 =") + SQUEEZED,
        f"u0, u1, u2 = Split<axis = 0>(x) {SQUEEZED}",
    ],
)
def test_time_steps_are_projected_at_once(pieces: str) -> None:
    assert products(f"{pieces} {PRODUCTS} {SUM}") == 1


def test_pieces_that_keep_their_axis_are_projected_at_once() -> None:
    assert products(f"{SLICED} {PRODUCTS} {SUM}", y="float[1,1,5] y") == 1
    split = "e0, e1, e2 = Split<axis = -2>(x)"
    assert products(f"{split} {PRODUCTS} {SUM}", x="float[1,3,4] x", y="float[1,1,5] y") == 1


@pytest.mark.parametrize("call", ["Gemm(e{0}, w)", "Gemm(e{0}, w, c)", "Gemm<transB = 1>(e{0}, wt, c)"])
def test_gemms_are_merged_with_their_bias(call: str) -> None:
    nodes = " ".join(f"p{index} = {call.format(index)}" for index in range(3))
    assert products(f"{GATHERED} {nodes} {SUM}") == 1


@pytest.mark.parametrize(
    "nodes",
    [
        f"{GATHERED} {PRODUCTS} {SUM}".replace("MatMul(e1, w)", "MatMul(e1, w2)"),  # another matrix
        f"{GATHERED} {PRODUCTS} {SUM}".replace("Gather<axis = 0>(x, i1)", "Gather<axis = 0>(x, i0)"),  # not all
        f"{GATHERED} {PRODUCTS} {SUM}".replace("MatMul(e1, w)", "Gemm<alpha = 0.5>(e1, w)"),
        f"{GATHERED} {PRODUCTS} {SUM}".replace("MatMul(e1, w)", "Gemm(e1, w, row)"),
    ],
)
def test_what_is_not_one_product_stays(nodes: str) -> None:
    assert products(nodes) == 3


def test_pieces_of_what_is_multiplied_stay() -> None:
    """Along the last axis, the pieces are summed over."""
    split = "e0, e1, e2 = Split<axis = 2>(x)"
    assert products(f"{split} {PRODUCTS} {SUM}", x="float[1,1,12] x", y="float[1,1,5] y") == 3


def test_an_axis_of_unknown_size_stays() -> None:
    assert products(f"{GATHERED} {PRODUCTS} {SUM}", x="float[t,1,4] x") == 3


def test_pieces_of_several_rows_and_small_matrices_stay() -> None:
    """ONNX Runtime makes one Gemm of each product and the addition behind it."""
    assert products(f"{GATHERED} {PRODUCTS} {SUM}", x="float[3,2,4] x", y="float[2,5] y") == 3
    assert products(f"{GATHERED} {PRODUCTS} {SUM}", x="float[3,b,4] x", y="float[b,5] y") == 3
    assert products(f"{GATHERED} {PRODUCTS} {SUM}", least=21) == 3
