"""Pipelines: the stages put together, compiled, and run."""
