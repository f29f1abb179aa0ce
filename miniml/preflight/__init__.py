"""Looks, before any work, at all that a run will need."""
