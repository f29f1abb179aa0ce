"""How the rows of a dataset's files are read, one module a format; `miniml.data.tables` says which there are."""
