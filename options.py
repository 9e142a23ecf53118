"""What may be asked of `optimize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TARGETS = ("ort-cpu", "ort-cuda", "onnx")


@dataclass(frozen=True)
class Options:
    """What may be asked for; the defaults do the right thing.

    `passes`: the text of a pipeline (see docs/pipelines.md); by default the preset `default`.
    `disable`: names of rules and passes that are to be left out. `limit`: stop after that many rewrites.
    `input_shapes`: dims for inputs, `dims`: sizes for symbolic dims; both narrow the interface. `inputs`: `.npz` files
    of the user's own inputs.
    `freeze`: names of inputs with a default that become constants, out of the interface; `all` for all of them.
    `opset`: convert to this one. `min_ort`: the oldest ONNX Runtime that must load the result (the installed one).
    `rtol`, `atol`: a tolerance instead of the model's own noise floor. `verify_seconds`: time limit of verification.
    `cpu_fp16_as_fp32`: compute float16 models in float32 inside; for target `ort-cpu`.
    `fp16`: compute float32 models in float16 inside, for target `ort-cuda`; verified against what rounding the
    original's inputs and weights to float16 changes.
    `shrink`: write large constants that repeat one value as operators. `strip`: drop what the exporter noted on nodes.
    `threads`: how many ONNX Runtime is to have; by default it is measured with one, and chosen for one to four. With 0
    it is measured with ONNX Runtime's own number, and chosen for one to four: results do not depend on the machine.
    `vectors`: those of the processor that the result is for, by default of this one: ONNX Runtime lays 16 channels of
    an image together with AVX-512, and 8 with AVX2.
    `measure_seconds`: the most time for latencies, of each point; `measure_at`: points by the sizes of symbolic dims.
    `keep_slower`: deliver a result that is measured to be slower; otherwise the original is delivered then.
    `anatomy`: look inside both models: where the time goes, and what lives while each node runs.
    `tune`: measure the choices of profit on this machine and these inputs, within `tune_budget` seconds, and keep what
    is faster; what was learned is remembered in `tune_cache` (a folder of the user's; "off" for nowhere).
    `session_options`: try ONNX Runtime's own fusions too, and write which ones to switch off to this file (JSON).
    `reproducers`: the folder for what shows a rewrite that went wrong (by default beside the output).
    `strict`: a rewrite that goes wrong is an error; otherwise it is left out and reported.
    """

    target: str = "ort-cpu"
    passes: str = "default"
    shrink: bool = False
    strip: bool = False
    cpu_fp16_as_fp32: bool = False
    fp16: bool = False
    disable: tuple[str, ...] = ()
    limit: int | None = None
    opset: int | None = None
    min_ort: str | None = None
    input_shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    verify: bool = True
    verify_seconds: float = 120.0
    rtol: float | None = None
    atol: float | None = None
    measure: bool = False
    keep_slower: bool = False
    measure_seconds: float = 6.0
    measure_at: tuple[Mapping[str, int], ...] = ()
    threads: int | None = None
    vectors: Literal["avx2", "avx512"] | None = None
    provider: Literal["cpu", "cuda"] = "cpu"
    custom_ops: tuple[Path, ...] = ()
    follow_links: bool = False
    plugins: tuple[str, ...] = ()
    anatomy: bool = False
    tune: bool = False
    tune_budget: float = 60.0
    tune_cache: Path | Literal["off"] | None = None
    session_options: Path | None = None
    reproducers: Path | None = None
    strict: bool = False
    check_each_pass: bool = False
    seed: int = 0
