"""Makes the pages of the documentation site: `python -m docs.generator`."""
