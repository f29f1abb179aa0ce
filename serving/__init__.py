"""The predictor: KServe's protocols on one side, `miniml.classifier.Classifier` on the other."""
