"""The runtime and the CPU that a result is optimized for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ... import ir
from ...options import TARGETS

USUAL_THREADS: Final = (1, 4)
"""Where the number of threads is not set: a choice must gain with the fewest, and lose nothing with the most."""

NCHWC_BLOCKS: Final = {"avx2": (8,), "avx512": (16,), "portable": (8, 16)}
"""Channels in a block of ONNX Runtime's NCHWc layout, by CPU instruction set (core/mlas/lib/platform.cpp)."""


class Provider(StrEnum):
    """An execution provider of ONNX Runtime."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Target:
    """What a result is optimized for. Raises PipelineError (`unknown-target`) for a name that is not in `TARGETS`.

    `name`: as `--target` spells it. `release`: the oldest ONNX Runtime that must load the result; the newest known
    where it is empty. `threads`: the fewest and the most that ONNX Runtime will have: with more of them, an additional
    operator costs more. `nchwc_blocks`: the block sizes of the CPUs that the result is for (`NCHWC_BLOCKS`).
    """

    name: str = "ort-cpu"
    release: str = ""
    threads: tuple[int, int] = USUAL_THREADS
    nchwc_blocks: tuple[int, ...] = NCHWC_BLOCKS["portable"]

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            message = f"no target is called {self.name!r}{ir.did_you_mean(self.name, TARGETS)}"
            raise ir.PipelineError(ir.Diagnostic("unknown-target", message, hint=", ".join(TARGETS)))

    @property
    def provider(self) -> Provider | None:
        """The execution provider; None for the target `onnx`, which stands for any other runtime."""
        return Provider(self.name.removeprefix("ort-")) if self.is_onnxruntime else None

    @property
    def is_onnxruntime(self) -> bool:
        """Whether ONNX Runtime runs the result, on either provider."""
        return self.name.startswith("ort-")

    @property
    def is_cpu(self) -> bool:
        """Whether ONNX Runtime's CPU provider runs the result."""
        return self.name == "ort-cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether ONNX Runtime's CUDA provider runs the result."""
        return self.name == "ort-cuda"

    def __str__(self) -> str:
        return self.name
