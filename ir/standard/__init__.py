"""The ONNX standard: schemas, inference, function bodies, opset conversion."""
