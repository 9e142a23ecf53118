"""Torch modules to ONNX: exported as they are, checked against the module, optimized."""
