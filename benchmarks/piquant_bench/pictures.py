"""The results as pictures, each as PNG and as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from piquant_bench import wire
from piquant_bench.blocks import CODES, CUTS, IN_CACHE, IN_MEMORY
from piquant_bench.cells import TARGETS
from piquant_bench.libraries import DEQUANTIZE, MEMORY, OURS, QUANTIZE
from piquant_bench.report import Row, cell_of, duration, groups, matrix_order, ratio_of, threads_of
from piquant_bench.style import INK, OURS_COLOR, PEER_COLOR, STYLE

if TYPE_CHECKING:
    from pathlib import Path

_OVER_LINES: Final[dict[str, Any]] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def draw(results: dict[str, Any], directory: Path) -> list[str]:
    """Draws everything into a directory and returns the names of the files."""
    with matplotlib.rc_context(STYLE):
        figures = {
            "quantize": _bars(results, str(QUANTIZE.cell)),
            "dequantize": _bars(results, str(DEQUANTIZE.cell)),
            "curve": _curve(results),
        }
        if results["inside_program"]:
            figures["inside-program"] = _inside_program(results)
        for (isa,), rows in groups(results["efficiency"], "isa").items():
            figures[f"efficiency-{isa}"] = _heat(rows, isa)
        return _write(figures, directory)


def draw_blocks(results: dict[str, Any], directory: Path) -> list[str]:
    """Draws what is about scales for each block."""
    with matplotlib.rc_context(STYLE):
        figures = {f"blocks-{isa}": _blocks(rows) for (isa,), rows in groups(results["blocks"], "isa").items()}
        peers = [r for r in results["block_peers"] if r["library"] != OURS]
        if peers:
            figures["blocks-peers"] = _block_peers(results["machine"], peers)
        return _write(figures, directory)


def draw_links(rows: list[Row], path: Path) -> None:
    """Draws what all-reduces gain over float32 by the speed of links, to a file of the kind that its name ends with."""
    with matplotlib.rc_context(STYLE):
        _links(rows).savefig(path, dpi=150)


def _write(figures: dict[str, Figure], directory: Path) -> list[str]:
    names = []
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            figure.savefig(directory / f"{name}.{suffix}", dpi=150)
            names.append(f"{name}.{suffix}")
    return names


def _bars(results: dict[str, Any], task: str) -> Figure:
    """Libraries by speed, fastest on top, with the speed of memory as a line."""
    same = [r for r in results["peers"] if r["task"] == task]
    n = max(r["elements"] for r in same)
    rows = {r["library"]: r for r in same if r["elements"] == n}
    memory = rows.pop(MEMORY)["gb_per_second"]
    bars = sorted(rows.values(), key=lambda r: -float(r["seconds"]))
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(bars)), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [r["library"] for r in bars],
        [r["gb_per_second"] for r in bars],
        color=[OURS_COLOR if r["library"].startswith(OURS) else PEER_COLOR for r in bars],
        height=0.68,
    )
    for y, r in enumerate(bars):
        comparison = "" if r["library"] == OURS else f"  ({ratio_of(r)} times ours)"
        label = f"{duration(r['seconds'])}{comparison}"
        axes.annotate(
            label, (r["gb_per_second"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9,
            bbox=_OVER_LINES,
        )  # fmt: skip
    for tick, r in zip(axes.get_yticklabels(), bars, strict=True):
        tick.set_fontweight("bold" if r["library"] == OURS else "normal")
    axes.axvline(memory, color=INK, linestyle="--", linewidth=1, zorder=0)
    axes.text(memory, len(bars) - 0.45, "same traffic, no arithmetic ", ha="right", va="bottom", fontsize=9)
    axes.set_xlim(0, 1.45 * max(memory, *(r["gb_per_second"] for r in bars)))
    axes.set_ylim(-0.6, len(bars))
    axes.set_xlabel("GB/s read and written (higher is better)")
    machine = results["machine"]
    axes.set_title(f"{task}, {n:,} elements, {threads_of(machine['threads'])}\n{machine['cpu']}", loc="left")
    return figure


def _heat(rows: list[Row], isa: str) -> Figure:
    """The efficiency matrices of one instruction set, side by side."""
    matrices = groups(rows, "elements", "threads")
    lines = list(groups(sorted(rows, key=matrix_order), "operation", "real"))
    figure = Figure(figsize=(1.8 + 5.6 * len(matrices), 1.8 + 0.34 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for axes, ((n, threads), cells) in zip(panels, matrices.items(), strict=True):
        places = {(lines.index((c["operation"], c["real"])), TARGETS.index(c["code"])): c for c in cells}
        values = np.full((len(lines), len(TARGETS)), np.nan)
        for place, cell in places.items():
            values[place] = cell["efficiency"]
        image = axes.imshow(values, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        for (y, x), cell in places.items():
            label, ink = ratio_of(cell, "efficiency"), _ink_on(cell["efficiency"])
            axes.text(x, y, label, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(TARGETS)), TARGETS)
        axes.set_yticks(range(len(lines)), [f"{operation} {real}" for operation, real in lines])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{n:,} elements, {threads_of(threads)}", loc="left")
    figure.colorbar(image, ax=list(panels), label="efficiency: time of the traffic alone / time of the kernel")
    figure.suptitle(f"Efficiency on {isa}: 1 is the speed of memory, ~ is noise")
    return figure


def _inside_program(results: dict[str, Any]) -> Figure:
    """Time over torch's, of each task, size and state: bars below the line are faster than torch."""
    rows = [r for r in results["inside_program"] if r["library"] == OURS]
    tasks = groups(rows, "task")
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False).ravel()
    names = {"loop": "in a loop", "after": "directly after another operation", "rest": "after a rest of 5 ms"}
    for axes, ((task,), of_task) in zip(panels, tasks.items(), strict=True):
        states = groups(of_task, "state")
        for i, ((state,), points) in enumerate(states.items()):
            places = [k + (i - 1) * 0.27 for k in range(len(points))]
            axes.bar(
                places, [p["ratio"] for p in points], width=0.24, color=("#f0b7bd", OURS_COLOR, "#8c2f3b")[i],
                label=names[state],
            )  # fmt: skip
            for x, p in zip(places, points, strict=True):
                axes.annotate(
                    ratio_of(p), (x, p["ratio"]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7
                )
        axes.set_xticks(range(len(points)), [f"{p['elements']:,}" for p in points], fontsize=8)
        axes.axhline(1, color=INK, linestyle="--", linewidth=1)
        axes.set_title(task, loc="left")
    panels[0].set_ylabel("time / time of torch's function")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"Inside a torch program (lower is better, below the line is faster than torch). {results['machine']['cpu']}, "
        f"{threads_of(results['machine']['threads'])}"
    )
    return figure


def _ink_on(value: float) -> str:
    """The color of text that is readable on the color of an efficiency."""
    return "white" if value > 0.85 or value < 0.15 else INK


def _curve(results: dict[str, Any]) -> Figure:
    """Cost per element of each operation, and of its traffic alone."""
    cells = groups(results["curve"], "operation", "real", "code")
    figure = Figure(figsize=(11, 3.4 * ((len(cells) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(cells) + 1) // 2, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, rows in zip(panels, cells.values(), strict=False):
        for ((threads,), points), color in zip(groups(rows, "threads").items(), (OURS_COLOR, "#30638e"), strict=False):
            sizes = [p["elements"] for p in points]
            axes.loglog(sizes, [p["ns_per_element"] for p in points], color=color, label=threads_of(threads), base=2)
            axes.loglog(
                sizes, [p["twin_ns_per_element"] for p in points], color=color, linestyle=":", linewidth=1,
                label=f"{threads_of(threads)}, traffic alone", base=2,
            )  # fmt: skip
            cliffs = [p for p in points if p["cliff"]]
            axes.plot(
                [p["elements"] for p in cliffs], [p["ns_per_element"] for p in cliffs],
                "o", markersize=9, markerfacecolor="none", color=color,
            )  # fmt: skip
        axes.set_title(str(cell_of(rows[0])), loc="left")
        axes.set_yscale("log", base=10)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=9, frameon=False)
    figure.supxlabel("elements")
    figure.supylabel("ns per element (lower is better)")
    figure.suptitle(f"Cost per element; circles mark cliffs. {results['machine']['cpu']}, {results['machine']['isa']}")
    return figure


_FLOAT_COLORS: Final = {"float32": OURS_COLOR, "float16": "#30638e", "bfloat16": "#edae49"}
_CODE_MARKERS: Final = dict(zip(CODES, "os", strict=True))


def _blocks(rows: list[Row]) -> Figure:
    """By blocks: efficiency from memory, and below it the time from the cache over that with one scale."""
    of_operations = groups(rows, "operation")
    present = [groups(of_operation, "blocks") for of_operation in of_operations.values()]
    labels = [[str(cut) for cut in CUTS if (str(cut),) in names] for names in present]
    figure = Figure(figsize=(18, 8), layout="constrained")
    grid = figure.subplots(2, len(labels), sharey="row", width_ratios=[len(names) + 1 for names in labels])
    for line, (place, key) in zip(grid, ((IN_MEMORY, "efficiency"), (IN_CACHE, "over_tensor")), strict=True):
        for axes, ((operation,), of_operation), names in zip(line, of_operations.items(), labels, strict=True):
            _block_lines(axes, [r for r in of_operation if r["place"] == place], key, names)
            axes.set_title(f"dynamic, {operation}" if "symmetric" in operation else operation, loc="left")
            axes.axhline(1, color=INK, linestyle="--", linewidth=1, zorder=0)
    grid[0][0].set_ylim(0, 1.4)  # beyond is noise
    memory, cache = (next(r for r in rows if r["place"] == place) for place in (IN_MEMORY, IN_CACHE))
    grid[0][0].set_ylabel(f"efficiency: time of the traffic alone / time\n{_where(memory)} (higher is better)")
    grid[1][0].set_ylabel(f"time / time with one scale\n{_where(cache)} (lower is better)")
    grid[1][0].set_yscale("log", base=2)
    grid[1][0].yaxis.set_major_formatter("{x:g}")
    handles = [
        Line2D([], [], color=color, marker=marker, label=f"{real}, {code}")
        for real, color in _FLOAT_COLORS.items()
        for code, marker in _CODE_MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"Scales for blocks on {rows[0]['isa']}: dashes are bars, and marks that miss theirs are hollow")
    return figure


def _block_lines(axes: Any, rows: list[Row], key: str, names: list[str]) -> None:
    """A line for each operation and its types, through the sizes of groups, and single marks for other blocks."""
    for (real, code), points in groups(rows, "real", "code").items():
        color, marker = _FLOAT_COLORS[real], _CODE_MARKERS[code]
        by_size = [p for p in points if p["blocks"].isdigit()]
        axes.plot([names.index(p["blocks"]) for p in by_size], [p[key] for p in by_size], color=color, linewidth=1)
        for p in points:
            x, face = names.index(p["blocks"]), "white" if p["met"] is False else color
            axes.plot(x, p[key], marker, color=color, markerfacecolor=face, markersize=5)
            if p["bar"] is not None:
                axes.plot(x, p["bar"], "_", color=INK, markersize=12)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")


def _where(row: Row) -> str:
    return f"{row['elements']:,} elements, {threads_of(row['threads'])}"


def _block_peers(machine: dict[str, Any], peers: list[Row]) -> Figure:
    """What others take over what we take, by task."""
    sizes = groups(peers, "elements")
    lines = list(groups(peers, "task", "library"))
    figure = Figure(figsize=(14, 1.8 + 0.36 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axes, ((n,), rows) in zip(panels, sizes.items(), strict=True):
        places = [lines.index((r["task"], r["library"])) for r in rows]
        axes.barh(places, [r["ratio"] for r in rows], color=PEER_COLOR, height=0.68)
        for y, r in zip(places, rows, strict=True):
            axes.annotate(
                ratio_of(r), (r["ratio"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9,
                bbox=_OVER_LINES,
            )  # fmt: skip
            if r["bar"] is not None:
                axes.plot(r["bar"], y, "|", color=INK, markersize=14)
        axes.axvline(1, color=OURS_COLOR, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set_title(f"{n:,} elements", loc="left")
        axes.set_xlabel("time / ours (right of the dashed line: slower than ours)")
    panels[0].set_yticks(range(len(lines)), [f"{library}: {task}" for task, library in lines])
    panels[0].invert_yaxis()
    figure.suptitle(
        f"Scales for blocks in other libraries; ticks are bars. {machine['cpu']}, {threads_of(machine['threads'])}"
    )
    return figure


_METHOD_COLORS: Final = {
    "float16": "#8d99ae", "bfloat16": "#30638e", "torch hook": "#edae49", "int8": OURS_COLOR, "int4": "#8c2f3b",
}  # fmt: skip
_RATES: Final = [10 ** (power / 20) for power in range(155, 206)]  # 56 Mbit/s to 18 Gbit/s


def _links(rows: list[Row]) -> Figure:
    """By ranks: marks are measured, lines follow the model, from what links without limit were seen to take."""
    panels_of = groups([r for r in rows if not r["delay"]], "ranks")
    figure = Figure(figsize=(1 + 4.5 * len(panels_of), 3.8), layout="constrained")
    panels = figure.subplots(1, len(panels_of), sharey=True, squeeze=False)[0]
    for axes, ((ranks,), of_ranks) in zip(panels, panels_of.items(), strict=True):
        methods = groups(of_ranks, "method")
        for method, color in _METHOD_COLORS.items():
            points = [r for r in methods.get((method,), []) if r["rate"]]
            speeds = [r["rate"] for r in points]
            axes.plot(speeds, [1 / r["ratio"] for r in points], "o", color=color, markersize=5, label=method)
            if line := wire.gains(method, of_ranks, _RATES):
                axes.plot(_RATES, line, color=color, linewidth=1)
        axes.axhline(1, color=INK, linestyle="--", linewidth=1, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks([1e8, 1e9, 1e10], ["100 Mbit/s", "1 Gbit/s", "10 Gbit/s"])
        axes.set_title(f"{ranks} ranks", loc="left")
    panels[0].set_yscale("log", base=2)
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("times as fast as float32")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure
