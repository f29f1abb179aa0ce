"""KFP's view of each stage: a signature, an image, one call into `miniml`."""
