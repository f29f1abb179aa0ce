"""Runs a pipeline on Kubeflow Pipelines, and tells how the run goes."""
