"""Exporting torch modules: what is written computes what the module computes, at other sizes too."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from optimize_graph import (  # noqa: E402 - only with torch
    Options,
    cli,
    ir,
)
from optimize_graph.jobs.export.export import export  # noqa: E402
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
        )
    assert not (tmp_path / "m.onnx").exists()


def test_the_same_module_without_dynamic_dims_is_right(tmp_path: Path) -> None:
    path = export(Mean(), (torch.randn(4, 3),), tmp_path / "m.onnx", exporter="torchscript")
    (port,) = open_session(path.path).inputs
    assert port.shape == (4, 3)


def test_a_size_that_is_computed_is_right_at_any(tmp_path: Path) -> None:
    x = torch.randn(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        path = export(Scaled(), (x,), tmp_path / "m.onnx", dynamic_shapes=({0: torch.export.Dim("n")},))
    session = open_session(path.path)
    other = np.arange(21, dtype=np.float32).reshape(7, 3)
    (got,) = session.run({session.inputs[0].name: other}).values()
    assert np.allclose(got, other.mean(0))


def test_a_dim_that_torch_fixed_although_it_was_to_be_dynamic_is_told(tmp_path: Path) -> None:
    shapes = ({0: torch.export.Dim("n")},)
    with pytest.warns(UserWarning, match="1 of the dims that were asked to be dynamic are not"):
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
        )


def test_dims_that_could_not_be_varied_are_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"checked at one size only of n: the module ran at no other"):
        export(
            Fixed(),
            (torch.randn(4, 3),),
            tmp_path / "m.onnx",
            exporter="torchscript",
            dynamic_shapes={"x": {0: "n"}},
        )


class PackedAttention(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Queries, keys and values from one product."""

    def __init__(self) -> None:
        super().__init__()
        self.packed, self.out = torch.nn.Linear(32, 96), torch.nn.Linear(32, 32)

    def forward(self, x):  # type: ignore[no-untyped-def]
        batch, length, _ = x.shape
        q, k, v = self.packed(x).reshape(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, length, 32))


class Convolutional(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)

    def forward(self, image):  # type: ignore[no-untyped-def]
        return {"features": torch.nn.functional.silu(self.norm(self.conv(image)))}


class Gated(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Operands by name, one of them in a list, one that is not given."""

    def forward(self, ids, table, states, mask=None):  # type: ignore[no-untyped-def]
        y = torch.nn.functional.embedding(ids, table) * torch.sigmoid(states[0])
        return (y if mask is None else y * mask), states[0].argmax(-1)


class Recurrent(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.LSTM(6, 5, batch_first=True)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.cell(x)[0]


class SlightlyOff(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Computes by 1e-4 less while it is exported, which float32 within 0.1 % does not notice."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        factor = 0.9999 if torch.compiler.is_exporting() else 1.0
        return torch.exp(x * factor)


class Narrow(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Computes in float32 whatever it is given."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.exp(x.float())


def _batch_and_length() -> dict[str, dict[int, str]]:
    return {"x": {0: "batch", 1: "length"}}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_packed_attention_is_exported_checked_fused_and_verified_in_one_call(tmp_path: Path, exporter: str) -> None:
    exported = export(
        PackedAttention(),
        {"x": torch.randn(2, 7, 32)},
        tmp_path / "m.onnx",
        dynamic_shapes=_batch_and_length(),
        exporter=exporter,  # type: ignore[arg-type]  # of a parameter
        optimize=Options(),
    )
    result = exported.optimization
    assert result is not None and result.verification is not None and result.verification.ok
    assert "Attention" in [node.op_type for node in result.model.graph]
    assert {"batch": 2, "length": 7} in exported.check.sizes
    assert all(len({sizes[dim] for sizes in exported.check.sizes}) > 1 for dim in ("batch", "length"))
    assert exported.check.error is not None and exported.check.error < 1e-5
    (port,) = open_session(exported.path).inputs
    assert port.name == "x" and port.shape == ("batch", "length", 32)


@pytest.mark.parametrize(
    ("module", "inputs", "dynamic"),
    [
        (Convolutional(), (torch.randn(1, 3, 9, 9),), {"image": {0: "batch"}}),
        (Gated(), {"ids": torch.tensor([[1, 2]]), "table": torch.randn(9, 4), "states": [torch.randn(1, 2, 4)]}, None),
        (Recurrent(), (torch.randn(2, 4, 6),), {"x": {0: "batch"}}),
        (Scaled(), (torch.randn(4, 3),), {"x": {0: "n"}}),
    ],
    ids=["convolution", "named operands", "recurrence", "computed size"],
)
def test_modules_are_exported_and_optimized(tmp_path: Path, module: Any, inputs: Any, dynamic: Any) -> None:
    exported = export(module, inputs, tmp_path / "m.onnx", dynamic_shapes=dynamic, optimize=Options())
    assert exported.optimization is not None and exported.optimization.verification is not None
    assert exported.optimization.verification.ok
    assert exported.check.error is not None and exported.check.error < 1e-5
    assert not exported.check.unvaried and not exported.check.fixed


def test_an_error_that_float32_hides_is_found_in_float64(tmp_path: Path) -> None:
    with pytest.raises(ir.VerificationError, match=r"off by .* of its value in float64, the module itself by"):
        export(SlightlyOff(), (torch.linspace(-2, 2, 50),), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_module_that_computes_in_float32_whatever_it_is_given_is_told(tmp_path: Path) -> None:
    check = export(Narrow(), (torch.randn(5),), tmp_path / "m.onnx").check
    assert check.error is None and "float32 though the module was made float64" in check.why_not_float64


def test_an_exported_program_brings_its_example_and_its_dynamic_dims(tmp_path: Path) -> None:
    dims = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(
        Convolutional().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: dims["x"][0]},)
    )
    exported = export(program, None, tmp_path / "m.onnx", optimize=Options())
    assert len(exported.check.sizes) == 2 and not exported.check.unvaried


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded_from_a_file(tmp_path: Path, suffix: str) -> None:
    source, x = Convolutional(), torch.randn(1, 3, 8, 8)
    if suffix == ".pt":
        torch.save(source.state_dict(), tmp_path / "weights.pt")
    else:
        pytest.importorskip("safetensors.torch").save_file(source.state_dict(), tmp_path / "weights.safetensors")
    export(Convolutional(), (x,), tmp_path / "m.onnx", state=tmp_path / f"weights{suffix}")
    session = open_session(tmp_path / "m.onnx")
    (got,) = session.run({session.inputs[0].name: x.numpy()}).values()
    want = source.eval()(x)["features"].detach().numpy()
    assert np.allclose(got, want, atol=1e-5)


def test_weights_of_another_module_are_an_error_with_their_names(tmp_path: Path) -> None:
    torch.save(Recurrent().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ir.ModelError, match=r"Missing key.*conv\.weight"):
        export(Convolutional(), (torch.randn(1, 3, 8, 8),), tmp_path / "m.onnx", state=tmp_path / "weights.pt")


def test_what_torch_cannot_export_keeps_its_cause(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x if x.sum() > 0 else -x

    with pytest.raises(ir.ModelError, match=r"torch cannot export the module: .*data-dependent") as caught:
        export(Branching(), (torch.randn(3),), tmp_path / "m.onnx")
    assert caught.value.__cause__ is not None


def test_an_input_that_the_module_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ir.OptionsError, match=r"the module takes no input 'y'.*its inputs: x"):
        export(Mean(), {"y": torch.randn(3)}, tmp_path / "m.onnx")
    with pytest.raises(ir.OptionsError, match="dynamic dims of 'y'"):
        export(Mean(), {"x": torch.randn(3)}, tmp_path / "m.onnx", dynamic_shapes={"y": {0: "n"}})


SOURCE = """
import torch

class Encoder(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.table, self.norm = torch.nn.Embedding(50, width), torch.nn.LayerNorm(width)

    def forward(self, ids):
        return self.norm(self.table(ids)).mean(1)

def encoder():
    return Encoder()

def with_inputs():
    return Encoder(), (torch.zeros(1, 4, dtype=torch.int64),)

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module to export."""
    (tmp_path / "models_to_export.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_command_exports_and_optimizes(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "models_to_export:encoder", "m.onnx", "--input", "ids=int64[2,5]:50", "--dynamic"]
    words += ["ids=0:batch,1:length", "--output-name", "pooled", "--json"]
    assert cli.main(words) == 0
    document = json.loads(capsys.readouterr().out)
    remarks = {remark["code"]: remark["message"] for remark in document["remarks"]}
    assert "batch = 2, length = 5; batch = 3, length = 7" in remarks["export-checked"]
    assert document["verification"]["ok"]
    session = open_session(in_folder / "m.onnx")
    assert [port.name for port in session.inputs] == ["ids"] and session.inputs[0].shape == ("batch", "length")
    assert list(session.run({"ids": np.zeros((3, 6), np.int64)})) == ["pooled"]


def test_a_factory_may_give_the_example_too(in_folder: Path) -> None:
    assert cli.main(["export", "models_to_export:with_inputs", "m.onnx", "--no-optimize", "-q"]) == 0
    assert open_session(in_folder / "m.onnx").inputs[0].shape == (1, 4)


def test_the_command_takes_a_saved_program(in_folder: Path) -> None:
    program = torch.export.export(Scaled(), (torch.randn(4, 3),))
    torch.export.save(program, in_folder / "m.pt2")
    assert cli.main(["export", "m.pt2", "m.onnx", "-q"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["models_to_export:decoder"], 2, "has no attribute 'decoder'"),
        (["no_such_module:x"], 2, "No module named 'no_such_module'"),
        (["models_to_export"], 2, "expected PACKAGE.MODULE:ATTRIBUTE"),
        (["missing.pt2"], 2, "there is no such file"),
        (["models_to_export:broken"], 1, "raises RuntimeError: no weights here"),
        (["models_to_export:encoder"], 2, "inputs is None"),
        (["models_to_export:SOURCE"], 2, "no attribute"),
    ],
)
def test_a_wrong_name_of_a_module_is_one_line(
    in_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert cli.main(["export", *words, "m.onnx"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("word", ["x=float33[1]", "x=float32[1,]", "float32[1]", "x=int64[2]:y", "x=int64[2]:3..3"])
def test_a_wrong_spelling_of_an_input_is_wrong_usage(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", "m:f", "m.onnx", "--input", word])
    assert stopped.value.code == 2 and word.partition(":")[0].split("=")[-1].split("[")[0] in capsys.readouterr().err
