"""`burnish export --onnx`: detectors, and what makes their features, as ONNX files."""
