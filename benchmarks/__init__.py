"""What `make bench-serve` measures: miniml beside its peers, on one machine, in one run."""
