"""The recipe judged where few images can be held back: each image by models that saw nothing of its group."""
