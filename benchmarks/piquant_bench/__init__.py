"""Benchmarks: every kernel against the speed of memory, and against other libraries."""

import piquant as piquant  # loads the library that the native module calls
