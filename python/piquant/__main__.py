"""The command line: commands, and the compiler flags to build against the C library of this package.

``demo`` is part of this package. Other distributions bring commands by entry points of the group ``piquant.commands``,
as that of the benchmarks does with ``bench``. Each names a module with what ``Command`` lists.
"""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import piquant
from piquant import _demo, _native

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(Protocol):
    """A subcommand: a module, or anything else with these."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Adds the options of this command."""

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Runs it and returns the exit code."""


# Commands of other distributions that are worth a word where they are not installed: what they do, and how to get them.
_ELSEWHERE: Final = {
    "bench": (
        "measure speeds (not installed)",
        "the benchmarks are not installed; in a checkout of piquant, `pip install . ./benchmarks` installs them",
    )
}


def _commands() -> dict[str, Command]:
    installed = importlib.metadata.entry_points(group="piquant.commands")
    return {"demo": _demo} | {entry.name: entry.load() for entry in installed}


def _home() -> Path:
    """The directory of the native module, beside which ``include`` and ``lib`` are installed."""
    return Path(_native.__file__).resolve().parent


def includes() -> list[str]:
    """Compiler flags to find ``piquant/quant.h``."""
    return [f"-I{_home() / 'include'}"]


def libs() -> list[str]:
    """Linker flags to link ``libpiquant`` and to find it again at run time, where programs remember such a place."""
    lib = _home() / "lib"
    return [f"-L{lib}", "-lpiquant"] + ([] if os.name == "nt" else [f"-Wl,-rpath,{lib}"])


def _parser(found: dict[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="piquant",
        description="Floating-point arrays to low-bit integers and back.",
        epilog="Build a C program: cc program.c $(python -m piquant --includes --libs)",
    )
    parser.add_argument("--version", action="version", version=f"piquant {piquant.__version__}")
    parser.add_argument("--includes", action="store_true", help="print the compiler flags to find piquant/quant.h")
    parser.add_argument("--libs", action="store_true", help="print the linker flags for libpiquant")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, command in found.items():
        sub = commands.add_parser(name, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(sub)
    for name, (summary, words) in _ELSEWHERE.items():
        if name not in found:
            commands.add_parser(name, help=summary, description=words)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    found = _commands()
    parser = _parser(found)
    given, unknown = parser.parse_known_args(arguments)
    if given.command is not None and given.command not in found:
        print(f"piquant {given.command}: {_ELSEWHERE[given.command][1]}", file=sys.stderr)
        return 2
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    flags = (includes() if given.includes else []) + (libs() if given.libs else [])
    if flags and given.command is not None:
        parser.error("--includes and --libs go without a command")
    if flags:
        print(subprocess.list2cmdline(flags) if os.name == "nt" else shlex.join(flags))
        return 0
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        piquant.Context.get()
    except ValueError as error:  # of an environment variable
        parser.error(str(error))
    try:
        exit_code = found[given.command].run(given)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != (errno.EINVAL if os.name == "nt" else errno.EPIPE):
            raise
        # The reader of a pipe, as in `piquant demo | head`, has seen enough. The interpreter flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
