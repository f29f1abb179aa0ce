"""Wraps each stage as a component of Kubeflow Pipelines: a signature, an image, one call into `miniml`."""
