"""Profiles: what ONNX Runtime's profiler wrote, read by operator; self times, never a clock's verdict."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import SessionOptions, profile
from optimize_graph.runtime.benchmark.profiler import summarize

LOOP = """<ir_version: 10, opset_import: ["": 21]>
g (float[4] x, int64 n) => (float[4] y) {
    c = Constant<value_int = 1>() t = Cast<to = 9>(c)
    y = Loop(n, t, x) <body = b (int64 i, bool more, float[4] v) => (bool again, float[4] w) {
        again = Identity(more) u = Exp(v) w = Neg(u) }> }"""


def run(start: int, length: int) -> dict[str, Any]:
    return {"ph": "X", "cat": "Session", "name": "model_run", "ts": start, "dur": length, "tid": 1, "args": {}}


def kernel(node: str, operator: str, start: int, length: int, thread: int = 1) -> dict[str, Any]:
    arguments = {"op_name": operator, "provider": "CPUExecutionProvider"}
    name = f"{node}_kernel_time"
    return {"ph": "X", "cat": "Node", "name": name, "ts": start, "dur": length, "tid": thread, "args": arguments}


def times(events: list[dict[str, Any]], skip: int = 0) -> Mapping[str, float]:
    return {each.name: each.microseconds for each in summarize(events, skip=skip).operators}


def test_a_body_takes_its_time_from_the_node_that_holds_it() -> None:
    events = [kernel("a", "Exp", 12, 20), kernel("b", "Neg", 32, 5), kernel("l", "Loop", 10, 40), run(8, 50)]
    assert times(events) == {"Exp": 20, "Loop": 15, "Neg": 5}


def test_what_begins_with_its_holder_is_inside_and_what_begins_at_its_end_is_not() -> None:
    events = [kernel("a", "Exp", 10, 4), kernel("l", "Loop", 10, 10), kernel("b", "Neg", 20, 3), run(10, 20)]
    assert times(events) == {"Loop": 6, "Exp": 4, "Neg": 3}


def test_other_threads_are_not_inside() -> None:
    events = [kernel("a", "Exp", 10, 10), kernel("b", "Neg", 12, 5, thread=2), run(10, 20)]
    assert times(events) == {"Exp": 10, "Neg": 5}


def test_the_median_over_runs_counts_and_the_first_runs_do_not() -> None:
    events = [
        each
        for nth, length in enumerate((900, 10, 12, 50))
        for each in (run(nth * 1000, 950), kernel("a", "Exp", nth * 1000, length))
    ]
    assert times(events, skip=1) == {"Exp": 12}
    found = summarize(events, skip=1)
    assert (found.runs, found.microseconds, found.operators[0].calls) == (3, 950, 1)


def test_nodes_of_one_type_are_one_operator() -> None:
    events = [run(0, 100), kernel("a", "Exp", 0, 10), kernel("b", "Exp", 10, 30), kernel("c", "Neg", 40, 10)]
    found = summarize(events)
    assert [(each.operator, each.calls, each.share) for each in found.operators] == [("Exp", 2, 0.8), ("Neg", 1, 0.2)]
    assert [(each.name, each.operator) for each in found.nodes] == [("b", "Exp"), ("a", "Exp"), ("c", "Neg")]


def test_a_profile_without_a_run_is_an_error() -> None:
    with pytest.raises(ir.EnvironmentSetupError, match="no whole run"):
        summarize([run(0, 10)], skip=1)


def test_a_model_is_profiled_with_the_bodies_of_its_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx.parser.parse_model(LOOP).SerializeToString()
    feeds = {"x": np.ones(4, np.float32), "n": np.array(3)}
    found = profile(model, feeds, SessionOptions(optimize=False), runs=3)
    calls = {each.operator: each.calls for each in found.operators}
    assert calls == {"Loop": 1, "Exp": 3, "Neg": 3, "Identity": 3, "Cast": 1}
    assert found.runs == 3
    assert sum(each.share for each in found.operators) == pytest.approx(1)
    assert json.loads(json.dumps(found.to_json()))["runs"] == 3
    assert list(tmp_path.iterdir()) == []
