"""Serves miniml's classifier by KServe's protocols: the predictor."""
