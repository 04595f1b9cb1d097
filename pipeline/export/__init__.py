"""`burnish export --onnx`: detectors, and the backbone and denoiser whose features they read, as ONNX files."""
