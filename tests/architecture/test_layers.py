"""Which layer may import which, held by reading the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("ir", "passes", "runtime")
MAY_IMPORT = {
    "ir": set(),
    "passes": {"ir"},
    "runtime": {"ir"},
    "jobs": {"ir", "passes", "runtime"},
    "render": {"ir", "passes", "runtime", "jobs"},
    "testing": {"ir", "passes", "runtime", "jobs"},
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


@pytest.mark.parametrize("absent", ["torch", "sympy.core"])
def test_the_main_job_never_imports_torch_and_never_executes_sympy(absent: str) -> None:
    code = (
        "import sys, onnx.parser, optimize_graph\n"
        'm = onnx.parser.parse_model(\'<ir_version: 10, opset_import: ["": 21]> '
        "g (float[n,m] x) => (float[k] y) { s = Constant<value_ints = [-1]>() a = Reshape(x, s) y = Relu(a) }')\n"
        "optimize_graph.optimize(m)\n"
        f"sys.exit({absent!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_arithmetic_with_dims_executes_sympy_after_all() -> None:
    code = (
        "import sys\nfrom optimize_graph import ir\nassert 'sympy.core' not in sys.modules\n"
        "assert str(ir.SymbolicDim('n') + 1) == 'n + 1'\nassert 'sympy.core' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def modules_imported(path: Path) -> Iterator[tuple[Path, bool]]:
    """The files of the package that a file imports, and whether that happens when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split(".")) if node.module else None
            folder = folder or path.parents[node.level - 1]
            for alias in node.names:
                for found in (folder / f"{alias.name}.py", folder.with_suffix(".py")):
                    if found.exists() and found != path:
                        yield found, id(node) not in late
                        break


def graph_of(*, late: bool, by_folder: bool) -> nx.DiGraph:
    graph = nx.DiGraph()
    for layer in MAY_IMPORT:
        for path in (ROOT / layer).rglob("*.py"):
            for other, is_early in modules_imported(path):
                one, two = (path.parent, other.parent) if by_folder else (path, other)
                is_nested = by_folder and (one in two.parents or two in one.parents)
                if one != two and not is_nested and (late or is_early):
                    graph.add_edge(one.relative_to(ROOT), two.relative_to(ROOT))
    return graph


def test_no_two_modules_import_each_other_when_they_are_loaded() -> None:
    graph = graph_of(late=False, by_folder=False)
    assert len(graph) > 200
    assert not [sorted(map(str, each)) for each in nx.strongly_connected_components(graph) if len(each) > 1]


def test_no_two_folders_import_each_other() -> None:
    graph = graph_of(late=True, by_folder=True)
    assert len(graph) > 20
    assert not [sorted(map(str, each)) for each in nx.strongly_connected_components(graph) if len(each) > 1]


@pytest.mark.parametrize("layer", sorted(MAY_IMPORT))
def test_a_folder_has_at_most_fifteen_modules(layer: str) -> None:
    folders = {path.parent for path in (ROOT / layer).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {folder: count for folder, count in counts.items() if count > 15}


def test_every_package_says_what_is_in_it() -> None:
    files = [path for layer in MAY_IMPORT for path in (ROOT / layer).rglob("__init__.py")]
    assert not [str(path) for path in files if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


PEOPLE = re.compile(
    r"\b(nobody|somebody|anybody|whoever|culprit|guilty|put on show|halves|sounds|who is)\b", re.IGNORECASE
)


@pytest.mark.parametrize("layer", [*sorted(MAY_IMPORT), "docs"])
def test_the_language_of_the_code_is_that_of_the_field(layer: str) -> None:
    """No people, and one word for one thing: see CONTRIBUTING.md, Language."""
    pages = [path for path in (ROOT / layer).rglob("*") if path.suffix in (".py", ".md", ".j2")]
    found = [
        f"{path.relative_to(ROOT)}: {hit[0]}" for path in pages for hit in PEOPLE.finditer(path.read_text("utf-8"))
    ]
    assert not found
