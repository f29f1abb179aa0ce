"""The metrics of each task, as local `evaluate` modules."""
