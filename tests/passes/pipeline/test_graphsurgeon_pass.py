"""A function over an onnx_graphsurgeon.Graph is a pass."""

from __future__ import annotations

from typing import Any

import onnx.parser
import pytest
from optimize_graph import Options, VerificationError, optimize
from optimize_graph.passes import REGISTRY, Exactness, surgeon_pass

MODEL = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 21], producer_name: "us">
g (float[2,3] x) => (float[2,3] y) { a = Relu(x)  b = Relu(a)  y = Neg(b) }"""
)


def test_a_function_on_a_surgeon_graph_runs_as_a_pass_and_is_verified() -> None:
    with REGISTRY.scope():

        @surgeon_pass("ours-drop-second-relu")
        def drop_second_relu(graph: Any) -> None:
            first, second = (node for node in graph.nodes if node.op == "Relu")
            for user in second.outputs[0].outputs:
                user.inputs[0] = first.outputs[0]
            second.outputs.clear()
            graph.cleanup()

        result = optimize(MODEL, options=Options(passes="ours-drop-second-relu", strict=True))
    assert [node.op_type for node in result.model.graph] == ["Relu", "Neg"]
    assert result.exactness is Exactness.APPROXIMATE
    assert result.verification is not None and result.verification.ok
    assert result.model.producer_name == "us"


def test_a_surgeon_pass_that_changes_the_function_is_isolated_and_excluded() -> None:
    with REGISTRY.scope():

        @surgeon_pass("ours-exp")
        def relu_becomes_exp(graph: Any) -> None:
            for node in graph.nodes:
                node.op = "Exp" if node.op == "Relu" else node.op

        result = optimize(MODEL, options=Options(passes="ours-exp"))
        assert [each.rule for each in result.isolated] == ["ours-exp"]
        assert "Exp" not in [node.op_type for node in result.model.graph]
        with pytest.raises(VerificationError, match="ours-exp"):
            optimize(MODEL, options=Options(passes="ours-exp", strict=True))


def test_a_surgeon_pass_that_does_nothing_counts_as_no_change() -> None:
    with REGISTRY.scope():

        @surgeon_pass("ours-idle")
        def idle(graph: Any) -> None:
            """Nothing."""

        result = optimize(MODEL, options=Options(passes="ours-idle,dce"))
    assert not result.rewrites
    assert result.exactness is Exactness.EXACT
