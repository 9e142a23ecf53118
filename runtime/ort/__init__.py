"""ONNX Runtime: sessions, their options, devices."""
