"""Calibration: thresholds from measured sizes, and the target file that has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from optimize_graph import ir
from optimize_graph.jobs.calibrate import ENTRIES, Calibration, Entry, calibrate, chosen, rewritten, target_text
from optimize_graph.passes import REGISTRY, Target
from optimize_graph.passes.targets.target_schema import PROFIT
from optimize_graph.runtime import Ratio

pytestmark = pytest.mark.slow

FASTER, SLOWER, EQUAL = (Ratio(each, each - 0.01, each + 0.01, 9) for each in (1.2, 0.8, 1.0))


@pytest.mark.parametrize("entry", ENTRIES, ids=[each.name for each in ENTRIES])
def test_the_rule_of_an_entry_applies_to_its_model_at_every_size(entry: Entry) -> None:
    assert entry.name in PROFIT and entry.rule in REGISTRY.rules
    for size in entry.sizes:
        before, after = (
            [node.op_type for node in model.graph] for model in (entry.model(size), rewritten(entry, size, Target()))
        )
        assert before != after


@pytest.mark.parametrize(
    ("speeds", "lower", "upper"),
    [
        ((SLOWER, FASTER, FASTER), 20, None),
        ((FASTER, FASTER, SLOWER), None, 20),
        ((FASTER, SLOWER, FASTER), 30, 10),
        ((FASTER, FASTER, FASTER), 10, 30),
        ((EQUAL, EQUAL, EQUAL), None, None),
    ],
)
def test_a_threshold_is_the_last_size_up_to_which_all_are_faster(
    speeds: tuple[Ratio, ...], lower: int | None, upper: int | None
) -> None:
    measured = dict(zip((10, 20, 30), speeds, strict=True))
    assert (chosen(measured, is_upper=False), chosen(measured, is_upper=True)) == (lower, upper)


def test_what_was_measured_is_a_target_that_extends_the_other(tmp_path: Path) -> None:
    found = [
        Calibration("softmax-inner", "decompose-softmax-outer-axis", {64: FASTER}, 64),
        Calibration("outer-product-width", "outer-product-to-matmul", {4: SLOWER}, None),
    ]
    path = tmp_path / "here.toml"
    path.write_text(target_text("here", "ort-cpu", found, threads=1))
    target = Target(path)
    assert target.is_cpu and target.file.lineage == ("here", "ort-cpu")
    assert target.threshold("softmax-inner") == 64 and target.file.never == {"outer-product-to-matmul"}


def test_only_what_the_cpu_runs_is_measured() -> None:
    with pytest.raises(ir.OptionsError, match="which does not run ort-cuda"):
        calibrate("ort-cuda")


def test_the_command_writes_a_file_that_is_right(tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    line = [sys.executable, "-m", "optimize_graph", "calibrate", str(path), "--seconds", "0.001"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Target(path).file.name == "here" and "threads: 1" in path.read_text()
