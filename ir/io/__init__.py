"""Load, validate, repair and save ONNX files, with external data."""
