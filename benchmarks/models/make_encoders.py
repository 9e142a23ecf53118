"""Two encoders of real size to measure with: 12 layers of size 768, as torch's exporter leaves them; random weights.

    python benchmarks/models/make_encoders.py DIRECTORY      # needs torch, transformers and onnxscript

Writes `bert_768.onnx` (batch 1, 128 tokens) and `vit_768.onnx` (one picture of 224 x 224) with their inputs, 0.8 GB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import transformers

SIZE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


class _Plain(torch.nn.Module):
    """A model that takes and gives tensors alone."""

    def __init__(self, model: torch.nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def write(directory: Path) -> None:
    """Export both."""
    torch.manual_seed(0)
    directory.mkdir(parents=True, exist_ok=True)
    tokens = torch.randint(5, 8000, (1, 128))
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=8000, **SIZE))
    _export(directory / "bert_768.onnx", bert, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
    vit = transformers.ViTModel(transformers.ViTConfig(**SIZE))
    _export(directory / "vit_768.onnx", vit, {"pixel_values": torch.randn(1, 3, 224, 224)})


def _export(path: Path, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    module = _Plain(model.eval(), *inputs)
    program = torch.onnx.export(module, tuple(inputs.values()), input_names=list(inputs), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(path))
    np.savez(path.with_suffix(".inputs.npz"), **{name: value.numpy() for name, value in inputs.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    write(parser.parse_args().directory)
