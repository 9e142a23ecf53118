"""Passes that plan first and act then: every value is looked at again when it is used."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
from onnx import TensorProto
from optimize_graph import Options, ir, optimize
from optimize_graph.jobs.model_source import Source
from optimize_graph.jobs.optimization.pipeline_runner import PipelineRunner
from optimize_graph.runtime import SessionOptions, open_session
from optimize_graph.testing.golden import parse
from support.catalogue import CASES
from support.sampling import EVERYTHING, in_sample

pytestmark = pytest.mark.slow

MODELS = 24 if EVERYTHING else 12
SHARE = 0.3  # of the golden models


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Nodes that were inserted or changed so that they read the result of an erased node."""
    stale: list[str] = []

    def look(node: ir.Node) -> None:
        for each in (node, *(inner for body in ir.subgraphs_of(node) for inner in body.all_nodes())):
            for value in each.inputs:
                producer = None if value is None else value.producer()
                if producer is not None and producer.graph is None:
                    stale.append(f"{each.op_type} reads {value.name!r} of an erased {producer.op_type}")

    plain = ir.Rewriter._changed

    def changed(self: ir.Rewriter, event: str, *changed: ir.Node | ir.Value) -> None:
        plain(self, event, *changed)
        for node in changed:
            if event != "erased" and isinstance(node, ir.Node):
                look(node)

    monkeypatch.setattr(ir.Rewriter, "_changed", changed)
    yield stale


def tiled(seed: int) -> onnx.ModelProto:
    """Slices of slices that tile their axes, with moves and products between: much is planned twice."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    outputs: list[str] = []

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(nodes)}"
        nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(*content: int) -> str:
        name = f"c{len(weights)}"
        weights[name] = np.array(content, np.int64)
        return name

    def grow(value: str, shape: tuple[int, ...], depth: int) -> None:
        axis = int(random.integers(0, len(shape)))
        size = shape[axis]
        if depth == 0 or size < 2:
            outputs.append(add(str(random.choice(["Neg", "Exp", "Relu", "Abs"])), value))
            return
        cuts = sorted({0, size, *map(int, random.integers(1, size, int(random.integers(1, 4))))})
        for start, stop in itertools.pairwise(cuts):
            piece = add("Slice", value, constant(start), constant(stop), constant(axis), constant(1))
            inner = (*shape[:axis], stop - start, *shape[axis + 1 :])
            if random.random() < 0.3:
                order = [int(each) for each in random.permutation(len(inner))]
                piece, inner = add("Transpose", piece, perm=order), tuple(inner[each] for each in order)
            if random.random() < 0.2:
                piece = add("Identity", piece)
            if random.random() < 0.2:
                weight = f"w{len(weights)}"
                weights[weight] = random.standard_normal((inner[-1], inner[-1])).astype(np.float32)
                piece = add("MatMul", piece, weight)
            grow(piece, inner, depth - 1)

    shape = (4, 6, 16)
    grow("x", shape, 3)
    random.shuffle(outputs)
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_no_node_of_nested_tilings_reads_what_was_replaced(watched: list[str], target: str) -> None:
    splits = 0
    for seed in range(MODELS):
        model = tiled(seed)
        result = optimize(model, options=Options(target=target, verify=False))
        assert not watched, (seed, watched[:3])
        assert not ir.verify(result.model) and not result.isolated, seed
        splits += sum(node.op_type == "Split" for node in result.model.graph)
        feeds = {"x": np.random.default_rng(seed).standard_normal((4, 6, 16)).astype(np.float32)}
        plain = SessionOptions(optimize=False)
        want = open_session(model.SerializeToString(), plain).run(feeds)
        got = open_session(ir.to_bytes(result.model), plain).run(feeds)
        assert all(np.allclose(want[name], got[name], rtol=1e-5, atol=1e-5) for name in want), seed
    assert splits > MODELS


def test_no_node_of_the_golden_models_reads_what_was_replaced(watched: list[str]) -> None:
    for case in CASES:
        if not in_sample(case, SHARE):
            continue
        options = Options(verify=False)
        PipelineRunner(Source.of(parse(case.before), options), options).run(on_failure="skip")
        assert not watched, (str(case), watched[:3])


def test_a_rotary_embedding_over_a_part_of_the_head_is_split_twice() -> None:
    """GPT-NeoX and Phi: a part of a head is rotated, and the two parts of that swap places."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2,4,16] x) => (float[2,4,16] y)
        <int64[1] z = {0}, int64[1] f = {4}, int64[1] e = {8}, int64[1] s = {16}, int64[1] o = {2}> {
            c = Slice(x, e, s, o)  a = Slice(x, z, e, o)  a1 = Slice(a, z, f, o)  a2 = Slice(a, f, e, o)
            n = Neg(a2)  t = Concat<axis = 2>(n, a1)  u = Add(a, t)  y = Concat<axis = 2>(u, c) }""")
    result = optimize(model)
    assert result.verification is not None and result.verification.ok and not result.isolated
    assert not [remark for remark in result.remarks if remark.severity != "remark"]
    assert [node.op_type for node in result.model.graph].count("Split") == 2
