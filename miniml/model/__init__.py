"""The model folder: what is in it, and how it answers."""
