"""Sets how much of a source is read into memory at a time."""

# Rows in a batch of a Parquet file or a dataset; 8,192 reviews are some 6 MB.
ROWS_AT_A_TIME = 8192
# The size of a block of a CSV file, into which a row must fit, and of Parquet's buffer. With 8 MiB, or with threads,
# Arrow used 200 MiB more after 650,000 reviews, and was no faster.
BYTES_AT_A_TIME = 4 << 20
