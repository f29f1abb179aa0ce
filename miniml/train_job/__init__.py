"""Trains on several nodes with a TrainJob of Kubeflow Trainer."""
