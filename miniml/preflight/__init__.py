"""Checks, before any work, all that a run will need."""
