"""Decoding: from the bytes of an image to upright RGB, or the reason why not."""
