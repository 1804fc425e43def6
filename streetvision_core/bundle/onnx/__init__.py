"""The bundle as one ONNX file: what is folded into it, its export, the proof of it, and its reading."""
