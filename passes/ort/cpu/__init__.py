"""Rewrites for ONNX Runtime's CPU provider; its rules require the target `ort-cpu`."""
