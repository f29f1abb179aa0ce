"""How the rows of a dataset's files are read, one module a format; `miniml.tables` says which of them there are."""
