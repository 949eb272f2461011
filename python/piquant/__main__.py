"""The command line: ``piquant demo``, and the compiler flags to build against the C library of this package."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import piquant
from piquant import _demo, _native
from piquant._bench import command as _bench

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Command(NamedTuple):
    """A subcommand."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit code


_COMMANDS: Final = (
    _Command("demo", _demo.SUMMARY, _demo.add_arguments, _demo.run),
    _Command("bench", _bench.SUMMARY, _bench.add_arguments, _bench.run),
)


def _home() -> Path:
    """The directory of the native module, beside which ``include`` and ``lib`` are installed."""
    return Path(_native.__file__).resolve().parent


def includes() -> list[str]:
    """Compiler flags to find ``piquant/quant.h``."""
    return [f"-I{_home() / 'include'}"]


def libs() -> list[str]:
    """Linker flags to link ``libpiquant`` and to find it again at run time."""
    lib = _home() / "lib"
    return [f"-L{lib}", "-lpiquant", f"-Wl,-rpath,{lib}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="piquant",
        description="Floating-point arrays to low-bit integers and back.",
        epilog="Build a C program: cc program.c $(python -m piquant --includes --libs)",
    )
    parser.add_argument("--version", action="version", version=f"piquant {piquant.__version__}")
    parser.add_argument("--includes", action="store_true", help="print the compiler flags to find piquant/quant.h")
    parser.add_argument("--libs", action="store_true", help="print the linker flags for libpiquant")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for command in _COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    flags = (includes() if given.includes else []) + (libs() if given.libs else [])
    if flags and given.command is not None:
        parser.error("--includes and --libs go without a command")
    if flags:
        print(shlex.join(flags))
        return 0
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        piquant.Context.get()
    except ValueError as error:  # of an environment variable
        parser.error(str(error))
    try:
        exit_code: int = given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe, as in `piquant demo | head`, has seen enough. The interpreter flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
