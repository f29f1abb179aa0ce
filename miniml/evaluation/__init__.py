"""Scores a model on rows that its training never saw, and reports on it."""
