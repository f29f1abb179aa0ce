"""Other ways to serve the same model: `python -m benchmarks.peers.NAME MODEL_DIR PORT`."""
