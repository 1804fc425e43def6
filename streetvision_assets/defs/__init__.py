"""The assets and their checks: one module for each stage, named by what it makes."""
