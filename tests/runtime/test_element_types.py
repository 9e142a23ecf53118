"""Every element type that a kernel of ONNX Runtime takes: optimized, compared and measured by the command."""

from pathlib import Path

import onnx
import onnx.helper as oh
import pytest
from optimize_graph import ir
from optimize_graph.cli import main
from optimize_graph.runtime import open_session

NUMBERS = {name: number for name, number in onnx.TensorProto.DataType.items() if name != "UNDEFINED"}
# Types that onnxruntime 1.31's CPU provider has no kernel for in either of the operators.
WITHOUT_KERNEL = frozenset("COMPLEX64 COMPLEX128 FLOAT4E2M1 FLOAT8E8M0 UINT2 INT2 FLOAT6E2M3 FLOAT6E3M2".split())


def write(path: Path, op: str, number: int) -> Path:
    ports = [oh.make_tensor_value_info(name, number, [2, 3]) for name in "xy"]
    ports[1].type.tensor_type.ClearField("shape")
    graph = oh.make_graph([oh.make_node(op, ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 24)], ir_version=11)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("op", ["Identity", "Transpose"])
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_model_of_every_element_type_is_optimized_compared_and_measured(name: str, op: str, tmp_path: Path) -> None:
    path = write(tmp_path / "in.onnx", op, NUMBERS[name])
    try:
        open_session(path)
    except ir.ModelError as error:
        assert name in WITHOUT_KERNEL or (op == "Identity" and name in ("INT4", "UINT4")), error
        pytest.skip("no kernel")
    assert name not in WITHOUT_KERNEL
    assert main([str(path), str(tmp_path / "out.onnx")]) == 0
    assert main(["compare", str(path), str(tmp_path / "out.onnx")]) == 0
    assert main(["measure", str(path), "--seconds", "0.01"]) == 0
