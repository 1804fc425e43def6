"""Settings as Dagster takes them, and what is refused of them before a step runs."""
