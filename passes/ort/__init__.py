"""Rewrites for ONNX Runtime: operators, layouts and element types for which its kernels are faster."""
