"""The documentation; its pages that are made of the code come from `docs.generator`."""
