"""Exporting torch modules: what is written computes what the module computes, at other sizes too."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from optimize_graph import ir  # noqa: E402 - only with torch
from optimize_graph.jobs.export import export  # noqa: E402
from optimize_graph.runtime import open_session  # noqa: E402

pytestmark = pytest.mark.slow


class Mean(torch.nn.Module):  # type: ignore[misc,name-defined]
    """torchscript writes the number of rows as a constant."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.sum(0) / float(x.shape[0])


class Scaled(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.sum(0) / x.shape[0]


class SplitInTwo(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Runs at even sizes only, and takes integers."""

    def forward(self, x, ids):  # type: ignore[no-untyped-def]
        first, second = x.chunk(2, dim=1)
        if first.shape[1] != second.shape[1]:
            raise ValueError("odd")
        return first * second, ids + 1


class Fixed(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.reshape(-1, 4, 3) * 2.0 if x.shape[0] == 4 else x.missing


def test_a_size_that_is_baked_in_is_found_at_another_size(tmp_path: Path) -> None:
    axes = {"x": {0: "n"}}
    with pytest.raises(ir.VerificationError, match=r"does not compute what the module computes.* at n = 5"):
        export(
            Mean(),
            (torch.randn(4, 3),),
            tmp_path / "m.onnx",
            exporter="torchscript",
            dynamic_shapes=axes,
            input_names=["x"],
        )
    assert not (tmp_path / "m.onnx").exists()


def test_the_same_module_without_dynamic_dims_is_right(tmp_path: Path) -> None:
    path = export(Mean(), (torch.randn(4, 3),), tmp_path / "m.onnx", exporter="torchscript")
    (port,) = open_session(path).inputs
    assert port.shape == (4, 3)


def test_a_size_that_is_computed_is_right_at_any(tmp_path: Path) -> None:
    x = torch.randn(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        path = export(Scaled(), (x,), tmp_path / "m.onnx", dynamic_shapes=({0: torch.export.Dim("n")},))
    session = open_session(path)
    other = np.arange(21, dtype=np.float32).reshape(7, 3)
    (got,) = session.run({session.inputs[0].name: other}).values()
    assert np.allclose(got, other.mean(0))


def test_a_dim_that_torch_fixed_although_it_was_to_be_dynamic_is_told(tmp_path: Path) -> None:
    shapes = ({0: torch.export.Dim("n")},)
    with pytest.warns(UserWarning, match="1 dims were asked to be dynamic, and 0 are"):
        export(Mean(), (torch.randn(4, 3),), tmp_path / "m.onnx", dynamic_shapes=shapes)


def test_sizes_that_a_module_takes_are_looked_for(tmp_path: Path) -> None:
    inputs = torch.randn(2, 6), torch.arange(5)
    axes = {"x": {0: "n", 1: "c"}, "ids": {0: "k"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        export(
            SplitInTwo(),
            inputs,
            tmp_path / "m.onnx",
            exporter="torchscript",
            dynamic_shapes=axes,
            input_names=["x", "ids"],
        )


def test_dims_that_could_not_be_varied_are_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"checked at one size only of n: the module ran at no other"):
        export(
            Fixed(),
            (torch.randn(4, 3),),
            tmp_path / "m.onnx",
            exporter="torchscript",
            dynamic_shapes={"x": {0: "n"}},
            input_names=["x"],
        )
