"""External data: where it may lie, how long it must be, and that it stays on disk."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from optimize_graph import ir

FOUR = np.arange(4, dtype=np.float32)


def model_with(entries: dict[str, str], dims: tuple[int, ...] = (4,)) -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=1, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Neg", ["w"], ["y"])], "g", [], [helper.make_tensor_value_info("y", 1, dims)], [weight]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(folder: Path, entries: dict[str, str], dims: tuple[int, ...] = (4,)) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model_with(entries, dims).SerializeToString())
    return path


def miss(path: Path, **options: bool) -> ir.Diagnostic:
    with pytest.raises(ir.ModelError) as caught:
        ir.load(path, **options)
    assert caught.value.diagnostic.where.value == "w"
    return caught.value.diagnostic


def weight_of(model: ir.Model) -> ir.ExternalTensor:
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    return tensor


def test_content_is_found_at_its_offset(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\xff" * 8 + FOUR.tobytes())
    model = ir.load(written(tmp_path, {"location": "w.bin", "offset": "8", "length": "16"}))
    assert np.array_equal(weight_of(model).numpy(), FOUR)
    assert ir.data_files(model) == ("w.bin",)


def test_offset_and_length_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(FOUR.tobytes())
    assert np.array_equal(weight_of(ir.load(written(tmp_path, {"location": "w.bin"}))).numpy(), FOUR)


def test_a_folder_below_the_model_is_inside(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(FOUR.tobytes())
    assert np.array_equal(weight_of(ir.load(written(tmp_path, {"location": "weights/w.bin"}))).numpy(), FOUR)


def test_it_is_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(FOUR.tobytes())
    written(tmp_path, {"location": "w.bin"})
    monkeypatch.chdir(tmp_path)
    model = ir.load("model.onnx")
    monkeypatch.chdir("/")
    assert np.array_equal(weight_of(model).numpy(), FOUR)


@pytest.mark.parametrize("location", ["../w.bin", "a/../../w.bin", "/etc/hostname", "C:\\w.bin", "..\\w.bin"])
def test_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(FOUR.tobytes())
    path = written(tmp_path / "inner", {"location": location})
    assert miss(path).code == "external-data-outside"
    assert miss(path, follow_symlinks=True).code == "external-data-outside"


def test_missing_data_names_the_file(tmp_path: Path) -> None:
    found = miss(written(tmp_path, {"location": "w.bin"}))
    assert found.code == "external-data-missing"
    assert "w.bin" in found.message
    (tmp_path / "w.bin").mkdir()
    assert miss(written(tmp_path, {"location": "w.bin"})).code == "external-data-missing"


@pytest.mark.parametrize("entries", [{}, {"location": ""}, {"location": "w\0bin"}])
def test_data_without_a_file_name_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    assert miss(written(tmp_path, entries)).code == "external-data-missing"


def test_a_model_without_a_folder_has_no_external_data() -> None:
    with pytest.raises(ir.ModelError) as caught:
        ir.from_proto(model_with({"location": "w.bin"}))
    assert caught.value.diagnostic.code == "external-data-missing"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"length": "12"}, "external-data-too-short"),
        ({"offset": "1"}, "external-data-too-short"),
        ({"offset": "9223372036854775807"}, "external-data-too-short"),
        ({"length": "32"}, "external-data-too-short"),
        ({"offset": "-4"}, "external-data-malformed"),
        ({"length": "-1"}, "external-data-malformed"),
        ({"offset": "four"}, "external-data-malformed"),
        ({"offset": "9" * 30}, "external-data-malformed"),
    ],
)
def test_what_is_declared_must_fit_the_tensor_and_the_file(tmp_path: Path, entries: dict[str, str], code: str) -> None:
    (tmp_path / "w.bin").write_bytes(FOUR.tobytes())
    assert miss(written(tmp_path, {"location": "w.bin", **entries})).code == code


def test_dims_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(FOUR.tobytes())
    assert miss(written(tmp_path, {"location": "w.bin"}, dims=(1 << 40,))).code == "external-data-too-short"


def test_links_need_leave_and_hard_links_do_not(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "abc").write_bytes(FOUR.tobytes())
    path = written(tmp_path / "snapshot", {"location": "w.bin"})
    (path.parent / "w.bin").symlink_to("../blobs/abc")
    found = miss(path)
    assert found.code == "link-refused"
    assert "--follow-symlinks" in found.hint
    assert np.array_equal(weight_of(ir.load(path, follow_symlinks=True)).numpy(), FOUR)
    (path.parent / "w.bin").unlink()
    os.link(blobs / "abc", path.parent / "w.bin")
    assert np.array_equal(weight_of(ir.load(path)).numpy(), FOUR)


def test_a_folder_that_is_a_link_needs_leave(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w.bin").write_bytes(FOUR.tobytes())
    path = written(tmp_path / "model", {"location": "data/w.bin"})
    (path.parent / "data").symlink_to(tmp_path / "elsewhere")
    assert miss(path).code == "link-refused"
    assert np.array_equal(weight_of(ir.load(path, follow_symlinks=True)).numpy(), FOUR)


def test_loading_hashing_and_saving_map_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped pages count as resident memory: a model of any size must pass through bounded buffers."""
    elements = 3 << 20
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(4 * elements)
    path = written(tmp_path, {"location": "w.bin"}, dims=(elements,))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("mapped")

    monkeypatch.setattr(mmap, "mmap", refuse)
    monkeypatch.setattr(ir.ExternalTensor, "tobytes", refuse)
    model = ir.load(path)
    assert len(ir.digest(weight_of(model))) == 32
    ir.save(model, tmp_path / "out.onnx")
    assert sum(each.stat().st_size for each in tmp_path.glob("out.*.data")) == 4 * elements
