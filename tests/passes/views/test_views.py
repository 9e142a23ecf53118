"""A chain of data movement and the operators that its view is emitted as give the same elements, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from optimize_graph import ir
from optimize_graph.ir.shapes.evaluate import evaluate
from optimize_graph.ir.shapes.symbolic import named_dim
from optimize_graph.passes import Pipeline, VerifyEach
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager
from optimize_graph.passes.views.emit import Step, cost, emit
from optimize_graph.passes.views.node_view import chain
from optimize_graph.passes.views.view import View, identity
from optimize_graph.runtime import SessionOptions, open_session
from support.random_views import feeds, random_chains

MODELS = 105
"""About 96 chains each."""
SIZES = ({"n": 3, "m": 2}, {"n": 1, "m": 4}, {"n": 2, "m": 1})


in_batches = pytest.mark.parametrize(
    "seeds", np.array_split(np.arange(MODELS), 8), ids=lambda seeds: f"from seed {seeds[0]}"
)


def gathered(view: View, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """The elements that the strides of a view say."""

    def number(dim: object) -> int:
        found = evaluate(dim, sizes)  # type: ignore[arg-type]
        assert found is not None
        return found

    offset, groups = view.strides()
    index = np.array(number(offset))
    for axis, group in enumerate(groups):
        steps = np.zeros(1, dtype=np.int64)
        for count, stride in group:
            steps = (steps[:, None] + np.arange(number(count)) * number(stride)).reshape(-1)
        index = index + steps.reshape([-1 if at == axis else 1 for at in range(len(groups))])
    return array.reshape(-1)[index] if index.size else np.empty(index.shape, array.dtype)


def add_emitted(proto: onnx.ModelProto, source: str, steps: list[Step], name: str) -> None:
    """Compute the steps from `source` in the model, as an output of that name."""
    value = source
    for at, step in enumerate(steps):
        parameters = dict(step.parameters)
        operands = [] if step.target is None else [step.target]
        if step.op_type != "Transpose" and step.op_type != "Gather":
            operands += [parameters.pop(key) for key in ("starts", "ends", "axes", "steps") if key in parameters]
        names = [f"{name}_{at}_{index}" for index in range(len(operands))]
        for operand, content in zip(names, operands, strict=True):
            proto.graph.initializer.append(numpy_helper.from_array(np.array(content, dtype=np.int64), operand))
        proto.graph.node.append(helper.make_node(step.op_type, [value, *names], [f"{name}_{at}"], **parameters))
        value = f"{name}_{at}"
    proto.graph.node.append(helper.make_node("Identity", [value], [name]))
    add_output(proto, name)


def add_output(proto: onnx.ModelProto, name: str) -> None:
    output = helper.make_empty_tensor_value_info(name)
    output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    proto.graph.output.append(output)


@pytest.mark.slow
@in_batches
def test_a_view_and_its_operators_give_the_elements_of_the_chain(seeds: np.ndarray) -> None:
    before = after = 0
    for seed in seeds:
        proto = random_chains(int(seed))
        model = ir.from_proto(proto)
        shapes = Shapes.compute(model, AnalysisManager(model))
        traced = []
        for index, output in enumerate(model.graph.outputs):
            values = chain(output, shapes)
            source, view = values[-1]
            steps = emit(view)
            traced.append((output.name, source.name, view, f"emitted{index}" if steps is not None else None))
            if steps is not None:
                add_emitted(proto, source.name, steps, f"emitted{index}")
                before, after = before + len(values) - 1, after + cost(steps)
        known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
        for source_name in dict.fromkeys(source for _, source, *_ in traced if source not in known):
            add_output(proto, source_name)
        session = open_session(proto.SerializeToString(), SessionOptions(optimize=False))
        for sizes in SIZES:
            inputs = feeds(**sizes)
            results = {**inputs, **session.run(inputs)}
            for name, source_name, view, emitted in traced:
                expected = np.asarray(results[name])
                np.testing.assert_array_equal(gathered(view, np.asarray(results[source_name]), sizes), expected)
                if emitted is not None:
                    np.testing.assert_array_equal(np.asarray(results[emitted]), expected)
    assert after < 0.7 * before


@pytest.mark.slow
@in_batches
def test_simplified_chains_give_the_same_elements_by_fewer_operators(seeds: np.ndarray) -> None:
    before = after = 0
    for seed in seeds:
        proto = random_chains(int(seed))
        model = ir.from_proto(proto)
        Pipeline.parse("dce").run(model)
        most = len(model.graph)
        simplify = Pipeline.parse("rewrite{rules=simplify-views},dce")
        simplify.run(model, [VerifyEach()])
        least = len(model.graph)
        assert least <= most
        before, after = before + most, after + least
        sessions = [
            open_session(each.SerializeToString(), SessionOptions(optimize=False))
            for each in (proto, ir.to_proto(model))
        ]
        for sizes in SIZES:
            expected, results = (session.run(feeds(**sizes)) for session in sessions)
            for name, value in expected.items():
                np.testing.assert_array_equal(np.asarray(results[name]), np.asarray(value))
        assert not simplify.run(model).rewrites
    assert after < 0.7 * before


def test_a_dim_is_split_into_any_symbols_of_its_product() -> None:
    n, m = named_dim("n"), named_dim("m")
    assert identity((n * m * 6, 4)).reshape((n, 4, m * 6)) is None  # m * 6 is no multiple of 4
    view = identity((n * m * 6, 4)).reshape((n, m * 2, 12))
    assert view is not None
    assert view.dims == (n, m * 2, 12)


def test_equal_maps_are_equal_however_the_source_is_factored() -> None:
    n = named_dim("n")
    packed = identity((n, 2304)).reshape((n, 3, 12, 64))
    assert packed is not None
    chosen = packed.slice(1, 1, 1, 1)
    assert chosen is not None
    one = chosen.squeeze(1)
    sliced = identity((n, 2304)).slice(1, 768, 1, 768)
    assert sliced is not None
    other = sliced.reshape((n, 12, 64))
    assert one is not None
    assert other is not None
    assert one.same(other)
    assert not one.same(other.transpose((0, 2, 1)))


def test_a_reshape_that_cuts_through_a_range_is_no_view() -> None:
    sliced = identity((10, 6)).slice(0, 1, 1, 6)
    assert sliced is not None
    assert sliced.reshape((3, 2, 6)) is None  # rows 1 to 6 are no pairs of rows of ten
    assert sliced.reshape((6, 2, 3)) is not None


def test_repeated_heads_are_one_gather() -> None:
    n = named_dim("n")
    repeated = identity((n, 2, 8)).expand_dim(1, 3)
    assert emit(repeated) == [Step("Gather", (0, 0, 0, 1, 1, 1), {"axis": 1})]


def test_dims_that_no_constant_says_are_computed_where_that_is_allowed() -> None:
    n, m = named_dim("n"), named_dim("m")
    view = identity((n, 4, m, 8)).reshape((n * 4, m, 8))
    assert view is not None
    assert emit(view) is None
    steps = emit(view, computed=True)
    assert steps is not None
    assert [step.op_type for step in steps] == ["Reshape"]
    assert cost(steps) == 6  # Shape, Shape, Mul, Shape, Concat and the Reshape itself
