"""Golden tests of rules: prose, before, after, and the condition of each miss, beside the tests of the rule's folder.

A file `RULE.md` holds cases under `## title` headings. A case is a block "```onnx before" in ONNX text with an
"```onnx after" block, or one block "```onnx unchanged: CONDITION", where CONDITION is the text of the refusal. It is
run for target ort-cpu, or for T in "```onnx before target=T" and "```onnx unchanged target=T: CONDITION". A value that
is declared after the outputs and gets no content is a constant with seeded data (positive when its name starts with
`var`, with an infinity in it when it starts with `inf`). Every hit is also run in ONNX Runtime, before and after.
What only its CUDA provider computes runs in onnx's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Exactness, Pipeline, Settings, Target, VerifyEach
from optimize_graph.passes.rewriting import driver
from optimize_graph.runtime import Datum, Feeds, SessionOptions, make_feeds, open_session
from support.cuda_operators import evaluator, runs_on_cuda_alone
from support.golden import BLOCK, CASES, Case, body_of, parse


def write_after(case: Case, after: str) -> None:
    """Put `after` into the case's own block."""
    content = case.path.read_text(encoding="utf-8")
    start = content.index(f"## {case.title}\n")
    block = next(each for each in BLOCK.finditer(content, start) if each["kind"].strip() == "after")
    case.path.write_text(content[: block.start("text")] + after + content[block.end("text") :], encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_does_what_its_golden_file_says(
    case: Case, update_golden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "is_foreign", lambda module: True)  # so that bodies are watched as a plugin's are
    proto = parse(case.before)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    untouched = body_of(model)
    pipeline = Pipeline.parse(f"rewrite{{rules={case.rule}}},dce")
    report = pipeline.run(model, [VerifyEach()], settings=Settings(Target(case.target)))
    refused = {each.condition for each in report.missed if each.rule == case.rule}
    if case.after is None:
        assert body_of(model) == untouched
        assert case.miss in refused or (case.miss == "the pattern" and not refused), refused
        return
    assert case.rule in report.log.by_rule(), refused
    if update_golden:
        write_after(case, body_of(model))
    else:
        assert body_of(model) == case.after
    assert_same_outputs(proto, ir.to_proto(model), exact=report.log.exactness is Exactness.EXACT)


def assert_same_outputs(before: onnx.ModelProto, after: onnx.ModelProto, *, exact: bool) -> None:
    """Bit for bit where the rule says so, else within a few roundings of the output's scale."""
    options = SessionOptions(optimize=False, prepacking=not exact)
    for seed in range(3):
        feeds = make_feeds(ir.from_proto(before), seed=seed)
        wanted, given = outputs_of(before, options, feeds), outputs_of(after, options, feeds)
        assert wanted.keys() == given.keys()
        for name in wanted:
            want, got = np.asarray(wanted[name]), np.asarray(given[name])
            assert (want.dtype, want.shape) == (got.dtype, got.shape)
            if exact or want.dtype.kind in "biu":
                assert want.tobytes() == got.tobytes(), name
            else:
                scale = np.abs(want.astype(np.float64)).max(initial=1e-6)
                allowed = 64 * np.finfo(want.dtype).eps * scale
                assert np.abs(want.astype(np.float64) - got.astype(np.float64)).max(initial=0.0) <= allowed, name


def outputs_of(model: onnx.ModelProto, options: SessionOptions, feeds: Feeds) -> Mapping[str, Datum]:
    """In ONNX Runtime, where it has kernels here."""
    if runs_on_cuda_alone(model):
        names = [value.name for value in model.graph.output]
        return dict(zip(names, evaluator(model).run(None, dict(feeds)), strict=True))
    return open_session(model.SerializeToString(), options).run(feeds)


def test_every_fusion_has_a_golden_file() -> None:
    fusions = {rule.name for rule in REGISTRY.rules.values() if rule.phase == "simplify"}
    assert fusions <= {case.rule for case in CASES}


@pytest.mark.parametrize("rule", sorted({case.rule for case in CASES}))
def test_every_condition_of_a_rule_has_a_near_miss(rule: str) -> None:
    """A legality condition without a near miss is not tested."""
    refused = {case.miss for case in CASES if case.rule == rule}
    wanted = {condition.text for condition in REGISTRY.rules[rule].requires if not condition.is_pattern}
    assert wanted <= refused
