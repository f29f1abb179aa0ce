"""Deploys an approved model as an InferenceService, and tests it."""
