"""Decides whether a model may be deployed."""
