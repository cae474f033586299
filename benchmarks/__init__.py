"""Measures Reopen beside its peers, on the same data and machine, in one run: ``make bench``. Nothing asserts a
time."""
