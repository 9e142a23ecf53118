"""Targets: what a result is optimized for, which kernels it has, and known faults of ONNX Runtime."""
