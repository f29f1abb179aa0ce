"""Calls the Kubernetes API, and renders and reads the objects of KServe."""
