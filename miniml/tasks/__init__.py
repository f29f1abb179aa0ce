"""What a text gets: one class, any number of labels, or a number."""
