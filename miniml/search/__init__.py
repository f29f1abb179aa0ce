"""Searches for hyperparameters: plans and runs trials, and picks the one that is best on validation."""
