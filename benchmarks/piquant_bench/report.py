"""The results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from piquant_bench.blocks import IN_MEMORY
from piquant_bench.cells import FLOATS, TARGETS, Cell, geometric_mean
from piquant_bench.network import rate_text

Row: TypeAlias = dict[str, Any]


def text(results: dict[str, Any]) -> str:
    """All sections."""
    sections = (_machine, _efficiency, _stochastic, _peers, _small_calls, _inside_program, _beside_busy, _costs, _curve)
    return "\n\n".join(part for section in sections for part in section(results))


def blocks_text(results: dict[str, Any]) -> str:
    """The sections about scales for each block."""
    return "\n\n".join(part for section in (_machine, _blocks, _block_peers) for part in section(results))


def links_text(results: dict[str, Any]) -> str:
    """All-reduces over links."""
    return "\n\n".join([*_machine(results), *link_tables(results["links"])])


def groups(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some of their columns, in the order of appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def cell_of(row: Row) -> Cell:
    """The cell that a row is about."""
    return Cell(row["operation"], row["real"], row["code"])


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 999.5 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def threads_of(n: int) -> str:
    """A number of threads in words."""
    return "1 thread" if n == 1 else f"{n} threads"


def ratio_of(row: Row, key: str = "ratio") -> str:
    """A ratio, with a mark where it is noise."""
    return f"{'~' if row['noisy'] else ''}{row[key]:.2f}"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]).rstrip()

    return "\n".join([title, line(header), line(["-" * w for w in widths]), *map(line, rows)])


def _machine(results: dict[str, Any]) -> list[str]:
    m = results["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in m["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    memory = "unknown" if m["memory_bytes"] is None else f"{m['memory_bytes'] / 2**30:.0f} GiB"
    load = "unknown" if m["load_average"] is None else f"{m['load_average']:.2f}"
    return [
        f"{m['cpu']}, {m['usable_cores']} of {m['cores']} cores, {threads_of(m['threads'])}, {m['isa']}\n"
        f"caches {caches}; memory {memory}; {m['kernel']}; load {load}\n"
        f"{versions}; commit {results['commit'] or 'unknown'}\n"
        "~ marks noise: ratios of which the first and the second half of the rounds differ by more than 1.15 times"
    ]


def _efficiency(results: dict[str, Any]) -> list[str]:
    tables = []
    for (isa, n, threads), rows in groups(results["efficiency"], "isa", "elements", "threads").items():
        values = {(r["operation"], r["real"], r["code"]): ratio_of(r, "efficiency") for r in rows}
        lines = [
            [f"{operation} {real}", *(values.get((operation, real, code), "") for code in TARGETS)]
            for operation, real in groups(sorted(rows, key=matrix_order), "operation", "real")
        ]
        worst = min(rows, key=lambda r: r["efficiency"])
        mean = geometric_mean([r["efficiency"] for r in rows])
        title = f"Efficiency (1 is the speed of memory): {isa}, {n:,} elements, {threads_of(threads)}"
        tables.append(
            table(title, ["", *TARGETS], lines)
            + f"\ngeometric mean {mean:.2f}, least {worst['efficiency']:.2f} ({cell_of(worst)})"
        )
    return tables


def matrix_order(row: Row) -> tuple[int, int]:
    """Sorts the lines of a matrix: by operation, then by float type."""
    return ("quantize", "stochastic", "dequantize", "add", "params").index(row["operation"]), FLOATS.index(row["real"])


def _stochastic(results: dict[str, Any]) -> list[str]:
    tables = []
    for (isa, n, threads), rows in groups(results["stochastic"], "isa", "elements", "threads").items():
        values = {(r["real"], r["code"]): ratio_of(r) for r in rows}
        lines = [[real, *(values.get((real, code), "") for code in TARGETS)] for real in FLOATS]
        title = f"Time of stochastic rounding / time of nearest: {isa}, {n:,} elements, {threads_of(threads)}"
        tables.append(table(title, ["", *TARGETS], lines))
    return tables


def _peers(results: dict[str, Any]) -> list[str]:
    tables = [
        table(
            f"{task}, {n:,} elements, {threads_of(results['machine']['threads'])}",
            ["library", "time", "GB/s", "time / ours"],
            [
                [r["library"], duration(r["seconds"]), f"{r['gb_per_second']:.3g}", ratio_of(r)]
                for r in sorted(rows, key=lambda r: float(r["seconds"]))
            ],
        )
        for (task, n), rows in groups(results["peers"], "task", "elements").items()
    ]
    return [*tables, *_absent(results)]


def _absent(results: dict[str, Any]) -> list[str]:
    absent = results["absent_peers"].items()
    return ["\n".join(f"absent: {name}: {reason}" for name, reason in absent)] if absent else []


def _blocks(results: dict[str, Any]) -> list[str]:
    tables = []
    for (isa, place, n, threads), rows in groups(results["blocks"], "isa", "place", "elements", "threads").items():
        from_memory = place == IN_MEMORY
        key = "efficiency" if from_memory else "over_tensor"
        what = "Efficiency (1 is the speed of memory)" if from_memory else "Time / time with one scale"
        lines = [
            [
                f"{r['title']}, {r['blocks']}", ratio_of(r, key),
                *([f"{r['tensor_efficiency']:.2f}", f"{r['efficiency'] / r['tensor_efficiency']:.2f}"] * from_memory),
                *_bar(r, "least" if from_memory else "most"),
            ]
            for r in rows
        ]  # fmt: skip
        header = ["", "blocks", *(["one scale", "blocks / one scale"] * from_memory), "bar", ""]
        title = f"{what}: scales for blocks, {place}, {isa}, {n:,} elements, {threads_of(threads)}"
        tables.append(table(title, header, lines) + f"\n{_met(rows)}")
    return tables


def _block_peers(results: dict[str, Any]) -> list[str]:
    tables = [
        table(
            f"{task}, {n:,} elements, {threads_of(results['machine']['threads'])}",
            ["library", "time", "time / ours", "bar", ""],
            [
                [r["library"], duration(r["seconds"]), ratio_of(r), *_bar(r, "least")]
                for r in sorted(rows, key=lambda r: float(r["seconds"]))
            ],
        )
        for (task, n), rows in groups(results["block_peers"], "task", "elements").items()
    ]
    return [*tables, _met(results["block_peers"]), *_absent(results)]


def _bar(row: Row, kind: str) -> list[str]:
    """A bar, and whether it is met."""
    return ["", ""] if row["bar"] is None else [f"{kind} {row['bar']:.2f}", "met" if row["met"] else "MISSED"]


def _met(rows: Sequence[Row]) -> str:
    judged = [r["met"] for r in rows if r["met"] is not None]
    return f"{sum(judged)} of {len(judged)} bars met"


def _small_calls(results: dict[str, Any]) -> list[str]:
    return [
        table(
            f"Calls: {group}",
            ["call", "elements", "time", "time / first"],
            [[r["call"], f"{r['elements']:,}", duration(r["seconds"]), ratio_of(r)] for r in rows],
        )
        for (group,), rows in groups(results["small_calls"], "group").items()
    ]


def _inside_program(results: dict[str, Any]) -> list[str]:
    tables = []
    for (task,), rows in groups(results["inside_program"], "task").items():
        cells = {(r["elements"], r["state"], r["library"]): r for r in rows}
        states = list(dict.fromkeys(r["state"] for r in rows))
        lines = []
        for (n,) in groups(rows, "elements"):
            ours = [cells[n, state, "piquant"] for state in states]
            torchs = [cells[n, state, "torch"] for state in states]
            lines.append([
                f"{n:,}",
                *(duration(row["seconds"]) for row in (*ours, *torchs)),
                *(ratio_of(row) for row in ours),
            ])  # fmt: skip
        heads = [f"{what} {state}" for what in ("piquant", "torch", "ratio") for state in states]
        title = f"Inside a torch program: {task}; in a loop, directly after another operation, after a rest of 5 ms"
        tables.append(table(title, ["elements", *heads], lines))
    return tables


def _beside_busy(results: dict[str, Any]) -> list[str]:
    rows = results["beside_busy"]
    if not rows:
        return []
    lines = [[r["call"], duration(r["seconds"]), duration(r["slowest_tenth"]), ratio_of(r)] for r in rows]
    title = f"Beside a process that is busy on one processor: float32 -> uint8, {rows[0]['elements']:,} elements"
    return [table(title, ["call", "time", "slowest tenth", "time / 1 thread"], lines)]


def _costs(results: dict[str, Any]) -> list[str]:
    c = results["costs"]
    rows = results["predictions"]
    counts = [threads for (threads,) in groups(rows, "threads")]
    cells = {(r["elements"], r["state"], r["threads"]): r for r in rows}
    lines = []
    for n, state in groups(rows, "elements", "state"):
        line = [cells[n, state, t] for t in counts]
        measured = next(r["measured"] for r in line if r["measured"] is not None)
        lines.append([f"{n:,}, {state}", duration(measured), *(duration(r["seconds"]) for r in line)])
    here = results["machine"]["threads"]
    constants = (
        f"a call {duration(c['call'])}, a thread that is awake {duration(c['hand_off'])}, "
        f"waking one {duration(c['wake'])}, its arrival {duration(c['arrival'])}; "
        f"bytes a thread moves: {c['cached'] / 1e9:.3g} GB/s from caches, "
        f"{c['rested'] / 1e9:.3g} after a rest, {c['memory'] / 1e9:.3g} from memory"
    )
    title = "Costs of float32 -> uint8 by the model of docs/performance.md, if memory grows with the processors"
    header = ["elements", f"measured, {threads_of(here)}", *(threads_of(t) for t in counts)]
    return [table(title, header, lines) + "\n" + constants]


def _curve(results: dict[str, Any]) -> list[str]:
    columns = groups(results["curve"], "operation", "real", "code", "threads")
    header = [f"{cell_of(rows[0])}, {threads_of(rows[0]['threads'])}" for rows in columns.values()]
    cells = [[_cost(row) for row in rows] for rows in columns.values()]
    sizes = [f"2^{row['elements'].bit_length() - 1}" for row in next(iter(columns.values()))]
    # The headers are long: number the columns, and list them below.
    marks = [f"({i + 1})" for i in range(len(header))]
    lines = [list(line) for line in zip(sizes, *cells, strict=True)]
    legend = "\n".join(f"{mark} {name}" for mark, name in zip(marks, header, strict=True))
    title = "ns per element (efficiency); ! costs more than 1.25 times the worse neighbour"
    return [table(title, ["elements", *marks], lines) + "\n" + legend]


def _cost(row: Row) -> str:
    return f"{'! ' if row['cliff'] else ''}{row['ns_per_element']:.3g} ({ratio_of(row, 'efficiency')})"


def link_of(row: Row) -> str:
    """The link of a row, and its ranks, in words."""
    delay = f", round trip {row['delay']:g} ms" if row["delay"] else ""
    return f"{rate_text(row['rate'])}{delay}, {row['ranks']} ranks"


def link_tables(rows: list[Row]) -> list[str]:
    """A table for each link."""
    header = ["", "seconds", "/ float32's", "wire alone", "share of it", "MB sent", "/ model", "error"]
    return [
        table(
            f"{link_of(of_link[0])}, {of_link[0]['elements']:,} elements, median of {of_link[0]['repetitions']}"
            + (f", delayed by {of_link[0]['delayed_by']}" if of_link[0]["delay"] else ""),
            header,
            [
                [
                    r["method"], duration(r["seconds"]), ratio_of(r), duration(r["ideal"]) if r["ideal"] else "",
                    f"{r['share']:.2f}" if r["share"] else "", f"{r['sent'] / 1e6:.4g}",
                    f"{r['sent'] / r['model']:.3f}", f"{r['error']:.1e}",
                ]
                for r in of_link
            ],
        )
        for of_link in groups(rows, "ranks", "delay", "rate", "elements").values()
    ]  # fmt: skip
