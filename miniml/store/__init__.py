"""Datasets and models in any S3 store (SeaweedFS, MinIO, Amazon's): read by address, published by content."""
