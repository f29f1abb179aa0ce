"""Runs pipelines on Kubeflow Pipelines, and reads the state of their runs."""
