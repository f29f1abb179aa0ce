"""Finds the champion, the served model that a new one has to beat, and counts its challengers."""
