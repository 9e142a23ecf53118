"""Targets."""

from __future__ import annotations

import pytest
from optimize_graph import ir
from optimize_graph.options import TARGETS
from optimize_graph.passes import Target
from optimize_graph.passes.targets.target import Provider


def test_a_target_has_a_provider_or_is_another_runtime() -> None:
    facts = {name: (Target(name).provider, Target(name).is_onnxruntime) for name in TARGETS}
    assert facts == {"ort-cpu": (Provider.CPU, True), "ort-cuda": (Provider.CUDA, True), "onnx": (None, False)}
    assert [name for name in TARGETS if Target(name).is_cpu] == ["ort-cpu"]
    assert [name for name in TARGETS if Target(name).is_cuda] == ["ort-cuda"]


def test_an_unknown_name_is_rejected() -> None:
    with pytest.raises(ir.PipelineError, match="no target is called 'ort-cpus'; did you mean 'ort-cpu'"):
        Target("ort-cpus")
