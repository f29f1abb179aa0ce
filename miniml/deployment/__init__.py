"""Makes an approved model a live service, and tries it."""
