"""From any source to a dataset that training can rely on: checked, without duplicates or leaks, split once."""
