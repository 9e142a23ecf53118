"""What the rules for ONNX Runtime's CUDA provider share."""

from __future__ import annotations

from ..engine.conditions import holds

ON_CUDA = holds(
    "target ort-cuda", lambda m: m.context.settings.target == "ort-cuda", lambda m: m.context.settings.target
)
