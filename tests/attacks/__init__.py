"""Attacks as a stranger would run them: each succeeds where its protection is taken out."""
