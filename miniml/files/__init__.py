"""Writes folders atomically, locks them, and computes and checks the digests of their files."""
