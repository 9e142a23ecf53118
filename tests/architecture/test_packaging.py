"""What the package asks of its environment."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lower_bounds() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"]
    found = (re.match(r"([\w-]+)>=([\d.]+)", each) for each in [*PROJECT["dependencies"], *extras["gpu"]])
    return {each[1]: each[2] for each in found if each and each[1] != "onnxruntime"}


def test_the_oldest_versions_that_are_tried_are_those_that_are_promised() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if line and not line.startswith("#"))

    def release(version: str) -> list[int]:
        numbers = [int(part) for part in version.split(".")]
        return numbers + [0] * (3 - len(numbers))

    assert {name: release(each) for name, each in tried.items()} == {
        name: release(each) for name, each in lower_bounds().items()
    }


def test_no_distribution_of_onnx_runtime_is_installed_beside_one_that_is_there() -> None:
    assert not [each for each in PROJECT["dependencies"] if each.startswith("onnxruntime")]
    assert PROJECT["optional-dependencies"]["cpu"]


def test_the_command_of_the_readme_installs_onnx_runtime() -> None:
    shown = re.search(r"<!-- main -->(.*?)<!-- end -->", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None and "pip install '.[gpu]'" in shown[1]
    assert any("gpu" in each for each in PROJECT["optional-dependencies"]["test"])
