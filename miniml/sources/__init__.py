"""Where datasets and models come from: a path, a package, an S3 store, or the hub."""
