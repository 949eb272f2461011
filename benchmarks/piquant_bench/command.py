"""The command ``piquant bench``, which piquant finds by the entry point of this module.

What measures is imported when it runs: to show its help takes no numpy.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import piquant

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from piquant_bench.timing import Effort

SUMMARY: Final = "measure every kernel against the speed of memory and against other libraries"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes: under a minute")
    parser.add_argument("--check", action="store_true", help="only check that no kernel is far too slow; for CI")
    parser.add_argument(
        "--blocks", action="store_true",
        help="instead of all else, the speed of scales for each block, beside the bars that are set for it",
    )  # fmt: skip
    parser.add_argument(
        "--cuda", action="store_true", help="instead of all else, the speed on a CUDA device, if there is one"
    )
    parser.add_argument(
        "--isa",
        action="append",
        metavar="NAME",
        help='instruction set of what is compared with memory, or "all"; repeatable',
    )
    parser.add_argument(
        "--pypiquant", metavar="DIR", help='directory with an unpacked wheel of pypiquant 4.1.0, or "download"'
    )
    parser.add_argument(
        "--output", type=Path, default=Path("piquant-bench"), metavar="DIR",
        help="where bench.json (or blocks.json) and the pictures go (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    if arguments.cuda:
        return _measure_cuda()
    known = [isa for isa in piquant.available_isas() if isa != "scalar"]
    if piquant.isa() not in known:
        return _refuse(f"the instruction set {piquant.isa()} has no traffic twins to measure against")
    isas = list(dict.fromkeys(arguments.isa or [piquant.isa()]))
    if not set(isas) <= {*known, "all"}:
        return _refuse(f"--isa must be one of {', '.join(known)} or all, got {', '.join(isas)}")
    if arguments.check:
        _warn_of_load()
        return _check()
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _refuse(f"--output must be a directory to write to: {error}")
    _warn_of_load()
    from piquant_bench import pictures, report  # noqa: PLC0415
    from piquant_bench.timing import QUICK, Effort  # noqa: PLC0415

    effort = QUICK if arguments.quick else Effort()
    isas = known if "all" in isas else isas
    if arguments.blocks:
        results = measure_blocks(effort, isas)
        said, name, draw = report.blocks_text(results), "blocks.json", pictures.draw_blocks
    else:
        results = measure(effort, isas, arguments.pypiquant)
        said, name, draw = report.text(results), "bench.json", pictures.draw
    print(said)
    (arguments.output / name).write_text(json.dumps(results, indent=1) + "\n")
    for path in [name, *draw(results, arguments.output)]:
        print(f"wrote {arguments.output / path}")
    return 0


def _measure_cuda() -> int:
    from piquant_bench import cuda  # noqa: PLC0415

    if not cuda.is_there():
        return _refuse("--cuda needs a CUDA device that torch sees, and there is none")
    print(cuda.text(cuda.measure()))
    return 0


def _warn_of_load() -> None:
    from piquant_bench.machine import load_average  # noqa: PLC0415

    load, processors = load_average(), os.cpu_count() or 1
    if load is not None and load > processors:
        print(
            f"piquant bench: the load of the last minute, {load:.1f}, exceeds the {processors} processors: "
            "expect noise, and trust ratios more than times",
            file=sys.stderr,
        )


def _refuse(message: str) -> int:
    print(f"piquant bench: {message}", file=sys.stderr)
    return 2


def measure(effort: Effort, isas: list[str], pypiquant: str | None) -> dict[str, Any]:
    """All sections, one after the other, as they go into the JSON file."""
    from piquant_bench import costs, curve, efficiency, inside_program, machine, peers, small_calls  # noqa: PLC0415

    # Before the measurements, which are a load of their own.
    description = machine.describe()
    cells = efficiency.measure(effort, isas)
    peer_times, absent = peers.measure(effort, pypiquant)
    sections: dict[str, Sequence[Any]] = {
        "efficiency": cells,
        "stochastic": efficiency.stochastic_ratios(cells),
        "peers": peer_times,
        "small_calls": small_calls.measure(effort),
        "inside_program": inside_program.measure(effort),
        "beside_busy": inside_program.measure_busy(effort),
        "curve": curve.measure(effort),
    }
    constants, sections["predictions"] = costs.measure(effort)
    rows = {name: [asdict(row) for row in section] for name, section in sections.items()}
    return description | {"effort": asdict(effort), "absent_peers": absent, "costs": asdict(constants)} | rows


def measure_blocks(effort: Effort, isas: list[str]) -> dict[str, Any]:
    """The sections about scales for each block."""
    from piquant_bench import block_peers, blocks, machine  # noqa: PLC0415

    description = machine.describe()
    cells = blocks.measure(effort, isas)
    peers, absent = block_peers.measure(effort)
    rows = {name: [asdict(row) for row in section] for name, section in (("blocks", cells), ("block_peers", peers))}
    return description | {"effort": asdict(effort), "absent_peers": absent} | rows


def _check() -> int:
    from piquant_bench.check import checks, judge  # noqa: PLC0415

    failed = 0
    for verdict in judge(checks()):
        print(verdict, flush=True)
        failed += not verdict.passed
    print(f"{failed} too slow" if failed else "all within their limits")
    return 1 if failed else 0
