"""Defines the command `miniml`."""
