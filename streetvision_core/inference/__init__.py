"""The path from an image to its logits: measuring, the feature cache, the predictor."""
