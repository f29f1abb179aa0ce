"""Makes a dataset for training from any source: checked, without duplicates and leaks, and split once."""
