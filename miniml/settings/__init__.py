"""Defines the arguments of a run: one module per stage, each argument once, with its type, default and description.

The settings are frozen dataclasses that are checked when they are made; the pipelines take their defaults from here.
Nothing heavy is imported, so that compiling a pipeline needs neither torch nor datasets.
"""
