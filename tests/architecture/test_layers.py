"""Which layer may import which, held by reading the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("ir", "passes", "runtime")
MAY_IMPORT = {
    "ir": set(),
    "passes": {"ir"},
    "runtime": {"ir"},
    "jobs": {"ir", "passes", "runtime"},
    "render": {"ir", "passes", "runtime", "jobs"},
    "cli": {"ir", "passes", "runtime", "jobs", "render"},
}
FOREIGN = {
    "ir": {"onnx", "onnx_ir", "onnx_graphsurgeon", "networkx"},
    "passes": set(),
    "runtime": {"onnxruntime"},
}
KEPT_BELOW = {"onnx", "onnx_ir", "onnx_graphsurgeon", "networkx", "onnxruntime", "torch"}


def imports_of(path: Path) -> Iterator[str]:
    """What a file imports: top-level package names, and `.layer` for a sibling layer of the package."""
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from (f".{name}" for name in names)


def test_imports_are_read_with_their_level(tmp_path: Path) -> None:
    found = set(imports_of(ROOT / "passes" / "registry.py"))
    assert {".ir", "importlib"} <= found


@pytest.mark.parametrize("layer", sorted(MAY_IMPORT))
def test_a_layer_imports_only_downward(layer: str) -> None:
    forbidden = {f".{other}" for other in MAY_IMPORT if other != layer and other not in MAY_IMPORT[layer]}
    found = {(path.name, name) for path in (ROOT / layer).rglob("*.py") for name in imports_of(path)}
    assert not {(path, name) for path, name in found if name in forbidden}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_names_only_the_libraries_that_it_answers_for(layer: str) -> None:
    found = {(path.name, name) for path in (ROOT / layer).rglob("*.py") for name in imports_of(path)}
    assert not {(path, name) for path, name in found if name in KEPT_BELOW - FOREIGN[layer]}


def test_every_folder_of_the_package_is_installed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(["optimize_graph", *path.parent.relative_to(ROOT).parts])
        for folder in MAY_IMPORT
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == folders | {"optimize_graph"}


@pytest.mark.parametrize("absent", ["torch", "onnxruntime", "onnx_ir", "sympy"])
def test_importing_the_package_brings_in_nothing_heavy(absent: str) -> None:
    code = f"import optimize_graph, sys; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_main_job_never_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys, onnx.parser, optimize_graph\n"
        'm = onnx.parser.parse_model(\'<ir_version: 10, opset_import: ["": 21]> '
        "g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }')\n"
        "optimize_graph.optimize(m)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
