"""The `miniml` command."""
