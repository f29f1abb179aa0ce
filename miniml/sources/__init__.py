"""Locates datasets and models: on disk, in a package, in an S3 store, or on the hub."""
