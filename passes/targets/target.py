"""The runtime and the CPU that a result is optimized for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ...options import DEFAULT_TARGET
from .target_file import TargetFile, find
from .target_schema import usual

USUAL_THREADS: Final = (1, 4)
"""Where the number of threads is not set: a choice must gain with the fewest, and lose nothing with the most."""

NCHWC_BLOCKS: Final = {"avx2": (8,), "avx512": (16,), "portable": (8, 16)}
"""Channels in a block of ONNX Runtime's NCHWc layout, by CPU instruction set (core/mlas/lib/platform.cpp)."""


@dataclass(frozen=True)
class Target:
    """What a result is optimized for. Raises OptionsError for a name that is not known, or a file that is wrong.

    `name`: as `--target` spells it, the name of a target or its file. `release`: the oldest ONNX Runtime that must load
    the result; the newest known where it is empty. `threads`: the fewest and the most that ONNX Runtime will have: with
    more of them, an additional operator costs more. `nchwc_blocks`: the block sizes of the CPUs that the result is for
    (`NCHWC_BLOCKS`). `file`: what its file says.
    """

    name: str | Path = DEFAULT_TARGET
    release: str = ""
    threads: tuple[int, int] = USUAL_THREADS
    nchwc_blocks: tuple[int, ...] = NCHWC_BLOCKS["portable"]
    file: TargetFile = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", find(self.name))

    @property
    def is_onnxruntime(self) -> bool:
        """Whether ONNX Runtime runs the result, on whichever provider."""
        return self.file.runtime == "onnxruntime"

    @property
    def is_cpu(self) -> bool:
        """Whether ONNX Runtime's CPU provider runs the result."""
        return self.is_onnxruntime and self.file.provider == "cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether ONNX Runtime's CUDA provider runs the result."""
        return self.is_onnxruntime and self.file.provider == "cuda"

    def threshold(self, name: str) -> float:
        """A threshold of profit (`target_schema.PROFIT`), as its file has it."""
        return self.file.profit.get(name, usual(name))

    def __str__(self) -> str:
        return self.file.name
