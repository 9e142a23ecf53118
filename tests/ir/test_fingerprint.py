"""Digests: equal exactly when what they stand for is equal."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper
from optimize_graph import ir

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x, bool c) => (float[2] y)'
BASE = (
    HEAD + " <float[2] w = {1, 2}, float[2] b = {3, 4}> { a = Mul (x, w)  d = Elu <alpha = 0.5> (a)  y = Add (d, b) }"
)


def of(text: str) -> str:
    return ir.fingerprint(ir.from_proto(onnx.parser.parse_model(text)))


@pytest.mark.parametrize(
    "same",
    [
        BASE.replace("a = Mul", "t = Mul").replace("(a)", "(t)"),
        BASE.replace("float[2] w = {1, 2}, float[2] b = {3, 4}", "float[2] b = {3, 4}, float[2] w = {1, 2}"),
        BASE.replace("w", "weight"),
        BASE.replace(" g (", " another (").replace("Mul (x, w)", "Mul (x, w)"),
    ],
)
def test_inner_names_and_the_order_of_constants_do_not_matter(same: str) -> None:
    assert of(same) == of(BASE)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("{1, 2}", "{1, 3}"),
        BASE.replace("Mul (x, w)", "Mul (w, x)"),
        BASE.replace("0.5", "0.25"),
        BASE.replace("Mul", "Div"),
        BASE.replace("17", "16"),
        BASE.replace("float[2] x", "float[N] x"),
        BASE.replace("y", "z"),
        BASE.replace("Add (d, b)", "Add (a, b)"),
        BASE.replace("Add (d, b)", "Add (d, w)"),
    ],
)
def test_structure_content_and_interface_matter(other: str) -> None:
    assert other != BASE
    assert of(other) != of(BASE)


def test_branches_matter_and_their_names_do_not() -> None:
    branches = "then_branch = t () => (p) { p = Neg (x) }, else_branch = e () => (q) { q = Abs (x) }"
    text = f"{HEAD} {{ y = If (c) <{branches}> }}"
    assert of(text) == of(text.replace("p =", "r =").replace("(p)", "(r)").replace("t ()", "u ()"))
    assert of(text) != of(text.replace("Abs", "Exp"))
    assert of(text) != of(text.replace("Neg", "T").replace("Abs", "Neg").replace("T ", "Abs "))


def test_functions_matter() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float x) => (float y) { y = f.one (x) }
    <domain: "f", opset_import: ["": 21]> one (v) => (r) { r = Neg (v) }"""
    assert of(text) != of(text.replace("Neg", "Abs"))


def test_a_clone_and_a_second_reading_have_the_same_fingerprint() -> None:
    model = ir.from_proto(onnx.parser.parse_model(BASE))
    assert ir.fingerprint(model.clone()) == ir.fingerprint(model) == ir.fingerprint(ir.from_proto(ir.to_bytes(model)))


# --- one tensor -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4])
def test_content_counts_and_not_where_it_lies(dtype: type, tmp_path: Path) -> None:
    array = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    in_memory = ir.tensor(array)
    proto = ir.from_proto(
        onnx.helper.make_model(
            onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "w")]), ir_version=10
        )
    )
    (tmp_path / "w.bin").write_bytes(b"\xff" * 3 + in_memory.tobytes())
    external = ir.ExternalTensor(
        str(tmp_path / "w.bin"), 3, in_memory.nbytes, in_memory.dtype, shape=ir.Shape([2, 3]), name="w"
    )
    digests = {ir.digest(in_memory), ir.digest(external), ir.digest(proto.graph.initializers["w"].const_value)}
    assert len(digests) == 1


def test_type_dims_signs_and_nan_payloads_are_told_apart() -> None:
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    arrays = [
        np.zeros(4, np.float32),
        -np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.int32),
        np.full(4, quiet),
        np.full(4, other),
    ]
    assert len({ir.digest(ir.tensor(array)) for array in arrays}) == len(arrays)


def test_strings_are_told_apart_by_their_borders() -> None:
    one, other = ir.tensor(np.array(["ab", "c"])), ir.tensor(np.array(["a", "bc"]))
    assert ir.digest(one) != ir.digest(other)
    assert ir.digest(one) == ir.digest(ir.tensor(np.array(["ab", "c"])))


def test_a_digest_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = ir.tensor(np.zeros(4, np.float32))
    first = ir.digest(tensor)
    monkeypatch.setattr(type(tensor), "tobytes", lambda _: pytest.fail("read again"))
    assert ir.digest(tensor) == first
