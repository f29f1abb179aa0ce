"""The stages that the tests expect of the pipeline."""

STAGES = ["preflight", "transform", "train", "compress", "evaluate", "gate", "deploy"]
"""In the order in which they run."""
