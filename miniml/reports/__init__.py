"""Holds what the stages' reports share: plots, templates and Markdown."""
