"""The Dagster asset graph of StreetVision: one module a stage, each asset next to its checks."""
