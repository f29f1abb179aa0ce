"""The champion: the model that serves now, which a new one has to beat."""
