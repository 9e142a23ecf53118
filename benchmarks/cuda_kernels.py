"""Make `passes/targets/cuda_kernels.py` from a list of the kernels that ONNX Runtime registers.

    python benchmarks/cuda_kernels.py KERNELS.json > passes/targets/cuda_kernels.py

KERNELS.json maps `PROVIDER|DOMAIN|OPERATOR` to `[[[first, last], {constraint: [types]}], …]`, as
`onnxruntime.capi.onnxruntime_pybind11_state.get_all_opkernel_def` tells it. Kept are the operators that rules build for
target ort-cuda, those that lose their kernel at some opset, and the names of those that compute in float16.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx.defs

ROOT = Path(__file__).resolve().parents[1]
OTHER_TARGETS = ("ON_CPU", 'target("ort-cpu")', 'target("onnx")', 'target != "ort-cpu"', 'target != "onnx"')
OPEN = 2**31 - 1
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "bool": "b"}
HEADER = '''"""Kernels of ONNX Runtime's CUDA provider, {release}: data, made by `benchmarks/cuda_kernels.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

'''


def built_operators(folder: Path = ROOT / "passes") -> set[tuple[str, str]]:
    """The (domain, operator) that passes may build for target ort-cuda, as their sources spell them."""
    found: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.parent.name in ("clean", "recognize", "simplify", "legalize") and not any(
            mark in text for mark in OTHER_TARGETS
        ):
            found |= set(_built_in(ast.parse(text)))
    return found


def _built_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        builders = {each.arg for each in function.args.args if _is_builder(each.annotation)}
        for call in (each for statement in function.body for each in ast.walk(statement)):
            if not isinstance(call, ast.Call):
                continue
            domain = _domain(call)
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            owner = getattr(getattr(call.func, "value", None), "id", "")
            if owner in builders and name[0].isupper():
                yield domain, name
            if name in ("node", "new_node", "insert", "_insert") and call.args:
                for word in ast.walk(call.args[0]):  # a name, or a choice of names
                    if isinstance(word, ast.Constant) and (domain or word.value in standard):
                        yield domain, str(word.value)


def _is_builder(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "Builder"


def _domain(call: ast.Call) -> str:
    for keyword in call.keywords:
        if keyword.arg == "domain" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
        if keyword.arg == "domain" and isinstance(keyword.value, ast.Name):
            return "com.microsoft"  # the one other domain that rules build in, by its constant
    return ""


def versions(domain: str, op_type: str) -> list[int]:
    """Every version at which the operator was defined; 1 for operators that onnx does not know."""
    known = {each.since_version for each in onnx.defs.get_all_schemas_with_history() if each.name == op_type}
    return sorted(known) if not domain and known else [1]


def kernel_types(entries: list[list], version: int) -> set[str]:
    """The element types of the kernels for one version: an open-ended registration fits its own version alone."""
    types: set[str] = set()
    for (first, last), constraints in entries:
        if first == version or (first <= version <= last and last != OPEN):
            main = min(constraints, default="", key=lambda name: (name not in ("T", "T1"), name))
            tensors = (each for each in constraints.get(main, ["any"]) if not each.startswith(("seq(", "optional(")))
            found = {each.removeprefix("tensor(").removesuffix(")") for each in tensors}
            types |= {SHORT.get(each, each) for each in found if not each.startswith(("float8", "float4"))}
    return types


def table(kernels: dict[str, list]) -> Iterator[str]:
    cuda = {
        tuple(name.split("|")[1:]): rows for name, rows in kernels.items() if name.startswith("CUDAExecutionProvider|")
    }
    wanted = built_operators()
    halves: list[str] = []
    kept: dict[tuple[str, str], dict[int, set[str]]] = {}
    gaps: dict[str, list[int]] = {}
    for (domain, op_type), rows in sorted(cuda.items()):
        found = {version: kernel_types(rows, version) for version in versions(domain, op_type)}
        had = [version for version, types in found.items() if types]
        if not domain and had and (lost := [each for each in found if each > min(had) and not found[each]]):
            gaps[op_type] = lost
        if domain in ("", "com.microsoft"):
            in_half = tuple(version for version, types in found.items() if "f16" in types)
            halves += [f'    ("{domain}", "{op_type}"): {in_half!r},'] if in_half else []
        if (domain, op_type) in wanted:
            kept[domain, op_type] = {version: types for version, types in found.items() if types}
    yield "KERNELS: Final[Mapping[tuple[str, str], Mapping[int, str]]] = {"
    for name, by_version in kept.items():
        yield f'    ("{name[0]}", "{name[1]}"): {{'
        yield from (f'        {version}: "{" ".join(sorted(types))}",' for version, types in by_version.items())
        yield "    },"
    yield "}"
    yield '"""The element types of each operator\'s kernels, by the version of its definition."""'
    yield ""
    yield "GAPS: Final[Mapping[str, tuple[int, ...]]] = {"
    yield from (f'    "{name}": {tuple(lost)!r},' for name, lost in gaps.items())
    yield "}"
    yield '"""Standard operators with versions that have no kernel although an older one has."""'
    yield ""
    yield "FLOAT16: Final[Mapping[tuple[str, str], tuple[int, ...]]] = {"
    yield from halves
    yield "}"
    yield '"""The versions of each operator\'s definition that have a kernel for float16."""'


def main() -> None:
    kernels = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(HEADER.format(release="onnxruntime-gpu 1.31.1") + "\n".join(table(kernels)))


if __name__ == "__main__":
    main()
