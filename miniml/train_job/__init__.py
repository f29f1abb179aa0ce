"""Trains on several nodes, by a TrainJob of Kubeflow Trainer."""
