"""The Hugging Face hub: what it adds to a bundle, its page of a model, the way there and back."""
