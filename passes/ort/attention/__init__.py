"""Attention and rotary position embedding as the operators for which ONNX Runtime has fused kernels."""
