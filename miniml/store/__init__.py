"""Reads datasets and models from any S3 store (SeaweedFS, MinIO, Amazon's), and publishes them under their digests."""
