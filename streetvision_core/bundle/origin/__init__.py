"""The origin of a bundle: its provenance in the words of SLSA, and its signature."""
