"""The predictor: miniml's classifier behind KServe's protocols."""
