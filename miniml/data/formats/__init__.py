"""Reads the rows of a dataset's files, with one module for each format; `miniml.data.tables` chooses among them."""
