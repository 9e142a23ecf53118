"""Session options, and the types of feeds and outputs. Imports no onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
# A tensor; a sequence; a map of ai.onnx.ml; an optional without a value. Strings are arrays of objects.
Datum: TypeAlias = Array | Sequence["Datum"] | Mapping[str | int, "Datum"] | float | str | None
Feeds: TypeAlias = Mapping[str, Datum]
Outputs: TypeAlias = dict[str, Datum]
Provider: TypeAlias = Literal["cpu", "cuda", "openvino"]


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session of ONNX Runtime.

    `optimize`: all of its own optimizations, or none. `prepacking`: whether weights are laid out anew at load, which
    changes how kernels round. `disabled_optimizers`: its own optimizations that are left out, by their names in
    onnxruntime/core/optimizer/graph_transformer_utils.cc. `tf32`: whether CUDA may round what it multiplies to 10 bits
    of mantissa, as it does by default; not where results are compared. `arena`: whether the CPU provider keeps the
    memory of a run for the next one, as it does by default; not where several sessions are open at once.
    `interpret`: whether an operator that ONNX Runtime lacks is run by its registered meaning; not where it is timed.
    `seed`: for random operators without a seed of their own, set as the session is created.
    """

    provider: Provider = "cpu"
    threads: int = 1
    optimize: bool = True
    prepacking: bool = True
    disabled_optimizers: tuple[str, ...] = ()
    tf32: bool = True
    arena: bool = True
    custom_ops: tuple[Path, ...] = ()
    interpret: bool = True
    seed: int = 0

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return {**asdict(self), "custom_ops": [str(path) for path in self.custom_ops]}
