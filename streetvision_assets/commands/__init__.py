"""The commands: what `make`, the `dagster` function and the UI start, and what is looked at before."""
