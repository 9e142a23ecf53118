"""Queries over the kernel data."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest
from optimize_graph import ir
from optimize_graph.passes import Target
from optimize_graph.passes.targets.kernel_table import ABSENT, has_kernel, kernels_of

F16, F32, F64, I64, BOOL = (ir.DataType[name] for name in ("FLOAT16", "FLOAT", "DOUBLE", "INT64", "BOOL"))


@pytest.mark.parametrize(
    ("release", "op_type", "opset", "types", "answer"),
    [
        ("1.16", "Gelu", 20, [F32], False),
        ("1.18.1", "Gelu", 20, [F32], True),
        ("", "Gelu", 20, [F64], False),
        ("", "Gelu", 20, [None], None),
        ("", "Gelu", 19, [F32], None),  # no such operator
        ("1.28", "MatMul", 13, [F16, F16], False),
        ("1.29.1", "MatMul", 13, [F16, F16], True),  # in this release alone
        ("1.30", "MatMul", 13, [F16, F16], False),
        ("9.9", "Add", 14, [F32, F32], True),
        ("1.14", "Add", 14, [F32, F32], None),  # older than the data
        ("1.14", "Add", 14, [BOOL, BOOL], False),
        ("", "ScatterElements", 18, [F32, BOOL], False),
        ("", "ScatterElements", 18, [F32, I64], True),
        ("", "Attention", 23, [F32, F32, F32], True),
        ("", "Attention", 23, [F32, F32, F32, ABSENT], True),
        ("", "Attention", 23, [F32, F32, F32, I64], False),
        ("", "Attention", 23, [F32, F32, F32, None], None),
    ],
)
def test_a_kernel_depends_on_the_release_and_the_types(
    release: str, op_type: str, opset: int, types: list[ir.DataType | None], answer: bool | None
) -> None:
    assert has_kernel(Target("ort-cpu", release), "", op_type, opset, types) is answer


def test_another_runtime_or_domain_is_unknown() -> None:
    assert has_kernel(Target("onnx"), "", "Add", 14, [F32, F32]) is None
    assert has_kernel(Target("ort-cpu"), "acme", "Add", 1, [F32, F32]) is None


def test_output_types_select_a_kernel() -> None:
    target = Target("ort-cpu", "1.22")
    answers = [has_kernel(target, "", "Cast", 13, [F32], [dtype]) for dtype in (F64, ir.DataType.INT4)]
    assert answers == [True, False]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_every_row_of_the_data_is_a_kernel(provider: str) -> None:
    text = files("optimize_graph.passes.targets").joinpath("data", f"{provider}.tsv").read_text()
    header, *rows = (line.split("\t") for line in text.splitlines())
    assert header == ["domain", "operator", "versions", "inputs", "outputs", "since", "until"]
    counts = Counter(("" if domain == "ai.onnx" else domain, name) for domain, name, *_ in rows)
    assert dict(counts) == {key: len(kernels_of(Target(f"ort-{provider}").file, *key)) for key in counts}
