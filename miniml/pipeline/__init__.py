"""What can be read from a compiled pipeline: its stages, its arguments, its presets."""
