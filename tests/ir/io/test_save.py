"""Writing: beside its place, whole or not at all, the same bytes every time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from optimize_graph import ir
from optimize_graph.ir.io import save

resource = pytest.importorskip("resource")

BIG = np.arange(40_000, dtype=np.float32)  # beyond 64 KiB: on its own page
MIDDLE = np.arange(400, dtype=np.float32)
LITTLE = np.arange(4, dtype=np.float32)


def small_model() -> ir.Model:
    head = '<ir_version: 8, opset_import: ["": 17]>'
    return ir.from_proto(
        onnx.parser.parse_model(f"{head} g (float[2] x) => (float[2] y) <float[2] w = {{1, 2}}> {{y = Add (x, w)}}")
    )


def big_model(seed: float = 0.0) -> ir.Model:
    """Weights of three sizes, one of them twice, and a Constant node."""
    weights = {"big": BIG + seed, "twin": BIG + seed, "middle": MIDDLE, "little": LITTLE}
    nodes = [helper.make_node("ReduceSum", [name], [f"s_{name}"], keepdims=0) for name in weights]
    nodes.append(helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(1.0))))
    nodes.append(helper.make_node("Sum", [*(f"s_{name}" for name in weights), "c", "x"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [])],
        [helper.make_tensor_value_info("y", 1, [])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def external(path: Path, seed: float = 0.0) -> None:
    ir.stage(big_model(seed), path, single_file_limit=1000).commit()


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value.const_value.numpy()) for name, value in ir.load(path).graph.initializers.items()}


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def failure(call) -> ir.Diagnostic:
    with pytest.raises(ir.EnvironmentSetupError) as caught:
        call()
    return caught.value.diagnostic


# --- one file ---------------------------------------------------------------------------------------------------------


def test_a_staged_model_is_loadable_and_not_yet_in_its_place(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    staged = ir.stage(small_model(), target)
    assert not target.exists()
    assert staged.path.parent == tmp_path
    assert len(ir.load(staged.path).graph) == 1
    staged.commit()
    assert names(tmp_path) == {"out.onnx"}


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"the older one")
    with ir.stage(small_model(), tmp_path / "out.onnx"):
        pass
    with ir.stage(big_model(), tmp_path / "out.onnx", single_file_limit=10):
        assert len(names(tmp_path)) == 3
    assert names(tmp_path) == {"out.onnx"}
    assert (tmp_path / "out.onnx").read_bytes() == b"the older one"


def test_discarding_after_a_commit_removes_nothing(tmp_path: Path) -> None:
    with ir.stage(small_model(), tmp_path / "out.onnx") as staged:
        staged.commit()
    staged.discard()
    assert names(tmp_path) == {"out.onnx"}


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        external(tmp_path / "out.onnx")
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o640}


def test_a_missing_folder_and_a_folder_are_reported(tmp_path: Path) -> None:
    assert failure(lambda: ir.save(small_model(), tmp_path / "no" / "out.onnx")).code == "output-folder-missing"
    assert failure(lambda: ir.save(small_model(), tmp_path)).code == "output-not-a-file"
    assert failure(lambda: ir.save(small_model(), os.devnull)).code == "output-not-a-file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert failure(lambda: ir.save(small_model(), tmp_path / "out.onnx")).code == "output-not-writable"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("limit", [ir.SINGLE_FILE_LIMIT, 1000], ids=["one file", "external data"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    model = big_model()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        found = failure(lambda: ir.stage(model, tmp_path / "out.onnx", single_file_limit=limit))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.code == "disk-full"
    assert names(tmp_path) == set()


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    model = small_model()
    model.graph[0].attributes.add(ir.Attr("s", ir.AttributeType.SPARSE_TENSOR, None))
    with pytest.raises(ir.ModelError):
        ir.save(model, tmp_path / "out.onnx")
    assert names(tmp_path) == set()


# --- external data ----------------------------------------------------------------------------------------------------


def test_large_models_get_external_data_and_keep_their_content(tmp_path: Path) -> None:
    external(tmp_path / "out.onnx")
    (data,) = tmp_path.glob("out.*.data")
    assert len(data.name) == len("out..data") + 16
    found = arrays(tmp_path / "out.onnx")
    assert np.array_equal(found["big"], BIG)
    assert np.array_equal(found["twin"], BIG)
    assert np.array_equal(found["middle"], MIDDLE)
    assert np.array_equal(found["little"], LITTLE)
    model = onnx.load(tmp_path / "out.onnx")  # the reference loader agrees
    assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), BIG)


def test_large_tensors_lie_on_pages_small_ones_inside_and_equal_ones_once(tmp_path: Path) -> None:
    external(tmp_path / "out.onnx")
    tensors = {name: v.const_value for name, v in ir.load(tmp_path / "out.onnx").graph.initializers.items()}
    assert tensors["big"].offset % 4096 == 0
    assert tensors["middle"].offset % 64 == 0
    assert tensors["twin"].offset == tensors["big"].offset
    assert not isinstance(tensors["little"], ir.ExternalTensor)


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        external(tmp_path / folder / "out.onnx")
    assert names(tmp_path / "a") == names(tmp_path / "b")
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_that_came_with_external_data_keeps_it(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    ir.save(ir.load(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert len(list(tmp_path.glob("out.*.data"))) == 1
    assert len(list(tmp_path.glob("in.*.data"))) == 1


def test_a_clone_of_it_keeps_it_too(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    ir.save(ir.load(tmp_path / "in.onnx").clone(), tmp_path / "out.onnx")
    assert len(list(tmp_path.glob("out.*.data"))) == 1


def test_external_data_of_constant_nodes_is_carried(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    proto = onnx.load(tmp_path / "in.onnx", load_external_data=False)
    constant = next(node for node in proto.graph.node if node.op_type == "Constant")
    constant.attribute[0].t.CopyFrom(proto.graph.initializer[0])
    (tmp_path / "in.onnx").write_bytes(proto.SerializeToString())
    model = ir.load(tmp_path / "in.onnx")
    ir.save(model, tmp_path / "out.onnx")
    for path in tmp_path.glob("in.*"):
        path.unlink()
    again = ir.load(tmp_path / "out.onnx")
    node = next(node for node in again.graph if node.op_type == "Constant")
    assert np.array_equal(node.attributes["value"].as_tensor().numpy(), BIG)


def test_staging_leaves_the_model_in_memory_as_it_was(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    model = ir.load(tmp_path / "in.onnx")
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    ir.stage(model, tmp_path / "out.onnx").discard()
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


# --- the same path ----------------------------------------------------------------------------------------------------


def test_saving_over_the_input_replaces_its_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    external(path)
    old = names(tmp_path)
    model = ir.load(path)
    model.graph.initializers["middle"].const_value = ir.tensor(MIDDLE + 1)
    ir.save(model, path)
    assert len(names(tmp_path)) == 2
    assert names(tmp_path) & old == {"model.onnx"}
    assert np.array_equal(arrays(path)["middle"], MIDDLE + 1)
    assert np.array_equal(model.graph.initializers["big"].const_value.numpy(), BIG)  # in memory, too


def test_saving_the_same_again_keeps_the_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    external(path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    ir.save(ir.load(path), path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    ir.stage(ir.load(path), path).discard()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_data_that_another_model_reads_is_kept(tmp_path: Path) -> None:
    external(tmp_path / "model.onnx")
    (tmp_path / "other.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    ir.save(small_model(), tmp_path / "model.onnx")
    assert np.array_equal(arrays(tmp_path / "other.onnx")["big"], BIG)
    kept = names(tmp_path)
    ir.save(small_model(), tmp_path / "other.onnx")  # a copy: the data was not written for it
    assert names(tmp_path) == kept


@pytest.mark.parametrize("other", ["model.pb", "model.onnx.bak", "deploy.sh", "large.onnx", "../above.onnx"])
def test_data_that_any_other_file_names_is_kept(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    external(folder / "model.onnx")
    (data,) = folder.glob("*.data")
    padding = b" " * (save._SCANNED_UP_TO + 1 if other == "large.onnx" else 10)
    (folder / other).write_bytes(padding + data.name.encode() + b" trailing")
    ir.save(small_model(), folder / "model.onnx")
    assert data.exists()
    (folder / other).unlink()


def test_data_that_was_not_written_for_this_file_is_kept(tmp_path: Path) -> None:
    """As exporters write it, also where its name looks like ours."""
    external(tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert [(each.key, each.value) for each in proto.metadata_props] == [(save.DATA_KEY, data.name)]
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "model.onnx")
    ir.save(small_model(), tmp_path / "model.onnx")
    assert data.exists()


def test_data_with_a_second_name_is_kept(tmp_path: Path) -> None:
    external(tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    (tmp_path / "second.bin").hardlink_to(data)
    ir.save(small_model(), tmp_path / "model.onnx")
    assert data.exists()


def test_a_note_about_data_goes_with_the_data(tmp_path: Path) -> None:
    external(tmp_path / "model.onnx")
    model = ir.load(tmp_path / "model.onnx")
    for value in model.graph.initializers.values():
        value.const_value = ir.tensor(np.zeros(3, np.float32))
    proto = ir.stage(model, tmp_path / "small.onnx", single_file_limit=1 << 20)
    proto.commit()
    assert not onnx.load(tmp_path / "small.onnx").metadata_props


def test_data_in_another_folder_or_behind_a_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    external(tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    data.rename(tmp_path / "sub" / data.name)
    data.symlink_to(tmp_path / "sub" / data.name)
    ir.save(small_model(), tmp_path / "model.onnx")
    assert (tmp_path / "sub" / data.name).exists()
    assert data.is_symlink()


def test_replacing_what_is_no_model_removes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"not a model")
    (tmp_path / "out.data").write_bytes(b"another file")
    ir.save(small_model(), tmp_path / "out.onnx")
    assert names(tmp_path) == {"out.onnx", "out.data"}


# --- unchanged --------------------------------------------------------------------------------------------------------


def test_a_model_is_passed_on_byte_for_byte_with_its_data(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    (tmp_path / "to").mkdir()
    files = ir.data_files(ir.load(tmp_path / "in.onnx"))
    ir.stage_unchanged(tmp_path / "in.onnx", tmp_path / "to" / "out.onnx", files).commit()
    assert (tmp_path / "to" / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    assert np.array_equal(arrays(tmp_path / "to" / "out.onnx")["big"], BIG)
    ir.stage_unchanged(tmp_path / "in.onnx", tmp_path / "in.onnx", files).commit()
    assert np.array_equal(arrays(tmp_path / "in.onnx")["big"], BIG)


def test_passing_on_never_replaces_another_models_data(tmp_path: Path) -> None:
    external(tmp_path / "in.onnx")
    (tmp_path / "to").mkdir()
    files = ir.data_files(ir.load(tmp_path / "in.onnx"))
    (tmp_path / "to" / files[0]).write_bytes(b"other")
    found = failure(lambda: ir.stage_unchanged(tmp_path / "in.onnx", tmp_path / "to" / "out.onnx", files))
    assert found.code == "output-data-exists"
    assert names(tmp_path / "to") == set(files)


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    path.chmod(0o640)
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> g (float x) => (float y) { y = Abs(x) }')
    ir.save(ir.from_proto(model), path)
    assert path.stat().st_mode & 0o777 == 0o640
