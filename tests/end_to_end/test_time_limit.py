"""`--verify-timeout` ends every run and load of a session in a job, and what was left out is said."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.runtime import FeedSet, check_result
from optimize_graph.runtime.ort import session
from optimize_graph.runtime.verification.reference import Reference

pytestmark = pytest.mark.slow

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'
LOOP = """g (float[N,4] x) => (float[N,4] y) {
    n = Constant<value = int64 {COUNT}>() t = Constant<value = bool {1}>() i = Identity(x)
    y = Loop(n, t, i) <body = b (int64 k, bool c, float[N,4] s) => (bool d, float[N,4] u) {
        d = Identity(c) u = Neg(s)
    }>
}"""
ENDLESS, SHORT = LOOP.replace("COUNT", "1000000000"), LOOP.replace("COUNT", "4")


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER} {text}")


def test_a_job_on_a_model_that_does_not_end_is_ended_and_nothing_is_written(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ir.VerificationError) as error:
        optimize(model(ENDLESS), tmp_path / "out.onnx", Options(verify_timeout=0.5))
    found = error.value.diagnostic
    assert found.code == "time-limit"
    assert "no generated inputs ran to their end" in found.message
    assert "--verify-timeout" in found.hint and "--no-verify" in found.hint
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - start < 60  # without a limit it takes hours


def test_a_result_that_does_not_end_is_no_wrong_result() -> None:
    feeds = [FeedSet({"x": np.ones((2, 4), np.float32)}, "ones")]
    reference = Reference(model(SHORT).SerializeToString())
    with pytest.raises(ir.ModelError, match=r"ended the result's run, 0 of 1 input sets were compared \[time-limit\]"):
        check_result(reference, model(ENDLESS).SerializeToString(), feeds, 2.0)


def test_loading_is_cancelled_at_the_limit() -> None:
    nodes = "".join(f"x{nth + 1} = Neg(x{nth}) " for nth in range(4000))
    data = model(f"g (float[2] x0) => (float[2] x4000) {{ {nodes} }}").SerializeToString()
    with pytest.raises(ir.ModelError, match=r"loading the model: no time is left for it \[time-limit\]"):
        session.open_session(data, time_limit_s=0.0)
