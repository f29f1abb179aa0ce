"""How much of a source is held in memory at a time, whichever way it is read."""

# Rows in a batch of a Parquet file or a dataset; 8,192 reviews are some 6 MB.
ROWS_AT_A_TIME = 8192
# Of a CSV file, a row of which must fit into it, and Parquet's buffer. At 8 MiB, or read by threads, Arrow came to
# keep 200 MiB more after 650,000 reviews, at the same speed.
BYTES_AT_A_TIME = 4 << 20
