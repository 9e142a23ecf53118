"""Which kernels ONNX Runtime's providers have: questions to the data in cpu_kernels.py and cuda_kernels.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

from ... import ir
from . import cpu_kernels, cuda_kernels
from .ort_releases import release_number

CONTRIB: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

SETS: Final[Mapping[str, str]] = {
    "any": "b8 bf16 f16 f32 f64 i16 i32 i64 i8 s u16 u32 u64 u8",
    "fixed": "b8 bf16 f16 f32 f64 i16 i32 i64 i8 u16 u32 u64 u8",
    "number": "bf16 f16 f32 f64 i16 i32 i64 i8 u16 u32 u64 u8",
    "half": "bf16 f16",
    "float8": "f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz",
}
"""Element types that often go together, as the data abbreviates them."""

_DATA: Final = {
    "ort-cpu": (cpu_kernels.FIRST, cpu_kernels.KERNELS),
    "ort-cuda": (cuda_kernels.FIRST, cuda_kernels.KERNELS),
}
_NEWEST: Final = (1 << 30, 0)

ABSENT: Final = ir.DataType.UNDEFINED

Types = Sequence[ir.DataType | None]
"""The element types of a node's inputs or outputs, in order: ABSENT for those not given, None for those not known."""


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
        """What it computes on: the types that it takes first, conditions apart."""
        places = self.inputs or self.outputs
        return next((types for types in places.values() if types != {"b8"}), frozenset())

    def takes(self, inputs: Types, outputs: Types) -> bool | None:
        """Whether it computes on these types; None where one that decides is not known."""
        answer: bool | None = True
        for places, given in ((self.inputs, inputs), (self.outputs, outputs)):
            for place, types in places.items():
                dtype = given[place] if place < len(given) else ABSENT
                if dtype is None:
                    answer = None
                elif dtype != ABSENT and dtype.short_name() not in types:
                    return False
        return answer


def has_kernel(
    target: str, release: str, domain: str, op_type: str, opset: int, inputs: Types, outputs: Types = ()
) -> bool | None:
    """Whether the target has a kernel for an operator on these types in ONNX Runtime `release`; None: cannot say.

    An empty release is the newest known. A release that is older than the data has no kernel that the data has not,
    and what else it has is not known.
    """
    first, _ = _DATA.get(target, ("", {}))
    version = definition(domain, op_type, opset)
    if not first or version is None:
        return None
    number = release_number(release) if release else _NEWEST
    known = max(number, release_number(first))
    answers = {
        kernel.takes(inputs, outputs)
        for kernel in kernels_of(target, domain, op_type)
        if kernel.first <= version <= kernel.last and kernel.since <= known <= kernel.until
    }
    if True in answers:
        return True if known == number else None
    return None if None in answers else False


def definition(domain: str, op_type: str, opset: int) -> int | None:
    """Since which version an operator is defined as it is at `opset`; None for one that is not known.

    Kernels are registered for definitions. Those of com.microsoft all stand at version 1.
    """
    if domain == CONTRIB:
        return 1
    known = ir.schema(op_type, opset, domain)
    return None if known is None else known.since_version


def kernels_of(target: str, domain: str, op_type: str) -> Sequence[Kernel]:
    """Every kernel for an operator that some known release of the target has."""
    return _kernels(target, domain).get(op_type, ())


@cache
def _kernels(target: str, domain: str) -> Mapping[str, Sequence[Kernel]]:
    first, tables = _DATA[target]
    found: dict[str, list[Kernel]] = defaultdict(list)
    for line in tables.get(domain, "").split("\n"):
        if line:
            op_type, _, rest = line.partition(" ")
            found[op_type].append(_read(rest, first))
    return found


def _read(text: str, oldest: str) -> Kernel:
    """A kernel from `13-19 0=f32,f64 >0=b8 from 1.21 to 1.30`."""
    definitions, *words = text.split(" ")
    first, _, last = definitions.partition("-")
    places = dict(word.split("=") for word in words if "=" in word)
    limits = dict(pairwise(words))
    return Kernel(
        int(first),
        int(last or first),
        {int(place): frozenset(_types(names)) for place, names in places.items() if place[0] != ">"},
        {int(place[1:]): frozenset(_types(names)) for place, names in places.items() if place[0] == ">"},
        release_number(limits.get("from", oldest)),
        release_number(limits["to"]) if "to" in limits else _NEWEST,
    )


def _types(names: str) -> Iterator[str]:
    for name in names.split(","):
        yield from SETS.get(name, name).split(" ")
