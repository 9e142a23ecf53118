"""Reading: what is kept, what is refused, and how it is said."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper
from optimize_graph import ir

SMALL = """<ir_version: 8, opset_import: ["": 17, "com.acme": 2], producer_name: "p", doc_string: "d">
g (float[N,3] x) => (float[N,3] y) <float[3] w = {1, 2, 3}, float[N,3] a> {
  a = Add (x, w)
  y = com.acme.Twist <how = "well", by = [1, 2]> (a, , w)
}"""


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def written(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def miss(path: Path | str, **options: bool) -> ir.Diagnostic:
    with pytest.raises(ir.ModelError) as caught:
        ir.load(path, **options)
    assert "\n" not in str(caught.value)
    return caught.value.diagnostic


def constant_model(tensor: TensorProto, ir_version: int = 8) -> onnx.ModelProto:
    node = helper.make_node("Identity", [tensor.name], ["y"])
    output = onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([node], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)


# --- what is kept -----------------------------------------------------------------------------------------------------


def everything() -> onnx.ModelProto:
    proto = parse(SMALL)
    graph = proto.graph
    graph.doc_string = "about the graph"
    graph.metadata_props.add(key="k", value="v")
    graph.node[0].doc_string = "about the node"
    graph.node[0].metadata_props.add(key="source", value="line 1")
    graph.initializer[0].doc_string = "about the weight"
    graph.initializer[0].metadata_props.add(key="w", value="1")
    graph.input[0].type.denotation = "IMAGE"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.input[0].metadata_props.add(key="in", value="1")
    proto.metadata_props.add(key="a", value="1")
    proto.metadata_props.add(key="b", value="2")
    proto.model_version, proto.domain, proto.producer_version = 3, "com.acme", "9"
    return proto


CONTROL = """<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (bool c, float[N] x) => (float[M] y) {
  y = If (c) <then_branch = t () => (float[M] a) { a = Neg (x) },
              else_branch = e () => (float[M] b) <float[1] k = {2}> { b = f.twice <by = 2.0> (x) }>
}
<domain: "f", opset_import: ["": 21]>
twice <by> (v) => (r) { two = Constant <value_float: float = @by> ()  r = Mul (v, two) }"""


def shown(proto: onnx.ModelProto) -> list[str]:
    """The proto as text; an empty domain may be written or left out."""
    return [line for line in str(proto).splitlines() if line.strip() != 'domain: ""']


@pytest.mark.parametrize("proto", [everything(), parse(SMALL), parse(CONTROL)], ids=["full", "small", "control"])
def test_what_was_read_is_what_is_written(proto: onnx.ModelProto) -> None:
    assert shown(ir.to_proto(ir.from_proto(proto))) == shown(proto)


def test_declared_types_of_function_values_stay() -> None:
    proto = parse(CONTROL)
    for name in ("v", "two"):
        proto.functions[0].value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["K"]))
    again = ir.to_proto(ir.from_proto(proto))
    assert [value.name for value in again.functions[0].value_info] == ["v", "two"]


def test_metadata_of_a_weight_is_not_doubled_by_saving_again() -> None:
    once = ir.to_proto(ir.from_proto(everything()))
    twice = ir.to_proto(ir.from_proto(once))
    assert len(twice.graph.initializer[0].metadata_props) == 1


def test_no_value_info_is_added_for_initializers() -> None:
    model = ir.from_proto(parse(SMALL))
    assert [value.name for value in ir.to_proto(model).graph.value_info] == ["a"]
    assert model.graph.initializers["w"].type == ir.TensorType(ir.DataType.FLOAT)


def test_declared_value_info_of_an_initializer_stays_also_in_a_clone() -> None:
    proto = parse(SMALL)
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    clone = ir.from_proto(proto).clone()
    assert {value.name for value in ir.to_proto(clone).graph.value_info} == {"a", "w"}


def test_the_proto_that_is_given_stays_as_it_is() -> None:
    proto = everything()
    before = proto.SerializeToString(deterministic=True)
    model = ir.from_proto(proto)
    model.graph.initializers["w"].name = "renamed"
    ir.to_proto(model)
    assert proto.SerializeToString(deterministic=True) == before


def test_bytes_are_the_same_under_every_hash_seed(tmp_path: Path) -> None:
    path = written(tmp_path, everything())
    script = f"from optimize_graph import ir; print(ir.to_bytes(ir.load({str(path)!r})).hex())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1 and runs.pop()


def test_nodes_know_their_opset() -> None:
    assert [node.version for node in ir.from_proto(parse(SMALL)).graph] == [17, 2]


def test_the_default_domain_has_one_name() -> None:
    model = ir.from_proto(parse('<ir_version: 8, opset_import: ["ai.onnx": 17]> g (float x) => (float y) {y = Neg(x)}'))
    assert model.opset_imports == {"": 17}
    assert ir.verify(model) == []


def test_a_file_without_opset_imports_before_ir_3_has_opset_1() -> None:
    proto = parse('<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) {y = Neg(x)}')
    del proto.opset_import[:]
    proto.ir_version = 2
    assert ir.from_proto(proto).opset_imports == {"": 1}


def test_an_attribute_without_a_type_gets_that_of_its_content() -> None:
    proto = parse('<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) {y = LeakyRelu<alpha = 0.5>(x)}')
    proto.graph.node[0].attribute[0].ClearField("type")
    assert ir.attribute(next(iter(ir.from_proto(proto).graph)), "alpha") == 0.5


# --- IR versions ------------------------------------------------------------------------------------------------------

WITH_INPUT = """<ir_version: {version}, opset_import: ["": 8]>
g (float[2] w, float[2] x) => (float[2] y) <float[2] w = {{1, 2}}> {{ y = Add (x, w) }}"""


def test_below_ir_4_initializers_leave_the_inputs_with_a_remark() -> None:
    model = ir.from_proto(parse(WITH_INPUT.format(version=3)))
    assert model.ir_version == 4
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert ir.is_constant(model.graph.initializers["w"])
    assert {remark.code for remark in ir.load_remarks(model)} == {"ir-version-raised"}
    again = ir.from_proto(ir.to_bytes(model))
    assert ir.verify(again) == [] and ir.load_remarks(again) == []


def test_from_ir_4_on_an_initializer_that_is_an_input_stays_overridable() -> None:
    model = ir.from_proto(parse(WITH_INPUT.format(version=4)))
    assert [value.name for value in model.graph.inputs] == ["w", "x"]
    assert ir.is_overridable(model.graph.initializers["w"])
    assert not ir.is_constant(model.graph.initializers["w"])


def test_what_a_loop_feeds_stays_an_input_of_its_body_below_ir_4() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "k"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("k", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("w", 1, [])],
        [helper.make_tensor(name, 1, [], [1.0]) for name in ("v", "k")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("n", 7, []), helper.make_tensor_value_info("x", 1, [])],
        [helper.make_tensor_value_info("y", 1, [])],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3))
    (inner,) = ir.subgraphs_of(model.graph[0])
    assert [value.name for value in inner.inputs] == ["i", "go", "v"]
    assert ir.verify(model) == []


# --- what this form cannot hold ---------------------------------------------------------------------------------------


def sparse_initializer(proto: onnx.ModelProto) -> None:
    values = helper.make_tensor("w2", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def sparse_attribute(proto: onnx.ModelProto) -> None:
    sparse_initializer(proto)
    proto.graph.node[0].attribute.add(
        name="s", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=proto.graph.sparse_initializer[0]
    )
    del proto.graph.sparse_initializer[:]


def training_info(proto: onnx.ModelProto) -> None:
    proto.training_info.add().algorithm.name = "sgd"


def map_type(proto: onnx.ModelProto) -> None:
    """In a body: of the inputs and outputs of a model such types are kept."""
    proto.CopyFrom(parse(CONTROL))
    kind = proto.graph.node[0].attribute[0].g.output[0].type
    kind.Clear()
    kind.map_type.key_type = TensorProto.INT64
    kind.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT


def map_output(proto: onnx.ModelProto) -> None:
    kind = proto.graph.output[0].type.sequence_type.elem_type.map_type
    kind.key_type = TensorProto.STRING
    kind.value_type.tensor_type.elem_type = TensorProto.FLOAT


def map_input(proto: onnx.ModelProto) -> None:
    kind = proto.graph.input[0].type.map_type
    kind.key_type = TensorProto.INT64
    kind.value_type.tensor_type.elem_type = TensorProto.FLOAT


def opaque_type(proto: onnx.ModelProto) -> None:
    # the base onnx package may leave the message for it out: an unknown field of the type
    proto.graph.output[0].type.MergeFromString(b"\x3a\x03\x0a\x01x")


def quantization_annotation(proto: onnx.ModelProto) -> None:
    proto.graph.quantization_annotation.add(tensor_name="a")


def undefined_output(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(helper.make_tensor_value_info("nowhere", 1, [1]))


def unknown_field(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].MergeFromString(b"\xfa\x3f\x01x")


def same_key_twice(proto: onnx.ModelProto) -> None:
    for value in "ab":
        proto.metadata_props.add(key="k", value=value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sparse_initializer, "sparse initializers"),
        (sparse_attribute, "sparse tensors in attributes"),
        (training_info, "training_info"),
        (map_type, "map types"),
        (quantization_annotation, "quantization annotations"),
        (undefined_output, "graph output 'nowhere'"),
        (unknown_field, "fields of NodeProto"),
        (same_key_twice, "model metadata"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_what_would_be_lost_is_listed_remarked_and_not_written(change, said: str) -> None:
    proto = parse(SMALL)
    change(proto)
    model = ir.from_proto(proto)
    (loss,) = ir.not_representable(model)
    assert any(loss.startswith(part) for part in said.split("|"))
    assert [remark.code for remark in ir.load_remarks(model)] == ["not-representable"]
    with pytest.raises(ir.ModelError, match="would lose"):
        ir.to_proto(model)


@pytest.mark.parametrize("change", [map_output, map_input, opaque_type])
def test_types_of_the_interface_that_the_form_has_not_are_kept_aside(change) -> None:
    proto = parse(SMALL)
    change(proto)
    model = ir.from_proto(proto)
    assert not ir.not_representable(model)
    for again in (ir.to_proto(model), ir.to_proto(model.clone())):
        assert list(again.graph.output) == list(proto.graph.output)
        assert list(again.graph.input) == list(proto.graph.input)


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_tensors_have_their_values_in_memory(linear: bool) -> None:
    proto = parse("""<ir_version: 10, opset_import: ["": 21]>
        g (float[2,3] x) => (float[2,3] y) { c = Constant<value_float = 0.0>() a = Add(x, w)  y = Add(a, c) }""")
    sparse = proto.graph.sparse_initializer.add()
    sparse.dims.extend([2, 3])
    places = [1, 5] if linear else [[0, 1], [1, 2]]
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([4, 7], np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array(places)))
    attribute = proto.graph.node[0].attribute[0]
    attribute.Clear()
    attribute.name, attribute.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    attribute.sparse_tensor.CopyFrom(sparse)
    model = ir.from_proto(proto)
    assert set(ir.not_representable(model)) == {"sparse initializers", "sparse tensors in attributes"}
    want = np.array([[0, 4, 0], [0, 0, 7]], np.float32)
    assert np.array_equal(model.graph.initializers["w"].const_value.numpy(), want)
    assert np.array_equal(ir.attribute(model.graph[0], "value").numpy(), want)
    assert not ir.verify(model)


def test_a_branch_that_gives_an_outer_value_is_passed_on() -> None:
    proto = parse(CONTROL)
    branch = proto.graph.node[0].attribute[0].g
    branch.output[0].name = "x"
    assert ir.not_representable(ir.from_proto(proto)) == ("graph output 'x', which its graph does not define",)


# --- what is no model -------------------------------------------------------------------------------------------------


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"import torch\n\nmodel = 1\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x20\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"w": {}}', "safetensors"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (np.random.default_rng(0).bytes(4096), "is not an ONNX model"),
        (bytes(4096), "is not an ONNX model"),
    ],
    ids=["text", "lfs", "html", "tflite", "safetensors", "gguf", "npy", "noise", "zeros"],
)
def test_what_is_no_model_is_told_what_it_looks_like(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    found = miss(path)
    assert found.code == "not-onnx"
    assert said in found.message


def test_a_pytorch_archive_is_recognized(tmp_path: Path) -> None:
    archive(tmp_path / "model.pt")
    assert "PyTorch" in miss(tmp_path / "model.pt").message


def test_a_lone_tensor_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "input_0.pb"
    path.write_bytes(helper.make_tensor("x", 1, [2], [1.0, 2.0]).SerializeToString())
    assert miss(path).code == "not-onnx"


def test_missing_empty_and_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    written(tmp_path, parse(SMALL))
    assert miss(tmp_path / "absent.onnx").code == "file-not-found"
    assert miss(tmp_path / "empty.onnx").code == "file-empty"
    folder = miss(tmp_path)
    assert folder.code == "not-a-file"
    assert "model.onnx" in folder.hint
    assert miss("no\0name").code == "file-not-readable"


@pytest.mark.skipif(os.name == "nt", reason="POSIX special files")
def test_a_device_is_not_read(tmp_path: Path) -> None:
    assert miss("/dev/zero").code == "not-a-file"
    os.mkfifo(tmp_path / "pipe.onnx")
    assert miss(tmp_path / "pipe.onnx").code == "not-a-file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_reported(tmp_path: Path) -> None:
    path = written(tmp_path, parse(SMALL))
    path.chmod(0)
    assert miss(path).code == "file-not-readable"


def test_a_link_needs_leave(tmp_path: Path) -> None:
    path = written(tmp_path, parse(SMALL))
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    found = miss(link)
    assert found.code == "link-refused"
    assert "--follow-symlinks" in found.hint
    assert len(ir.load(link, follow_symlinks=True).graph) == 2
    hard = tmp_path / "hard.onnx"
    os.link(path, hard)
    assert len(ir.load(hard).graph) == 2


def test_a_truncated_file_is_reported(tmp_path: Path) -> None:
    content = everything().SerializeToString()
    path = tmp_path / "model.onnx"
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        assert miss(path).code in ("file-truncated", "not-onnx")
    path.write_bytes(content[: len(content) // 2])
    assert miss(path).code == "file-truncated"


@pytest.mark.parametrize(
    ("ir_version", "opset", "code"),
    [
        (99, 17, "ir-version-unsupported"),
        (-1, 17, "ir-version-unsupported"),
        (8, 99, "opset-unsupported"),
        (8, 0, "opset-unsupported"),
    ],
)
def test_versions_that_onnx_does_not_know_are_refused(ir_version: int, opset: int, code: str) -> None:
    proto = parse(SMALL)
    proto.ir_version, proto.opset_import[0].version = ir_version, opset
    with pytest.raises(ir.ModelError) as caught:
        ir.from_proto(proto)
    assert caught.value.diagnostic.code == code


def nested(depth: int) -> bytes:
    """If inside If, as bytes: protobuf's own writer stops long before."""

    def field(number: int, content: bytes) -> bytes:
        size, varint = len(content), b""
        while size > 0x7F:
            varint, size = varint + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + varint + bytes([size]) + content

    graph = field(2, b"g")
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


def test_nesting_up_to_protobufs_limit_is_read_and_deeper_is_refused() -> None:
    assert sum(1 for _ in ir.graphs(ir.from_proto(nested(30)))) == 31
    for depth in (40, 500):
        with pytest.raises(ir.ModelError) as caught:
            ir.from_proto(nested(depth))
        assert caught.value.diagnostic.code == "nested-too-deeply"


# --- tensors that lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(name="w", data_type=1, dims=[1 << 40]),
        TensorProto(name="w", data_type=1, dims=[1 << 62, 1 << 62, 0]),
        TensorProto(name="w", data_type=1, dims=[-1], raw_data=b"1234"),
        TensorProto(name="w", data_type=1, dims=[2], raw_data=b"1234"),
        TensorProto(name="w", data_type=1, dims=[2], raw_data=b""),
        TensorProto(name="w", data_type=1, dims=[2], float_data=[1.0]),
        TensorProto(name="w", data_type=8, dims=[2], string_data=[b"1"]),
        TensorProto(name="w", data_type=22, dims=[3], raw_data=b"1"),
        TensorProto(name="w", data_type=0, dims=[]),
        TensorProto(name="w", data_type=99, dims=[], raw_data=b"1234"),
    ],
    ids=["huge", "overflow", "negative", "short", "none", "few", "strings", "int4", "untyped", "unknown"],
)
def test_a_tensor_must_have_the_content_that_its_dims_say(tensor: TensorProto) -> None:
    for place in ("initializer", "attribute"):
        proto = constant_model(tensor)
        if place == "attribute":
            del proto.graph.initializer[:]
            proto.graph.node[0].op_type = "Constant"
            del proto.graph.node[0].input[:]
            proto.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
        with pytest.raises(ir.ModelError) as caught:
            ir.from_proto(proto)
        assert caught.value.diagnostic.code in ("tensor-malformed", "type-unknown")
        assert caught.value.diagnostic.where.value == "w"


@pytest.mark.parametrize("kind", [each for each in ir.DataType if each.name not in ("UNDEFINED", "STRING")])
def test_every_element_type_is_read_from_raw_and_typed_fields(kind: ir.DataType) -> None:
    raw = TensorProto(name="w", data_type=kind.value, dims=[5], raw_data=bytes((5 * kind.bitwidth + 7) // 8))
    model = ir.from_proto(constant_model(raw, ir_version=onnx.IR_VERSION))
    assert model.graph.initializers["w"].const_value.numpy().shape == (5,)
    if kind.name.startswith("FLOAT6"):
        return  # onnx's helper does not pack them
    typed = helper.make_tensor("w", kind.value, [5], [0] * 5)
    other = ir.from_proto(constant_model(typed, ir_version=onnx.IR_VERSION))
    assert other.graph.initializers["w"].const_value.numpy().shape == (5,)


def duplicate_initializer(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


def duplicate_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def duplicate_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute.append(proto.graph.node[1].attribute[0])


def duplicate_output(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "a"


def nameless_initializer(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].name = ""


def nameless_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = ""


@pytest.mark.parametrize(
    "change",
    [
        duplicate_initializer,
        duplicate_input,
        duplicate_attribute,
        duplicate_output,
        nameless_initializer,
        nameless_operator,
    ],
)
def test_what_onnx_ir_would_silently_drop_is_refused(change) -> None:
    proto = parse(SMALL)
    change(proto)
    with pytest.raises(ir.ModelError):
        ir.from_proto(proto)


def test_damaged_files_give_a_model_or_one_line(tmp_path: Path) -> None:
    """Cut and flip at 400 places: whatever comes of it is a model that can be looked at, or a ModelError."""
    rng = random.Random(0)
    sources = [everything().SerializeToString(), parse(CONTROL).SerializeToString()]
    path = tmp_path / "model.onnx"
    outcomes = {"model": 0, "error": 0}
    for turn in range(400):
        damaged = bytearray(sources[turn % 2])
        if turn % 4 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.choice([1, 1, 4])):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            model = ir.load(path)
            ir.verify(model)
            ir.text(model)
            if not ir.not_representable(model):
                ir.to_bytes(model)
            outcomes["model"] += 1
        except ir.ModelError as error:
            assert "\n" not in str(error)
            outcomes["error"] += 1
    assert min(outcomes.values()) > 20
