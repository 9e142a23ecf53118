"""Convolutions, and the operators around them, for the blocked channel layout (NCHWc) of ONNX Runtime's CPU kernels."""
