"""Benchmarks: every kernel against the speed of memory, and against other libraries."""
