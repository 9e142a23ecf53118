"""Rewrites for ONNX Runtime's CUDA provider; its rules require the target `ort-cuda`."""
