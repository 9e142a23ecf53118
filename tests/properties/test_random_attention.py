"""Random spellings of attention give what they gave, and become the operators that they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from support.checking import Disagreement, agree_as_backend_cases, optimized, session_of
from support.random_attention import SYMBOLS, Drawn


def check(drawn: Drawn, seed: int, target: str = "ort-cpu") -> Counter[str]:
    """The operators of the result; raise Disagreement when it differs from the model, or does not run."""
    before = session_of(drawn.model.SerializeToString())
    _, optimized_model = optimized(drawn.model, "default", target=target)
    produced = onnx.load_from_string(optimized_model)
    onnx.checker.check_model(produced)
    after = session_of(optimized_model)
    for symbols in SYMBOLS:
        feeds = drawn.feeds(symbols, seed)
        want = before.run(None, feeds)
        try:
            got = after.run(None, feeds)
        except Exception as error:
            raise Disagreement(f"the result does not run where the model does: {error}") from error
        names = [output.name for output in drawn.model.graph.output]
        agree_as_backend_cases(dict(zip(names, want)), dict(zip(names, got)), bitwise=False)
    return Counter(node.op_type for node in produced.graph.node)
