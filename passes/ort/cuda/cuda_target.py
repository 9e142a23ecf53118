"""What the rules for ONNX Runtime's CUDA provider share."""

from __future__ import annotations

from ...rewriting.constraints import target

ON_CUDA = target("ort-cuda")
