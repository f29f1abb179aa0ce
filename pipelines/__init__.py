"""Defines the pipelines, which put the stages together."""
