"""Small models of many architectures, as torch's two exporters leave them; random weights, norms and biases perturbed.

    python benchmarks/models/make_zoo.py DIRECTORY [--only NAME …]      # needs torch, transformers, timm and onnxscript

Writes `NAME__ROUTE.onnx` with two sets of inputs each (`.inputs.npz`; `.inputs2.npz` of other sizes where dims are
dynamic). Routes: `dynamo` (attention by scaled_dot_product_attention), `static` (the same, sizes fixed), `ts` (the
legacy exporter, attention written out). A model that an exporter cannot convert is reported and left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zoo_language
import zoo_senses
import zoo_unseen
from torch import Tensor, nn
from zoo import ZOO, Example, Inputs, perturb

MODULES = (zoo_language, zoo_senses, zoo_unseen)
"""What fills the zoo."""

TIMEOUT = 240  # seconds for all routes of one architecture

HELD_OUT = frozenset(
    "roberta esm roformer squeezebert gpt_bigcode falcon_alibi nemotron persimmon olmo helium exaone4 ernie4_5 "
    "seed_oss qwen2 smollm3 glm phi_kv mistral_kv bart marian timm_deit3 timm_cait timm_twins timm_crossvit "
    "timm_mvitv2 timm_gcvit timm_hiera timm_volo dinov2 dpt wavlm sew torch_decoder".split()
)
"""Architectures that no rule is developed on."""


# --- exporting --------------------------------------------------------------------------------------------------------


class _Wrapped(nn.Module):
    """A model that takes and gives tensors alone."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.core, self.call = example.module, (example.call,)

    def forward(self, *inputs: Tensor) -> Any:
        return self.call[0](self.core, *inputs)


def _flat(result: Any) -> Sequence[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result if part is not None for tensor in _flat(part)]


def write(directory: Path, name: str, route: str) -> str:
    """Export one architecture by one route; the line to print."""
    attention = "eager" if route == "ts" else "sdpa"
    torch.manual_seed(0)
    example = ZOO[name](attention)
    perturb(example.module, zlib.crc32(name.encode()))
    module, path = _Wrapped(example).eval(), directory / f"{name}__{route}.onnx"
    samples = [example.inputs(other) for other in (False, True)]
    names, arguments = list(samples[0]), tuple(samples[0].values())
    with torch.no_grad():
        count = len(_flat(module(*arguments)))
    outputs = [f"output_{index}" for index in range(count)]
    if route == "ts":
        axes = {**example.dynamic, **({outputs[0]: {0: "batch"}} if example.dynamic else {})}
        torch.onnx.export(
            module, arguments, str(path), input_names=names, output_names=outputs, dynamo=False, opset_version=17,
            dynamic_axes={key: dict(dims) for key, dims in axes.items()}, verbose=False,
        )  # fmt: skip
    else:
        shapes = None if route == "static" else (tuple(dict(example.dynamic.get(key, {})) for key in names),)
        program = torch.onnx.export(
            module,
            arguments,
            input_names=names,
            output_names=outputs,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))
    return _save_inputs(path, samples if route != "static" else samples[:1])


def _save_inputs(path: Path, samples: Sequence[Inputs]) -> str:
    """Write the inputs that the model has; delete a model that does not run on them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [value.name for value in session.get_inputs()]
    for sample, suffix in zip(samples, (".inputs.npz", ".inputs2.npz"), strict=False):
        feeds = {key: value.numpy() for key, value in sample.items() if key in wanted}
        try:
            session.run(None, feeds)
        except Exception as error:
            if suffix == ".inputs.npz":
                path.unlink()
                raise
            return f"runs at the first sizes alone ({str(error)[:80]})"
        np.savez(path.with_suffix(suffix), **feeds)
    return "written"


def _write_one(directory: Path, name: str) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for route in ("dynamo", "ts"):
        try:
            print(f"{name}__{route}: {write(directory, name, route)}", flush=True)
        except Exception as error:
            lines = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
            print(f"{name}__{route}: NOT WRITTEN: {type(error).__name__}: {lines[:300]}", flush=True)
            if route == "dynamo":
                try:
                    print(f"{name}__static: {write(directory, name, 'static')}", flush=True)
                except Exception as second:
                    print(f"{name}__static: NOT WRITTEN: {type(second).__name__}: {str(second)[:200]!r}", flush=True)


def main() -> None:
    """Write each architecture in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", nargs="*", default=sorted(ZOO))
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        if arguments.here:
            _write_one(arguments.directory, name)
            continue
        command = [sys.executable, __file__, str(arguments.directory), "--here", "--only", name]
        try:
            subprocess.run(
                command,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
                stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: NOT WRITTEN: no result within {TIMEOUT} s", flush=True)


if __name__ == "__main__":
    main()
