"""Views of a model for other libraries: NetworkX and ONNX GraphSurgeon."""
