"""Benchmarks: every kernel against the speed of memory, and against other libraries."""

from __future__ import annotations


def run(argv: list[str]) -> int:
    """Runs ``piquant bench`` with these arguments and returns its exit code."""
    import argparse  # noqa: PLC0415  the package is imported for more than its command

    from piquant._bench import command  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="piquant bench", description=command.SUMMARY)
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))
