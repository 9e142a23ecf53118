"""Generate `passes/targets/data/*.tsv` from the kernels that releases of ONNX Runtime register.

    python tools/generate_kernel_table.py dump > 1.31.json                with each release installed, in turn
    python tools/generate_kernel_table.py cpu 1.16.json … 1.32.json       writes passes/targets/data/cpu.tsv
    python tools/generate_kernel_table.py cuda 1.31.json                  writes passes/targets/data/cuda.tsv

`dump` needs a machine that can load the provider: for CUDA, its libraries. Releases are named by their files, the
oldest first. The data is that of Linux on x86-64; ONNX Runtime has more kernels for float16 on ARM. Its format is
described in `passes/targets/kernel_table.py`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "passes" / "targets" / "data"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DOMAINS = ("", "ai.onnx.ml", "com.microsoft")  # not those into which ONNX Runtime itself moves nodes
OPEN = 2**31 - 1
NAMED = {"float": "FLOAT", "double": "DOUBLE"}
COLUMNS = ("domain", "operator", "versions", "inputs", "outputs", "since", "until")

Types = tuple[str, ...]
Box = tuple[frozenset[str], ...]
"""The element types that one kernel takes, for each input and output that it constrains."""


@dataclass(frozen=True)
class Release:
    """What one release registers. A schema lists its inputs, then its outputs: (name, type parameter, is optional)."""

    name: str
    kernels: Mapping[str, list]
    schemas: Mapping[str, list]


def dump() -> dict[str, object]:
    """The kernels and the schemas of the installed release."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels = defaultdict(list)
    for each in state.get_all_opkernel_def():
        types = {name: sorted(given) for name, given in each.type_constraints.items()}
        kernels[f"{each.provider}|{each.domain}|{each.op_name}"].append([each.version_range, types])
    schemas = {}
    for each in state.get_all_operator_schema():
        formals = [
            [(formal.name, formal.typeStr, formal.option.name == "Optional") for formal in side]
            for side in (each.inputs, each.outputs)
        ]
        schemas[f"{each.domain}|{each.name}|{each.since_version}"] = formals
    return {"kernels": kernels, "schemas": schemas}


def place_of(constraint: str, schema: list) -> str:
    """Where a constraint is met first: `0` is the first input, `>0` the first output; "" for none.

    A place that must be given goes before an optional one. Kernels name a type parameter, or an input or output itself.
    """
    places = [
        (is_optional, f"{'>' if is_output else ''}{index}")
        for is_output, side in enumerate(schema)
        for index, (name, parameter, is_optional) in enumerate(side)
        if constraint in (name, parameter)
    ]
    return min(places, key=lambda each: each[0], default=(False, ""))[1]


def fits(first: int, last: int, version: int) -> bool:
    """An open-ended registration fits its own version alone (ONNX Runtime's `KernelRegistry::VerifyKernelDef`)."""
    return first == version or (first <= version <= last and last != OPEN)


def tensors(given: Iterable[str]) -> list[str]:
    """The element types, as onnx-ir abbreviates them; those of sequences, optionals and maps are left out."""
    import onnx_ir as oir  # here, so that `dump` needs nothing but ONNX Runtime

    names = (each.removeprefix("tensor(").removesuffix(")") for each in given if each.startswith("tensor("))
    return sorted(oir.DataType[NAMED.get(each, each.upper())].short_name() for each in names)


def kernels_for(rows: list, version: int, schema: list) -> Iterator[tuple[Types, Types]]:
    """Every (places, types) that has a kernel, type by type."""
    for (first, last), constraints in rows:
        if fits(first, last, version):
            places = {place: tensors(given) for name, given in constraints.items() if (place := place_of(name, schema))}
            known = sorted((place.startswith(">"), place) for place, types in places.items() if types)
            for types in product(*(places[place] for _, place in known)):
                yield tuple(place for _, place in known), types


def boxes(points: Iterable[Types]) -> list[Box]:
    """The points as few products of sets: one place after the other is joined where the others are the same."""
    found: set[Box] = {tuple(frozenset({each}) for each in point) for point in points}
    for index in reversed(range(len(next(iter(found), ())))):
        joined: dict[Box, frozenset[str]] = defaultdict(frozenset)
        for box in found:
            joined[*box[:index], *box[index + 1 :]] |= box[index]
        found = {(*others[:index], types, *others[index:]) for others, types in joined.items()}
    return sorted(found, key=lambda box: [sorted(each) for each in box])


def spelled(types: frozenset[str]) -> str:
    from optimize_graph.passes.targets.kernel_table import SETS

    words = []
    for name, members in SETS.items():
        if types >= set(members.split()):
            words.append(name)
            types -= set(members.split())
    return ",".join([*words, *sorted(types)])


def lines(releases: Sequence[Release], provider: str, domain: str) -> Iterator[str]:
    newest = releases[-1]
    prefix = f"{provider}|{domain}|"
    definitions = defaultdict(list)
    for name in newest.schemas:
        owner, op_type, version = name.split("|")
        if owner == domain:
            definitions[op_type].append(int(version))
    for op_type in sorted(name.removeprefix(prefix) for name in newest.kernels if name.startswith(prefix)):
        runs: list[tuple[list[int], list[str]]] = []  # versions of the definition that have the same kernels
        for version in sorted(definitions[op_type]):
            kernels = list(_of_version(releases, prefix + op_type, version, f"{domain}|{op_type}|{version}"))
            if runs and runs[-1][1] == kernels:
                runs[-1][0].append(version)
            else:
                runs.append(([version], kernels))
        for versions, kernels in runs:
            span = f"{versions[0]}-{versions[-1]}" if len(versions) > 1 else f"{versions[0]}"
            yield from (f"{domain or 'ai.onnx'}\t{op_type}\t{span}\t{kernel}" for kernel in kernels)


def _of_version(releases: Sequence[Release], name: str, version: int, schema: str) -> Iterator[str]:
    had: dict[tuple[Types, Types], list[str]] = defaultdict(list)
    for release in releases:
        for kernel in kernels_for(release.kernels.get(name, []), version, releases[-1].schemas[schema]):
            had[kernel].append(release.name)
    groups = defaultdict(list)
    for (places, types), names in had.items():
        groups[_number(names[0]), _number(names[-1]), places].append(types)
    for (first, last, places), points in sorted(groups.items()):
        for box in boxes(points):
            constraints = [f"{place}:{spelled(types)}" for place, types in zip(places, box, strict=True)]
            inputs = " ".join(text for text in constraints if text[0] != ">")
            outputs = " ".join(text[1:] for text in constraints if text[0] == ">")
            until = _spell(last) if last < _number(releases[-1].name) else ""
            yield f"{inputs}\t{outputs}\t{_spell(first)}\t{until}"


def _number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _spell(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))


def table(provider: str, releases: Sequence[Release]) -> Iterator[str]:
    """The rows of a provider's file, the header first."""
    yield "\t".join(COLUMNS)
    for domain in DOMAINS:
        yield from lines(releases, PROVIDERS[provider], domain)


def read(path: Path) -> Release:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Release(path.stem, content["kernels"], content["schemas"])


def main() -> None:
    if sys.argv[1] == "dump":
        json.dump(dump(), sys.stdout)
        return
    provider = sys.argv[1]
    text = "\n".join(table(provider, [read(Path(path)) for path in sys.argv[2:]])) + "\n"
    (FOLDER / f"{provider}.tsv").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
