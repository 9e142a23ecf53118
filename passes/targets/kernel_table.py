"""Queries over the kernels that targets list: in their files, and for ONNX Runtime in tables of their own.

The tables, `data/*.tsv`, are written by `tools/generate_kernel_table.py`. A row is one kernel: the operator, the
versions of its definition, the element types of each input and output that it constrains (`0:f32,f64 1:i64`; `SETS`
abbreviates frequent sets), and the first and the last release that register it (an empty `until`: the newest known
still does).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from ... import ir
from .ort_releases import release_number
from .target import Target
from .target_file import Listed, TargetFile

CONTRIB: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

SETS: Final[Mapping[str, str]] = {
    "any": "b8 bf16 f16 f32 f64 i16 i32 i64 i8 s u16 u32 u64 u8",
    "fixed": "b8 bf16 f16 f32 f64 i16 i32 i64 i8 u16 u32 u64 u8",
    "number": "bf16 f16 f32 f64 i16 i32 i64 i8 u16 u32 u64 u8",
    "half": "bf16 f16",
    "float8": "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
}
"""Element types that often occur together, by their abbreviation in the data."""

_NEWEST: Final = (1 << 30, 0)

ABSENT: Final = ir.DataType.UNDEFINED

Types = Sequence[ir.DataType | None]
"""The element types of a node's inputs or outputs, in order: ABSENT for an omitted one, None for an unknown one."""


@dataclass(frozen=True)
class Kernel:
    """A kernel: for definitions of its operator from `first` to `last`, in releases from `since` to `until`."""

    first: int
    last: int
    inputs: Mapping[int, frozenset[str]]
    outputs: Mapping[int, frozenset[str]]
    since: tuple[int, int]
    until: tuple[int, int]

    @property
    def main_types(self) -> frozenset[str]:
        """The types of the first input that it constrains, conditions apart: the ones that it computes in."""
        constraints = self.inputs or self.outputs
        return next((types for types in constraints.values() if types != {"b8"}), frozenset())

    def takes(self, inputs: Types, outputs: Types) -> bool | None:
        """Whether it computes on these types; None where one that decides is unknown."""
        answer: bool | None = True
        for constraints, dtypes in ((self.inputs, inputs), (self.outputs, outputs)):
            for index, types in constraints.items():
                dtype = dtypes[index] if index < len(dtypes) else ABSENT
                if dtype is None:
                    answer = None
                elif dtype != ABSENT and dtype.short_name() not in types:
                    return False
        return answer


def has_kernel(
    target: Target, domain: str, op_type: str, opset: int, inputs: Types, outputs: Types = ()
) -> bool | None:
    """Whether the target's release has a kernel for an operator on these types; None where that is unknown.

    A release older than the data has no kernel that the data lacks; whether it has the others is unknown.
    """
    file, version = target.file, definition(domain, op_type, opset)
    if not file.lists_kernels:
        return None
    if version is None:
        if domain in ir.standard_operators():
            return None
        if file.unlisted_domains == "unknown" and domain not in _domains(file):
            return None
        version = opset
    release = release_number(target.release) if target.release else _NEWEST
    known = max(release, _oldest(file))
    answers = {
        kernel.takes(inputs, outputs)
        for kernel in kernels_of(file, domain, op_type)
        if kernel.first <= version <= kernel.last and kernel.since <= known <= kernel.until
    }
    if True in answers:
        return True if known == release else None
    return None if None in answers else False


def definition(domain: str, op_type: str, opset: int) -> int | None:
    """The opset that introduced the definition of an operator in force at `opset`; None for an unknown operator.

    Kernels are registered for definitions. Those of com.microsoft are all at version 1.
    """
    if domain == CONTRIB:
        return 1
    schema = ir.schema(op_type, opset, domain)
    return None if schema is None else schema.since_version


@cache
def kernels_of(file: TargetFile, domain: str, op_type: str) -> Sequence[Kernel]:
    """Every kernel for an operator that some known release of a target has."""
    rows = (row for path in file.kernel_lists for row in _table(path).rows.get((domain, op_type), ()))
    listed = (_kernel(each) for each in file.kernels if (domain, op_type) in each.operators)
    return (*map(_read, rows), *listed)


@cache
def operators_of(file: TargetFile) -> frozenset[tuple[str, str]]:
    """The operators, domain and name, for which a target has a kernel."""
    rows = (operator for path in file.kernel_lists for operator in _table(path).rows)
    return frozenset().union(rows, *(each.operators for each in file.kernels))


@cache
def _domains(file: TargetFile) -> frozenset[str]:
    return frozenset(domain for domain, _ in operators_of(file))


def _oldest(file: TargetFile) -> tuple[int, int]:
    return max((_table(path).oldest for path in file.kernel_lists), default=(0, 0))


def _kernel(listed: Listed) -> Kernel:
    since, until = (release_number(each) if each else None for each in (listed.since, listed.until))
    return Kernel(*listed.versions, listed.inputs, listed.outputs, since or (0, 0), until or _NEWEST)


@dataclass(frozen=True)
class _Table:
    """The rows of a table by (domain, operator), not parsed yet, and the oldest release among them."""

    rows: Mapping[tuple[str, str], Sequence[str]]
    oldest: tuple[int, int]


@cache
def _table(path: Path) -> _Table:
    text = path.read_text(encoding="utf-8")
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    releases = set()
    for line in text.splitlines()[1:]:
        domain, op_type, row = line.split("\t", 2)
        rows["" if domain == "ai.onnx" else domain, op_type].append(row)
        releases.add(row.split("\t")[3])
    return _Table(rows, min(map(release_number, releases)))


def _read(row: str) -> Kernel:
    """Parse the last five columns of a row: versions, inputs, outputs, since, until."""
    versions, inputs, outputs, since, until = row.split("\t")
    first, _, last = versions.partition("-")
    return Kernel(
        int(first),
        int(last or first),
        dict(_constraints(inputs)),
        dict(_constraints(outputs)),
        release_number(since),
        release_number(until) if until else _NEWEST,
    )


def _constraints(text: str) -> Iterator[tuple[int, frozenset[str]]]:
    for constraint in text.split():
        index, _, names = constraint.partition(":")
        yield int(index), frozenset(dtype for name in names.split(",") for dtype in SETS.get(name, name).split())
