"""A search for hyperparameters: what there is to try, what is tried, and which trial wins on validation."""
