"""A graph optimizer for ONNX models: never wrong, never slower, measured."""
