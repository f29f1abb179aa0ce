"""Fine-tunes a pretrained encoder."""
