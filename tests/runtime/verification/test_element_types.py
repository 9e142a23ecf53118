"""Every element type of the standard as input and output: optimized, compared and measured where kernels exist."""

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import pytest
from optimize_graph import cli, ir
from optimize_graph.runtime import make_feeds, open_session
from optimize_graph.runtime.ort.api import EXOTIC, from_ortvalue, to_ortvalue
from optimize_graph.runtime.verification.probes import perturb

TYPES = [name for name in onnx.TensorProto.DataType.keys() if name != "UNDEFINED"]  # noqa: SIM118
OPERATORS = ("Identity", "Reshape", "Transpose", "Cast", "Where")
# What ONNX Runtime's CPU provider takes and gives at opset 25, in any of the operators.
MUST_RUN = {
    *"FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 BFLOAT16".split(),
    *"FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 INT4".split(),
}


MEASURED = ("STRING", "BOOL", "BFLOAT16", "FLOAT8E4M3FN", "INT4")  # each takes a second: a process for its memory


def built(element: str, operator: str, container: str = "") -> onnx.ModelProto:
    number = onnx.TensorProto.DataType.Value(element)

    def info(name: str, rows: str) -> onnx.ValueInfoProto:
        kind = oh.make_tensor_type_proto(number, [rows, 4])
        if container == "sequence":
            kind = oh.make_sequence_type_proto(kind)
        if container == "optional":
            kind = oh.make_optional_type_proto(kind)
        return onnx.ValueInfoProto(name=name, type=kind)

    inputs, weights = [info("x", "N")], []
    match operator:
        case "Cast":
            nodes = [oh.make_node("Cast", ["x"], ["a"], to=1), oh.make_node("Cast", ["a"], ["y"], to=number)]
        case "Where":
            nodes = [oh.make_node("Where", ["c", "x", "x"], ["y"])]
            inputs.append(oh.make_tensor_value_info("c", onnx.TensorProto.BOOL, ["N", 4]))
        case "Reshape":
            nodes = [oh.make_node("Reshape", ["x", "s"], ["a"]), oh.make_node("Reshape", ["a", "s"], ["y"])]
            weights.append(onnx.numpy_helper.from_array(np.array([-1, 4]), "s"))
        case _:
            nodes = [oh.make_node(operator, ["x"], ["a"]), oh.make_node(operator, ["a"], ["y"])]
    graph = oh.make_graph(nodes, "g", inputs, [info("y", "M")], weights)
    return oh.make_model(graph, ir_version=12, opset_imports=[oh.make_opsetid("", 25)])


def has_kernel(model: onnx.ModelProto) -> bool:
    try:
        open_session(model.SerializeToString())
    except ir.ModelError:
        return False
    return True


def check(model: onnx.ModelProto, folder: Path, *, measured: bool = False) -> None:
    source, target = folder / "in.onnx", folder / "out.onnx"
    onnx.save(model, source)
    assert cli.main([str(source), str(target), "-q"]) == 0
    assert target.exists()
    assert cli.main(["compare", str(source), str(target)]) == 0
    assert not measured or cli.main(["measure", str(target), "--seconds", "0.02"]) == 0


@pytest.mark.parametrize("element", TYPES)
def test_a_model_of_each_element_type_is_optimized_and_compared(element: str, tmp_path: Path) -> None:
    models = [built(element, operator) for operator in OPERATORS]
    runnable = [model for model in models if has_kernel(model)]
    assert runnable or element not in MUST_RUN
    for model in runnable[:2]:
        check(model, tmp_path, measured=element in MEASURED and model is runnable[0])


@pytest.mark.parametrize("container", ["sequence", "optional"])
@pytest.mark.parametrize("element", ["FLOAT", "FLOAT16", "INT8", "UINT64", "STRING", "BOOL", "BFLOAT16"])
def test_sequences_and_optionals_are_optimized_and_compared_where_they_run(
    element: str, container: str, tmp_path: Path
) -> None:
    model = built(element, "Identity", container)
    if not has_kernel(model):
        assert element == "BFLOAT16"
        return
    check(model, tmp_path)


@pytest.mark.parametrize("element", EXOTIC)
@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_narrow_types_go_into_an_ortvalue_and_come_back(element: str, count: int) -> None:
    dtype = EXOTIC[element][1]
    codes = np.random.default_rng(0).integers(0, 4, count)
    want = (codes - 2 if element.startswith("int") else codes).astype(np.float32)
    want = 2 ** np.maximum(want, 0) if element == "float8e8m0" else want  # it has powers of 2 alone
    try:
        value = to_ortvalue(want.astype(dtype), element)
    except (RuntimeError, ValueError) as error:  # an ONNX Runtime that does not know the type
        assert element in ("float8e8m0", "float4e2m1", "uint2", "int2"), error
        return
    got = from_ortvalue(value)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(np.float32), want)


def test_made_inputs_of_narrow_types_stay_in_range() -> None:
    for element in ("INT4", "UINT4", "INT2", "UINT2", "FLOAT8E8M0"):
        array = np.asarray(make_feeds(ir.from_proto(built(element, "Identity")))["x"])
        assert array.size and array.dtype == oh.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(element))
        assert not np.isnan(array.astype(np.float32)).any()


@pytest.mark.parametrize("dtype", [each for _, each, _ in EXOTIC.values()], ids=str)
def test_types_whose_ulp_is_no_noise_are_not_moved(dtype: np.dtype[np.generic]) -> None:
    assert perturb({"x": np.array([1, 1, 0.5, 1.5]).astype(dtype)}, seed=0) is None
