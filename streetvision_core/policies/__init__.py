"""The policies: when an image is answered with roadwork or none, and when it is deferred to a person."""
