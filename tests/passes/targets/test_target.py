"""Targets: what the built-in files say."""

from __future__ import annotations

import pytest
from optimize_graph import ir
from optimize_graph.passes import Target
from optimize_graph.passes.pipeline.phase import Phase
from optimize_graph.passes.targets.target_file import built_in, find, for_provider
from optimize_graph.passes.targets.target_schema import PHASES


def test_a_target_has_a_provider_or_is_another_runtime() -> None:
    facts = {name: (find(name).provider, Target(name).is_onnxruntime) for name in ("ort-cpu", "ort-cuda", "onnx")}
    assert facts == {"ort-cpu": ("cpu", True), "ort-cuda": ("cuda", True), "onnx": ("", False)}
    assert [name for name in built_in() if Target(name).is_cpu] == ["ort-cpu"]
    assert [name for name in built_in() if Target(name).is_cuda] == ["ort-cuda"]


def test_a_file_is_called_as_the_target_in_it_and_stands_for_a_provider_alone() -> None:
    assert [find(name).name for name in built_in()] == built_in()
    providers = [find(name).provider for name in built_in() if find(name).provider]
    assert [for_provider(each).provider for each in providers] == providers and len({*providers}) == len(providers)


def test_an_unknown_name_is_rejected() -> None:
    with pytest.raises(ir.OptionsError, match="no target is called 'ort-cpus'; did you mean 'ort-cpu'"):
        Target("ort-cpus")


def test_the_schema_has_every_phase() -> None:
    assert [*map(str, Phase)] == [*PHASES]
