"""Constant folding, of tensors and of sequences."""
